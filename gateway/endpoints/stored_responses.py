"""Stored responses: a request goes on from one, and callers read and delete them.

Teams opt in. Others are told that nothing is stored.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query, Response

from budget.in_flight import Hold, InFlight
from gateway.endpoints.access import RESPONSES_PATH
from gateway.endpoints.asgi import memory_of
from gateway.errors import (
    BodyTooLarge,
    DependencyUnavailable,
    InvalidRequest,
    NoSuchResponse,
    NotFound,
)
from gateway.evaluation_log.conversations import ConversationStore
from gateway.evaluation_log.stored_responses import (
    ResponseRecord,
    ResponseStore,
    StoredResponse,
    conversation_of,
)
from gateway.exact_json import dumps
from gateway.long_work import LongWork
from gateway.providers.responses_native import OWN_MARK, RESPONSE_PREFIX
from gateway.settings.server import MEMORY_PER_BODY_BYTE
from gateway.types import Caller
from gateway.wire import ChatRequest, decoded_body, refuse_excess

MAX_ITEMS: Final = 100
NO_CONVERSATION: Final = (
    "This team has no conversation of that id. It may have expired or been deleted."
)
_CONVERSATION: Final = "conversation"
_PREVIOUS: Final = "previous_response_id"
_ADVICE: Final = (
    "No response is stored here. Keep it yourself, and send the whole `input` with `store: false`."
)
_NONE: Final = "This team has no stored response of that id. It may have expired or been deleted."
Parse = Callable[[bytes, Mapping[bytes, bytes]], ChatRequest]


@dataclass(slots=True)
class KeptAnswer:
    """Keeps the answer to one request; see `gateway.wire.Keeping`."""

    store: ResponseStore
    team_id: str
    answer_id: str
    previous_id: str | None
    conversation_id: str | None
    first_id: str | None
    is_wanted: bool
    items: str
    waits_for: str | None = None

    def keep(self, response: Mapping[str, Any]) -> bool:
        """Have a response written; False where it is not."""
        record = ResponseRecord(
            team_id=self.team_id,
            response_id=str(response.get("id")),
            previous_id=self.previous_id,
            created_at_unix_s=self.store.clock(),
            input=self.items,
            response=dumps(response).decode(),
            conversation_id=self.conversation_id,
        )
        is_kept = self.store.log.record_response(record)
        if is_kept and self.conversation_id is not None:
            self.waits_for = record.response_id
        return is_kept

    async def settle(self) -> None:
        """Wait until the conversation has it: the next request names no response to wait for."""
        name, self.waits_for = self.waits_for, None
        if name is not None:
            with suppress(DependencyUnavailable):
                await self.store.is_written(self.team_id, name)


@dataclass(frozen=True, slots=True)
class _Names:
    """What a request goes on from: a response, a conversation, or neither."""

    previous_id: str | None = None
    conversation_id: str | None = None


@dataclass(frozen=True, slots=True)
class KeptResponses:
    """Reads requests that may go on from a stored response, and whose answers may be stored."""

    store: ResponseStore
    conversations: ConversationStore
    long_work: LongWork
    new_id: Callable[[], str]

    async def read(
        self,
        parse: Parse,
        body: bytes,
        headers: Mapping[bytes, bytes],
        caller: Caller,
        held: Hold,
    ) -> ChatRequest:
        """Parse a request as if its caller had sent the whole conversation.

        Raises:
            InvalidRequest: It is malformed.
            NoSuchResponse: The team has no such response.
            NotFound: It has no such conversation.
            BodyTooLarge: The conversation is longer than a request may be.
            DependencyUnavailable: The database cannot be asked.
        """
        names, items, before = _Names(), None, None
        if b'"previous_response_id"' in body or b'"conversation"' in body:
            asked = await self.long_work.read(len(body), decoded_body, body)
            names, items = _names_in(asked), _items(asked.get("input"))
            if names.conversation_id is not None:
                items = named_items(items, self.new_id())
            before = await self._before(names, caller, held)
            if before is not None:
                body = await self._whole(asked, before, items)
                held.grow(held.amount + memory_of(body))
        request = await self.long_work.read(len(body), parse, body, headers)
        given = {} if request.native is None else request.native.body
        own = _items(given.get("input")) if items is None else items
        written = await self.long_work.read(len(body), dumps, own)
        keeping = KeptAnswer(
            store=self.store,
            team_id=caller.team_id,
            answer_id=self.new_id(),
            previous_id=names.previous_id,
            conversation_id=names.conversation_id,
            first_id=before[0].id if before else None,
            is_wanted=given.get("store") is not False,
            items=written.decode(),
        )
        return replace(request, keeping=keeping)

    async def _before(
        self, names: _Names, caller: Caller, held: Hold
    ) -> Sequence[StoredResponse] | None:
        """Return what was said before a request; None where it begins by itself."""
        team_id = caller.team_id
        if names.conversation_id is not None:
            said = await self.conversations.parts(team_id, names.conversation_id, growing(held))
            if said is None:
                raise NotFound(NO_CONVERSATION, param=_CONVERSATION)
            return said
        if names.previous_id is None:
            return None
        chain = await self.store.chain(team_id, names.previous_id, growing(held))
        if not chain:
            raise NoSuchResponse(_NONE, param=_PREVIOUS)
        if chain[0].conversation_id is not None:
            raise NoSuchResponse(
                "That response is part of a conversation; name it as `conversation`.",
                param=_PREVIOUS,
            )
        return chain

    async def _whole(
        self, asked: Mapping[str, Any], before: Sequence[StoredResponse], items: list[Any]
    ) -> bytes:
        """Write the request that sends the whole conversation."""
        body = await self.long_work.aside(_joined, asked, before, items)
        if len(body) > self.store.max_bytes:
            raise BodyTooLarge(f"The conversation is longer than {self.store.max_bytes} bytes.")
        await self.long_work.read(len(body), refuse_excess, body)
        return body


def _names_in(asked: Mapping[str, Any]) -> _Names:
    """Read what a request goes on from.

    Raises:
        InvalidRequest: It names two things, or something that is no name.
    """
    previous_id, conversation = asked.get(_PREVIOUS), asked.get(_CONVERSATION)
    if isinstance(conversation, dict):
        conversation = conversation.get("id", conversation)
    if previous_id is not None and conversation is not None:
        raise InvalidRequest(
            f"Give only one of `{_PREVIOUS}` and `{_CONVERSATION}`.", param=_PREVIOUS
        )
    for name, value in ((_PREVIOUS, previous_id), (_CONVERSATION, conversation)):
        if value is not None and not isinstance(value, str):
            raise InvalidRequest(f"{name}: it must be a string", param=name)
    return _Names(previous_id, conversation)


def growing(held: Hold) -> Callable[[int], None]:
    """Hold memory for what is read from the database too."""
    return lambda n_bytes: held.grow(held.amount + MEMORY_PER_BODY_BYTE * n_bytes)


def _joined(asked: Mapping[str, Any], chain: Sequence[StoredResponse], items: list[Any]) -> bytes:
    whole = [*conversation_of(chain), *items]
    return dumps({**asked, _PREVIOUS: None, _CONVERSATION: None, "input": whole})


def _items(given: object) -> list[Any]:
    """Return a request's own input as items; what is no input, its parser refuses."""
    if isinstance(given, list):
        return given
    if given is None:
        return []
    text = [{"type": "input_text", "text": given}]
    return [{"type": "message", "role": "user", "content": text}]


def add_stored_responses(
    endpoints: APIRouter,
    requires_key: Callable[..., Any],
    store: ResponseStore,
    memory: InFlight,
    long_work: LongWork,
) -> None:
    """Add the endpoints."""
    one = f"{RESPONSES_PATH}/{{response_id}}"

    @endpoints.get(one, tags=["responses"])
    async def show_response(
        response_id: str,
        caller: Annotated[Caller, Depends(requires_key)],
        *,
        stream: bool = False,
    ) -> Response:
        """Show a stored response."""
        refuse_strangers(caller)
        if stream:
            raise InvalidRequest("stream: a stored response comes whole", param="stream")
        found = await store.response(caller.team_id, response_id)
        if found is None:
            raise NotFound(_NONE, param="response_id")
        return Response(found, media_type="application/json")

    @endpoints.delete(one, tags=["responses"])
    async def delete_response(
        response_id: str, caller: Annotated[Caller, Depends(requires_key)]
    ) -> dict[str, Any]:
        """Delete a stored response, and its own input with it."""
        refuse_strangers(caller)
        if not await store.delete(caller.team_id, response_id):
            raise NotFound(_NONE, param="response_id")
        return {"id": response_id, "object": "response.deleted", "deleted": True}

    @endpoints.get(f"{one}/input_items", tags=["responses"])
    async def list_input_items(
        response_id: str,
        caller: Annotated[Caller, Depends(requires_key)],
        after: Annotated[str | None, Query(max_length=256)] = None,
        order: Literal["asc", "desc"] = "desc",
        limit: Annotated[int, Query(ge=1, le=MAX_ITEMS)] = 20,
    ) -> Response:
        """List what a stored response answered: the conversation before it, and its own input."""
        refuse_strangers(caller)
        with memory.hold(caller.key_id) as held:
            chain = await store.chain(caller.team_id, response_id, growing(held))
            if not chain:
                raise NotFound(_NONE, param="response_id")
            page = await long_work.aside(_input_page, chain, response_id, order, after, limit)
        return Response(page, media_type="application/json")


def _input_page(
    chain: Sequence[StoredResponse], response_id: str, order: str, after: str | None, limit: int
) -> bytes:
    """Write a page of what a stored response answered."""
    given = [*conversation_of(chain[:-1]), *chain[-1].own_items()]
    items = named_items(given, response_id)
    return dumps(page_of(items if order == "asc" else items[::-1], after, limit))


def page_of(items: list[dict[str, Any]], after: str | None, limit: int) -> dict[str, Any]:
    """Write a page of a list, as OpenAI does."""
    names = [item["id"] for item in items]
    begin = names.index(after) + 1 if after in names else 0
    end = min(begin + limit, len(items))
    shown = names[begin:end]
    return {
        "object": "list",
        "data": items[begin:end],
        "first_id": shown[0] if shown else None,
        "last_id": shown[-1] if shown else None,
        "has_more": end < len(items),
    }


def refuse_strangers(caller: Caller) -> None:
    """Refuse a caller whose team stores nothing."""
    if not caller.stores_responses:
        raise NotFound(_ADVICE, param="response_id")


def named_items(items: list[Any], owner_id: str) -> list[Any]:
    """Give items a name where they have none; one of the gateway's, which no host is sent."""
    owner = owner_id.removeprefix(RESPONSE_PREFIX)[:32]
    return [
        {"type": "message", **item, "id": item.get("id") or f"in{OWN_MARK}{owner}_{place}"}
        if isinstance(item, dict)
        else item
        for place, item in enumerate(items)
    ]
