"""The coordinator's public side: TLS, and of Flower nothing but what its nodes need.

Whoever reaches Flower's own port may start runs and read logs, TLS and node authentication or not.
So that port stays on this machine, and this gate passes on what a registered node has signed.
"""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from aiohttp import (
    ClientError,
    ClientSession,
    ClientTimeout,
    TCPConnector,
    web,
)

from budget.errors import BudgetError, ShareExceeded
from budget.in_flight import Hold, InFlight
from federation.deployment.node_keys import NodeKeys
from federation.deployment.shut_out import REVOKED_NODE
from federation.deployment.signed_calls import Refusal, SignedCalls, fits

logger = logging.getLogger(__name__)

FLEET: Final = "/v1/fleet/"
CALLS: Final = frozenset(
    {
        "activate-node",
        "deactivate-node",
        "send-node-heartbeat",
        "pull-messages",
        "push-messages",
        "get-run",
        "get-fab",
        "push-object",
        "pull-object",
        "confirm-message-received",
    }
)
"""What a node calls; to register itself is not among it."""
DROPPED_HEADERS: Final = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "content-encoding", "te"}
)
SHUTDOWN_S: Final = 1.0
UNKNOWN_NODE: Final = 100_001
"""Flower prints errors of this form to the node's operator; the number is none of its own."""
DETAILS: Final = {
    Refusal.STRANGER: "The coordinator does not know this node's key: have its operator add the "
    "public key to the folder of nodes, and check this machine's clock.",
    Refusal.REVOKED: "The coordinator's operator has shut this node out.",
    Refusal.OLD_NODE: "This node signs its calls as versions before this coordinator's did: "
    "install the coordinator's version of Waypost here.",
}


@dataclass(frozen=True, slots=True)
class GateLimits:
    """What one node may ask for.

    Attributes:
        max_body_bytes: Of one call; Flower sends arrays in pieces of 5 MiB.
        deadline_s: For one call, its body included.
        first_call_s: Who has connected and called nothing by then is hung up on.
        max_calls: At the same time, of all nodes together.
        max_calls_per_node: At the same time; a node of Flower makes a few.
        max_bytes: Of questions and answers that the gate holds at the same time. Each is held up
            to twice, while it is put together or passed on.
        max_bytes_per_node: The same, of one node.
    """

    max_body_bytes: int = 64 * 1024 * 1024
    deadline_s: float = 60.0
    first_call_s: float = 10.0
    max_calls: int = 64
    max_calls_per_node: int = 16
    max_bytes: int = 512 * 1024 * 1024
    max_bytes_per_node: int = 192 * 1024 * 1024

    @classmethod
    def of(cls, max_body_bytes: int) -> "GateLimits":
        """Leave room for some of the longest calls."""
        return cls(
            max_body_bytes, max_bytes=8 * max_body_bytes, max_bytes_per_node=3 * max_body_bytes
        )


@dataclass(frozen=True, slots=True)
class Gate:
    """Passes the calls of registered nodes on to Flower.

    Attributes:
        upstream: Flower's own address, such as ``https://127.0.0.1:8000``.
        authority: Who signed Flower's own certificate.
        keys: Returns who may come in, as things stand.
        clock: The time of day, against which signatures must be fresh.
    """

    upstream: str
    authority: Path
    keys: Callable[[], NodeKeys]
    clock: Callable[[], datetime]
    limits: GateLimits = GateLimits()

    @asynccontextmanager
    async def listen(
        self, host: str, port: int, certificate: Path, private_key: Path
    ) -> AsyncIterator[int]:
        """Serve while the context lasts; yields the port, which is free where `port` is 0.

        Raises:
            OSError: The address is taken, or a file cannot be read.
            ssl.SSLError: Certificate and key do not belong together.
        """
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate, private_key)
        async with self._session() as session:
            places = InFlight(self.limits.max_calls, self.limits.max_calls_per_node)
            memory = InFlight(self.limits.max_bytes, self.limits.max_bytes_per_node)
            calls = SignedCalls(self.clock())

            async def handle(request: web.BaseRequest) -> web.StreamResponse:
                admitted = self._admit(request, calls)
                if not isinstance(admitted, str):
                    return admitted
                place, held = places.hold(admitted), memory.hold(admitted)
                return await self._handle(request, session, place, held)

            server = _ImpatientServer(handle, self.limits.first_call_s)
            runner = web.ServerRunner(server, shutdown_timeout=SHUTDOWN_S)
            await runner.setup()
            try:
                site = web.TCPSite(runner, host, port, ssl_context=tls)
                await site.start()
                yield int(runner.addresses[0][1])
            finally:
                await runner.cleanup()

    def _session(self) -> ClientSession:
        trusted = ssl.create_default_context(cafile=self.authority)
        return ClientSession(
            connector=TCPConnector(ssl=trusted, limit=self.limits.max_calls),
            timeout=ClientTimeout(total=self.limits.deadline_s),
            auto_decompress=False,
        )

    def _admit(self, request: web.BaseRequest, calls: SignedCalls) -> str | web.Response:
        """Name the node that calls, or answer what is no node's call.

        This is before the body: a stranger gets to send none.
        """
        call = request.path.removeprefix(FLEET)
        if request.method != "POST" or not request.path.startswith(FLEET) or call not in CALLS:
            return _closing(web.Response(status=404))
        found = calls.admit(self.keys(), request.path, request.headers, self.clock())
        if not isinstance(found, Refusal):
            return found
        logger.warning("refused %s from %s: %s", call, request.remote, found.value)
        return _refusal(found)

    async def _handle(
        self,
        request: web.BaseRequest,
        session: ClientSession,
        place: Hold,
        memory: Hold,
    ) -> web.StreamResponse:
        with place, memory:
            try:
                place.grow(1)
            except BudgetError:
                return web.Response(status=503)
            return await self._pass_on_in_time(request, session, memory)

    async def _pass_on_in_time(
        self, request: web.BaseRequest, session: ClientSession, held: Hold
    ) -> web.Response:
        try:
            async with asyncio.timeout(self.limits.deadline_s):
                return await self._pass_on(request, session, held)
        except BudgetError as error:
            return _closing(web.Response(status=429 if isinstance(error, ShareExceeded) else 503))
        except TimeoutError:
            return web.Response(status=504)
        except ClientError:
            # Flower is being restarted; nodes try again after a 503.
            return web.Response(status=503)

    async def _pass_on(
        self, request: web.BaseRequest, session: ClientSession, held: Hold
    ) -> web.Response:
        if (request.content_length or 0) > self.limits.max_body_bytes:
            return _closing(web.Response(status=413))
        held.grow(request.content_length or 0)
        body = bytearray()
        async for piece in request.content.iter_any():
            body += piece
            if len(body) > self.limits.max_body_bytes:
                return _closing(web.Response(status=413))
            held.grow(len(body))
        if not fits(request.headers, body):
            return _refusal(Refusal.STRANGER)
        headers = [(name, value) for name, value in request.headers.items() if _is_passed(name)]
        async with session.post(
            f"{self.upstream}{request.path}", data=bytes(body), headers=headers
        ) as answer:
            content = bytearray()
            async for piece in answer.content.iter_any():
                content += piece
                held.grow(len(body) + len(content))
            passed = [(name, value) for name, value in answer.headers.items() if _is_passed(name)]
            return web.Response(body=bytes(content), status=answer.status, headers=passed)


class _ImpatientServer(web.Server):
    """Hangs up on whoever connects and asks nothing; aiohttp waits for a first call for ever.

    Between calls it hangs up after 75 s by itself.
    """

    def __init__(
        self,
        answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        first_call_s: float,
    ) -> None:
        self._silent: set[web.RequestHandler] = set()
        self._first_call_s = first_call_s

        async def hear(request: web.BaseRequest) -> web.StreamResponse:
            self._silent.discard(request.protocol)
            return await answer(request)

        super().__init__(hear, access_log=None)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Give a new caller its time."""
        super().connection_made(handler, transport)
        self._silent.add(handler)
        loop = asyncio.get_running_loop()
        loop.call_later(self._first_call_s, self._hang_up, handler, transport)

    def _hang_up(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        if handler in self._silent:
            self._silent.discard(handler)
            transport.abort()


def _is_passed(header: str) -> bool:
    return header.lower() not in DROPPED_HEADERS


def _closing(response: web.Response) -> web.Response:
    """Hang up after the answer: who is no node does not keep a connection."""
    response.force_close()
    return response


def _refusal(reason: Refusal) -> web.Response:
    # A node tries again after a 503, with a new signature.
    if reason in {Refusal.REPEATED, Refusal.TOO_MANY}:
        return _closing(web.Response(status=503))
    code = REVOKED_NODE if reason is Refusal.REVOKED else UNKNOWN_NODE
    answer = web.json_response({"code": code, "detail": DETAILS[reason]}, status=404)
    return _closing(answer)
