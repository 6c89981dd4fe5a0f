"""Endpoints whose calls are no turns: models of other kinds, and what an operator passes through.

Plain ASGI, as turns are: the key is checked before the body is read, and no answer is written anew.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.routing import Route

from budget.errors import BudgetError
from budget.in_flight import InFlight
from gateway.access.auth import Authenticator
from gateway.endpoints.access import ENDPOINT_OF_SCOPE, OTHER, PASSTHROUGH, endpoint_of, tell, watch
from gateway.endpoints.asgi import (
    JSON,
    ClientLeft,
    LeavingClient,
    Receive,
    Scope,
    Send,
    read_body,
    send_rendered,
    take_opaque,
)
from gateway.endpoints.azure_paths import DEPLOYMENT_OF_SCOPE
from gateway.endpoints.chat import SSE_HEADERS
from gateway.errors import GatewayError, NotFound, render
from gateway.forwarding.call import Call
from gateway.forwarding.model_endpoints import MODEL_ENDPOINTS, ModelCalls, ModelEndpoint
from gateway.forwarding.multipart import is_multipart
from gateway.forwarding.passthrough import Passthrough
from gateway.forwarding.service import ForwardedAnswer, ForwardService
from gateway.long_work import LongWork
from gateway.pool.pool import Pool
from gateway.providers.base import Transit
from gateway.settings.config import ConfigurationError, GatewaySettings
from gateway.settings.server import ServerSettings
from gateway.types import Caller

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Forwarder:
    """What all these endpoints share.

    Attributes:
        memory: Shared by the bodies of all requests under way.
        long_work: Shared by all that read long bodies and answers.
    """

    service: ForwardService
    authenticator: Authenticator
    server: ServerSettings
    memory: InFlight
    long_work: LongWork

    async def serve(
        self, endpoint: "ForwardEndpoint", scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Serve one request; every error leaves in OpenAI's shape."""
        watched = watch(send)
        try:
            await self._serve(endpoint, scope, receive, watched)
        except ClientLeft:
            return
        except (GatewayError, BudgetError) as error:
            tell(scope, error=error)
            if watched.status is None:
                await send_rendered(send, render(error))
            # Else the body is not ended: the server closes the connection, so that nobody takes
            # what came for all of it.
        except Exception as error:
            _log.exception("a forwarded request failed for an unexpected reason")
            if watched.status is not None:
                raise
            tell(scope, error=error)
            await send_rendered(send, render(error))

    async def _serve(
        self, endpoint: "ForwardEndpoint", scope: Scope, receive: Receive, send: Send
    ) -> None:
        headers = dict(scope["headers"])
        caller = await self.authenticator.caller(headers)
        tell(scope, caller=caller)
        endpoint.admit(caller)
        with self.memory.hold(caller.key_id) as held:
            take = take_opaque if is_multipart(headers.get(b"content-type", b"")) else None
            limit = self.server.max_body_bytes
            body = await read_body(headers, receive, limit, held, self.long_work, take)
            call = await endpoint.prepare(scope, body, headers, caller)
            del body
            await self._answer(call, caller, Transit(held), receive, send)

    async def _answer(
        self, call: Call, caller: Caller, transit: Transit, receive: Receive, send: Send
    ) -> None:
        is_stream = call.form == "events"
        grace_s = self.server.abandoned_stream_s if is_stream else self.server.abandoned_json_s
        begun: list[ForwardedAnswer] = []

        def is_worth_waiting() -> bool:
            """Whether the call is upstream, and nothing is known of what it costs."""
            return transit.is_upstream and not begun

        async with (
            LeavingClient(receive, grace_s, is_worth_waiting),
            self.service.answer(call, caller, transit) as answer,
        ):
            begun.append(answer)
            await _stream(answer, send)
        # Settled by now. The end is sent where nobody listens for the caller to leave: the server
        # reports it as gone once the response is complete.
        if answer.whole is not None:
            await send(_start(answer))
        await send({"type": "http.response.body", "body": answer.whole or b""})


class ForwardEndpoint(ABC):
    """One endpoint: who may use it, and what call a request of it is."""

    authentication = "key"

    def __init__(self, forwarder: Forwarder) -> None:
        """Take what all endpoints share."""
        self._forwarder = forwarder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        await self._forwarder.serve(self, scope, receive, send)

    def admit(self, caller: Caller) -> None:
        """Refuse a caller that may not use it, before its body is read; most admit every key."""
        del caller

    @abstractmethod
    async def prepare(
        self, scope: Scope, body: bytes, headers: Mapping[bytes, bytes], caller: Caller
    ) -> Call:
        """Check a request, and bound what it may cost."""
        ...


class OfModels(ForwardEndpoint):
    """An endpoint of the table of models' endpoints."""

    def __init__(self, forwarder: Forwarder, endpoint: ModelEndpoint, calls: ModelCalls) -> None:
        """Take a row of the table."""
        super().__init__(forwarder)
        self._endpoint = endpoint
        self._calls = calls

    async def prepare(
        self, scope: Scope, body: bytes, headers: Mapping[bytes, bytes], caller: Caller
    ) -> Call:
        """Check a request, and bound what it may cost."""
        named = scope.get(DEPLOYMENT_OF_SCOPE)
        return await self._calls.prepare(self._endpoint, body, headers, caller, named)


class PassedThrough(ForwardEndpoint):
    """An endpoint of a provider that its operator allows."""

    def __init__(self, forwarder: Forwarder, passthrough: Passthrough) -> None:
        """Take an entry of the settings."""
        super().__init__(forwarder)
        self.passthrough = passthrough

    def admit(self, caller: Caller) -> None:
        """Refuse a caller whose team may not use it."""
        self.passthrough.admit(caller)

    async def prepare(
        self, scope: Scope, body: bytes, headers: Mapping[bytes, bytes], caller: Caller
    ) -> Call:
        """Check a request, and say what it may cost.

        Raises:
            NotFound: Its path is spelled in another way than it is allowed.
        """
        path, raw_path = scope["path"], scope.get("raw_path")
        is_plain = raw_path is None or raw_path.partition(b"?")[0] == path.encode()
        if not is_plain or not self.passthrough.matches(path):
            raise NotFound("No endpoint has this path.")
        query, prepare = scope.get("query_string", b""), self.passthrough.prepare
        read = self._forwarder.long_work.read
        return await read(len(body), prepare, path, body, headers, query, caller)


@dataclass(frozen=True, slots=True)
class ForwardedPaths:
    """Finds the endpoint of a path.

    Attributes:
        of_models: By path, where POST is served.
        passed: Those that an operator allows.
    """

    of_models: Mapping[str, OfModels]
    passed: tuple[PassedThrough, ...]

    def find(self, scope: Scope) -> ForwardEndpoint | None:
        """Return what serves a request; None where nothing does."""
        path, method = scope["path"], scope["method"]
        if method == "POST" and path in self.of_models:
            return self.of_models[path]
        for endpoint in self.passed:
            known = endpoint.passthrough
            if known.method == method and known.matches(path):
                scope[ENDPOINT_OF_SCOPE] = PASSTHROUGH
                return endpoint
        return None

    def routes(self) -> list[Route]:
        """List them for the table of routes, which knows the methods of each path."""
        return [
            *(Route(path, one, methods=["POST"]) for path, one in self.of_models.items()),
            *(
                Route(one.passthrough.path, one, methods=[one.passthrough.method])
                for one in self.passed
            ),
        ]


NO_CALLS = ForwardedPaths({}, ())


async def _stream(answer: ForwardedAnswer, send: Send) -> None:
    """Send an answer that comes in pieces, but for its end."""
    if answer.pieces is None:
        return
    await send(_start(answer))
    async for piece in answer.pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})


def _start(answer: ForwardedAnswer) -> dict[str, Any]:
    """Begin a response. Of the provider's headers only the content's type passes."""
    headers: Iterable[tuple[bytes, bytes]]
    if answer.whole is not None:
        headers = (JSON, (b"content-length", str(len(answer.whole)).encode()))
    elif answer.content_type.startswith("text/event-stream"):
        headers = SSE_HEADERS
    else:
        headers = ((b"content-type", answer.content_type.encode("latin-1", "replace")),)
    return {
        "type": "http.response.start",
        "status": answer.status,
        "headers": [*headers, *answer.headers],
    }


def forwarded_paths(forwarder: Forwarder, settings: GatewaySettings, pool: Pool) -> ForwardedPaths:
    """Make the endpoints of models of other kinds, and those that the settings allow.

    Raises:
        ConfigurationError: The gateway serves such a path itself.
    """
    for name, table in settings.passthrough.items():
        if endpoint_of(table.path) != OTHER:
            raise ConfigurationError(
                f"passthrough.{name}.path: the gateway serves {table.path} itself"
            )
    calls = ModelCalls(
        chat_models=pool.models,
        other_models=pool.others,
        profiles=settings.all_profiles,
        default_profile=settings.routing.default_profile,
        kinds={name: provider.api for name, provider in pool.providers.items()},
        bound_prompt=forwarder.service.counter.bound,
        long_work=forwarder.long_work,
    )
    passthroughs = (
        Passthrough(name, table, frozenset(pool.providers[table.provider].attributes))
        for name, table in settings.passthrough.items()
    )
    return ForwardedPaths(
        {f"/v1{row.path}": OfModels(forwarder, row, calls) for row in MODEL_ENDPOINTS},
        tuple(PassedThrough(forwarder, one) for one in passthroughs),
    )
