"""Turns on every wire: a plain ASGI endpoint, because every request passes through it.

POST /v1/chat/completions, POST /v1/messages, POST /v1/responses, and the last two with
/count_tokens and /input_tokens.
"""

import logging
from dataclasses import dataclass
from typing import Any

import orjson

from budget.errors import BudgetError
from budget.in_flight import Hold, InFlight
from gateway.access.auth import Authenticator
from gateway.chat.service import ChatService
from gateway.chat.turn import new_id
from gateway.endpoints.access import (
    CHAT_PATH,
    COUNT_PATH,
    INPUT_TOKENS_PATH,
    MESSAGES_PATH,
    RESPONSES_PATH,
    tell,
    watch,
)
from gateway.endpoints.asgi import (
    ClientLeft,
    LeavingClient,
    Receive,
    Scope,
    Send,
    read_body,
    send_rendered,
    send_whole,
)
from gateway.endpoints.stored_responses import KeptResponses
from gateway.errors import GatewayError, drop_tracebacks
from gateway.evaluation_log.conversations import ConversationStore
from gateway.long_work import LongWork
from gateway.providers.base import Transit
from gateway.settings.server import ServerSettings
from gateway.types import Caller
from gateway.wire import ChatRequest
from gateway.wires.base import Wire
from gateway.wires.chat import CHAT
from gateway.wires.messages import MESSAGES, MESSAGES_TO_COUNT
from gateway.wires.responses import RESPONSES, RESPONSES_TO_COUNT
from router_models.errors import RouterModelsError

_log = logging.getLogger(__name__)

SSE_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # nginx would otherwise collect events before passing them on.
    (b"x-accel-buffering", b"no"),
]


@dataclass(frozen=True, slots=True)
class TurnEndpoint:
    """Parses, authenticates, calls the service and renders.

    Attributes:
        memory: Shared by the bodies of all requests under way.
        long_work: Shared by all that read long bodies and answers.
        json_grace_s: How long a call that is upstream goes on without its caller;
            `stream_grace_s` likewise.
        wire: In which form is asked and answered.
        kept: Responses that requests may go on from; None on wires that have none.
    """

    service: ChatService
    authenticator: Authenticator
    max_body_bytes: int
    memory: InFlight
    long_work: LongWork
    json_grace_s: float
    stream_grace_s: float
    wire: Wire = CHAT
    kept: KeptResponses | None = None
    authentication: str = "key"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; every error leaves in the wire's shape."""
        watched = watch(send)
        try:
            await self._serve(scope, receive, watched)
        except ClientLeft as error:
            drop_tracebacks(error)
        except (GatewayError, BudgetError, RouterModelsError) as error:
            drop_tracebacks(error)
            tell(scope, error=error)
            if watched.status is None:
                await send_rendered(send, self.wire.error(error))
        except Exception as error:
            _log.exception("a chat request failed for an unexpected reason")
            if watched.status is not None:
                raise
            drop_tracebacks(error)
            tell(scope, error=error)
            await send_rendered(send, self.wire.error(error))

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        caller = await self.authenticator.caller(headers)
        tell(scope, caller=caller)
        with self.memory.hold(caller.key_id) as held:
            request = await self._read(headers, receive, held, caller)
            transit = Transit(held)
            tell(scope, transit=transit)
            await self._answer(request, caller, transit, receive, send)

    async def _read(
        self, headers: dict[bytes, bytes], receive: Receive, held: Hold, caller: Caller
    ) -> ChatRequest:
        """Read and parse, so that nobody keeps the bytes while the answer is made."""
        body = await read_body(headers, receive, self.max_body_bytes, held, self.long_work)
        if self.kept is not None and caller.stores_responses:
            return await self.kept.read(self.wire.parse, body, headers, caller, held)
        return await self.long_work.read(len(body), self.wire.parse, body, headers)

    async def _answer(
        self, request: ChatRequest, caller: Caller, transit: Transit, receive: Receive, send: Send
    ) -> None:
        grace_s = self.stream_grace_s if request.is_stream else self.json_grace_s
        async with LeavingClient(receive, grace_s, lambda: transit.is_upstream):
            if request.is_stream:
                await self._stream(request, caller, transit, send)
            else:
                answer = await self.service.complete(request, caller, transit, self.wire)
                if request.keeping is not None:
                    await request.keeping.settle()
        # Once the response is complete the server reports the caller as gone, so the last message
        # is sent where nobody listens for that: it would cancel the turn before it is recorded.
        if request.is_stream:
            await send({"type": "http.response.body", "body": b""})
        else:
            await send_whole(send, 200, self.wire.headers(answer.headers), answer.body)

    async def _stream(
        self, request: ChatRequest, caller: Caller, transit: Transit, send: Send
    ) -> None:
        async with self.service.stream(request, caller, transit, self.wire) as answer:
            await send(
                {
                    "type": "http.response.start",
                    "status": 200,
                    "headers": [*SSE_HEADERS, *self.wire.headers(answer.headers)],
                }
            )
            async for events in answer.events:
                if request.keeping is not None:
                    await request.keeping.settle()
                await send({"type": "http.response.body", "body": events, "more_body": True})


@dataclass(frozen=True, slots=True)
class CountEndpoint(TurnEndpoint):
    """Counts the tokens of a prompt, as an estimate of the gateway's own; no model is called.

    Attributes:
        kind: What the answer calls itself; None where the wire has no name for it.
    """

    kind: str | None = None

    async def _answer(
        self, request: ChatRequest, caller: Caller, transit: Transit, receive: Receive, send: Send
    ) -> None:
        del caller, transit, receive
        counted = await self.service.counter.estimate_prompt(request.body)
        named = {} if self.kind is None else {"object": self.kind}
        body = orjson.dumps({**named, "input_tokens": counted})
        await send_whole(send, 200, [(b"x-waypost-token-count", b"estimated")], body)


def turn_endpoints(
    service: ChatService,
    authenticator: Authenticator,
    server: ServerSettings,
    memory: InFlight,
    conversations: ConversationStore,
) -> dict[str, TurnEndpoint]:
    """Make the endpoints of all wires, by path; each is served by POST."""
    given: dict[str, Any] = {
        "service": service,
        "authenticator": authenticator,
        "max_body_bytes": server.max_body_bytes,
        "memory": memory,
        "long_work": service.long_work,
        "json_grace_s": server.abandoned_json_s,
        "stream_grace_s": server.abandoned_stream_s,
    }
    made = (service.long_work, lambda: new_id(service.rng))
    kept = KeptResponses(conversations.responses, conversations, *made)
    return {
        CHAT_PATH: TurnEndpoint(**given),
        MESSAGES_PATH: TurnEndpoint(**given, wire=MESSAGES),
        COUNT_PATH: CountEndpoint(**given, wire=MESSAGES_TO_COUNT),
        RESPONSES_PATH: TurnEndpoint(**given, wire=RESPONSES, kept=kept),
        INPUT_TOKENS_PATH: CountEndpoint(
            **given, wire=RESPONSES_TO_COUNT, kept=kept, kind="response.input_tokens"
        ),
    }
