"""Asks who sends a request before its body is read, and bounds the body and what is in it.

FastAPI reads the whole body of a request, of any length, before it asks its dependencies.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from budget.errors import BudgetError
from budget.in_flight import InFlight
from gateway.endpoints.access import tell
from gateway.endpoints.asgi import (
    ClientLeft,
    Message,
    Receive,
    Scope,
    Send,
    read_body,
    send_rendered,
)
from gateway.endpoints.errors import wire_of
from gateway.errors import GatewayError
from gateway.long_work import LongWork

READS_NO_BODY: Final = frozenset({"GET", "HEAD", "OPTIONS"})

Admit = Callable[[Mapping[bytes, bytes]], Awaitable[str]]
"""Names who sent these headers; raises what a caller is to be told whom they do not let in."""


class GuardedBody:
    """Middleware in front of endpoints that read their bodies at once.

    Args:
        admit: Checks the headers of every request that may have a body.
        max_bytes: A longer body is refused, whether or not its length was declared.
        memory: Shared by the bodies of all requests under way.
        long_work: Looks through long bodies.
    """

    def __init__(
        self, app: Any, admit: Admit, max_bytes: int, memory: InFlight, long_work: LongWork
    ) -> None:
        self._app = app
        self._admit = admit
        self._max_bytes = max_bytes
        self._memory = memory
        self._long_work = long_work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http" or scope["method"] in READS_NO_BODY:
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        try:
            with self._memory.hold(await self._admit(headers)) as held:
                body = await read_body(headers, receive, self._max_bytes, held, self._long_work)
                await self._app(scope, _replaying(body, receive), send)
        except ClientLeft:
            return
        except (GatewayError, BudgetError) as error:
            tell(scope, error=error)
            await send_rendered(send, wire_of(scope).error(error))


def _replaying(body: bytes, receive: Receive) -> Receive:
    """Give the body once, then whatever comes after it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay
