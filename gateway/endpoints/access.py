"""Every request of a caller, whatever came of it: counted, and logged where that is asked for."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from budget.ledger.amounts import NUSD_PER_USD
from gateway.endpoints.asgi import Headers, Message, Receive, Scope, Send
from gateway.providers.base import Transit
from gateway.telemetry.series import Counts
from gateway.types import Caller, TurnRecord

CHAT_PATH: Final = "/v1/chat/completions"
MESSAGES_PATH: Final = "/v1/messages"
COUNT_PATH: Final = "/v1/messages/count_tokens"
RESPONSES_PATH: Final = "/v1/responses"
INPUT_TOKENS_PATH: Final = "/v1/responses/input_tokens"
CONVERSATIONS_PATH: Final = "/v1/conversations"
PASSTHROUGH: Final = "passthrough"
OTHER: Final = "other"
ENDPOINT_OF_SCOPE: Final = "waypost.endpoint"
"""Where the scope of a request names its endpoint, if the path alone does not tell."""
ENDPOINTS: Final = {
    CHAT_PATH: "chat",
    MESSAGES_PATH: "messages",
    COUNT_PATH: "count_tokens",
    RESPONSES_PATH: "responses",
    INPUT_TOKENS_PATH: "input_tokens",
    CONVERSATIONS_PATH: "conversations",
    "/v1/completions": "completions",
    "/v1/embeddings": "embeddings",
    "/v1/rerank": "rerank",
    "/v1/models": "models",
    "/v1/route": "route",
    "/v1/feedback": "feedback",
    "/health": "health",
    "/ready": "ready",
    "/openapi.json": "openapi",
}
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
CLIENT_LEFT_STATUS: Final = 499
"""The caller left before there was a status; nginx's number."""
REQUEST_ID: Final = b"x-request-id"
REQUEST_IDS: Final = (REQUEST_ID, b"request-id")
"""Where OpenAI's SDKs look for a request's id, and where Anthropic's do."""
LOGGED_HEADERS: Final = {
    REQUEST_ID: "request_id",
    b"x-waypost-model": "model",
    b"x-waypost-provider": "provider",
    b"x-waypost-route-reason": "reason",
    b"x-waypost-router-version": "router_version",
    b"x-waypost-cost-usd": "cost_usd",
}
"""Of calls that are no turns; of a turn its record is told."""

_TOLD: Final = "waypost.told"

_log = logging.getLogger("gateway.access")


@dataclass(slots=True)
class Told:
    """What a request's line in the log says besides how it was answered."""

    caller: Caller | None = None
    transit: Transit | None = None
    error: Exception | None = None

    def fields(self, headers: Headers) -> dict[str, Any]:
        """Lay it out as the line's fields; what is not known is left out."""
        turn = None if self.transit is None else self.transit.turn
        named: dict[str, Any] = {}
        if turn is None:
            for name, value in headers:
                if name in LOGGED_HEADERS:
                    named[LOGGED_HEADERS[name]] = value.decode("utf-8", "replace")
        else:
            named = _of_turn(turn)
        if self.caller is not None:
            named["team"], named["key_id"] = self.caller.team_id, self.caller.key_id
        if self.error is not None:
            named["error"] = type(self.error).__name__
            limit = getattr(self.error, "limit", None)
            if limit is not None:
                named["limit"] = limit
        return named


def _of_turn(turn: TurnRecord) -> dict[str, Any]:
    usage = turn.usage
    named = {
        "request_id": turn.request_id,
        "model": turn.served_model,
        "provider": turn.provider,
        "reason": turn.route_reason,
        "router_version": turn.router_version,
        "prompt_tokens": usage and usage.prompt_tokens,
        "completion_tokens": usage and usage.completion_tokens,
        "cost_usd": (turn.cost_nusd + turn.given_up_nusd) / NUSD_PER_USD,
        "first_byte_s": turn.first_byte_s and round(turn.first_byte_s, 6),
        "trace_id": turn.trace_id,
        "error": turn.error,
    }
    return {name: value for name, value in named.items() if value is not None}


def tell(
    scope: Scope,
    *,
    caller: Caller | None = None,
    transit: Transit | None = None,
    error: Exception | None = None,
) -> None:
    """Have the line of a request say whose it is, which turn it was, what went wrong."""
    told: Told | None = scope.get(_TOLD)
    if told is not None:
        told.caller, told.transit = caller or told.caller, transit or told.transit
        told.error = error or told.error


class WatchedSend:
    """Sends, and remembers how the response began; None where it has not.

    Args:
        new_id: Names responses that have no name yet.
    """

    __slots__ = ("_new_id", "_send", "headers", "status")

    def __init__(self, send: Send, new_id: Callable[[], str] | None = None) -> None:
        self._send = send
        self._new_id = new_id
        self.status: int | None = None
        self.headers: Any = ()

    async def __call__(self, message: Message) -> None:
        """Send one message."""
        if self.status is None:
            self.status = message["status"]
            self.headers = message.get("headers", ())
            if self._new_id is not None and not any(h[0] == REQUEST_ID for h in self.headers):
                named = self._new_id().encode()
                self.headers = [*self.headers, *((name, named) for name in REQUEST_IDS)]
                message = {**message, "headers": self.headers}
        await self._send(message)


def watch(send: Send) -> WatchedSend:
    """Watch `send`, once however often it is asked for."""
    return send if isinstance(send, WatchedSend) else WatchedSend(send)


@dataclass(frozen=True, slots=True)
class Access:
    """Watches requests.

    Attributes:
        is_logged: Write a line for each.
        clock: Monotonic seconds.
        new_id: Names requests that reach no turn.
    """

    requests: Counts
    is_logged: bool
    clock: Callable[[], float]
    new_id: Callable[[], str]

    async def serve(
        self,
        app: Callable[[Scope, Receive, Send], Awaitable[None]],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Have `app` serve one HTTP request."""
        watched, began_s = WatchedSend(send, self.new_id), self.clock()
        endpoint = endpoint_of(scope["path"])
        if self.is_logged:
            scope[_TOLD] = Told()
        try:
            await app(scope, receive, watched)
        finally:
            status = watched.status or CLIENT_LEFT_STATUS
            if endpoint == OTHER:
                endpoint = scope.get(ENDPOINT_OF_SCOPE, OTHER)
            self.requests.add((endpoint, str(status)))
            if self.is_logged:
                told = scope[_TOLD].fields(watched.headers)
                self._write(scope["method"], endpoint, told, status, self.clock() - began_s)

    def _write(
        self, method: str, endpoint: str, told: dict[str, Any], status: int, duration_s: float
    ) -> None:
        """Write one line; the path as sent stays out of it, since it may hold anything."""
        method = method if method in METHODS else "other"
        fields = {"endpoint": endpoint, "status": status, "duration_s": round(duration_s, 6)}
        _log.info("%s %s %d", method, endpoint, status, extra={"fields": {**fields, **told}})


def endpoint_of(path: str) -> str:
    """Name the endpoint of a path; ``other`` where there is none."""
    known = ENDPOINTS.get(path)
    if known is not None:
        return known
    if path.startswith(f"{RESPONSES_PATH}/"):
        return "responses"
    if path.startswith(f"{CONVERSATIONS_PATH}/"):
        return "conversations"
    return "models" if path.startswith("/v1/models/") else OTHER
