"""Stored responses: a request goes on from one, and callers read and delete them.

Teams opt in. Others are told that nothing is stored.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query, Response

from budget.in_flight import Hold, InFlight
from gateway.endpoints.access import RESPONSES_PATH
from gateway.endpoints.asgi import memory_of
from gateway.errors import BodyTooLarge, InvalidRequest, NoSuchResponse, NotFound
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
_PREVIOUS: Final = "previous_response_id"
_ADVICE: Final = (
    "No response is stored here. Keep it yourself, and send the whole `input` with `store: false`."
)
_NONE: Final = "This team has no stored response of that id. It may have expired or been deleted."
Parse = Callable[[bytes, Mapping[bytes, bytes]], ChatRequest]


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """Keeps the answer to one request; see `gateway.wire.Keeping`."""

    store: ResponseStore
    team_id: str
    answer_id: str
    previous_id: str | None
    first_id: str | None
    is_wanted: bool
    items: str

    def keep(self, response: Mapping[str, Any]) -> bool:
        """Have a response written; False where it is not."""
        record = ResponseRecord(
            team_id=self.team_id,
            response_id=str(response.get("id")),
            previous_id=self.previous_id,
            created_at_unix_s=self.store.clock(),
            input=self.items,
            response=dumps(response).decode(),
        )
        return self.store.log.record_response(record)


@dataclass(frozen=True, slots=True)
class KeptResponses:
    """Reads requests that may go on from a stored response, and whose answers may be stored."""

    store: ResponseStore
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
            BodyTooLarge: The conversation is longer than a request may be.
            DependencyUnavailable: The database cannot be asked.
        """
        previous_id, first_id, items = None, None, None
        if b'"previous_response_id"' in body:
            asked = await self.long_work.read(len(body), decoded_body, body)
            previous_id = asked.get(_PREVIOUS)
            if previous_id is not None:
                items = _items(asked.get("input"))
                body, first_id = await self._whole(asked, previous_id, items, caller, held)
                held.grow(held.amount + memory_of(body))
        request = await self.long_work.read(len(body), parse, body, headers)
        given = {} if request.native is None else request.native.body
        own = _items(given.get("input")) if items is None else items
        written = await self.long_work.read(len(body), dumps, own)
        keeping = KeptAnswer(
            store=self.store,
            team_id=caller.team_id,
            answer_id=self.new_id(),
            previous_id=previous_id,
            first_id=first_id,
            is_wanted=given.get("store") is not False,
            items=written.decode(),
        )
        return replace(request, keeping=keeping)

    async def _whole(
        self,
        asked: Mapping[str, Any],
        previous_id: object,
        items: list[Any],
        caller: Caller,
        held: Hold,
    ) -> tuple[bytes, str]:
        """Write the request that sends the whole conversation, and name its first response."""
        if not isinstance(previous_id, str):
            raise InvalidRequest(f"{_PREVIOUS}: it must be a string", param=_PREVIOUS)
        chain = await self.store.chain(caller.team_id, previous_id, _growing(held))
        if not chain:
            raise NoSuchResponse(_NONE, param=_PREVIOUS)
        body = await self.long_work.aside(_joined, asked, chain, items)
        if len(body) > self.store.max_bytes:
            raise BodyTooLarge(f"The conversation is longer than {self.store.max_bytes} bytes.")
        await self.long_work.read(len(body), refuse_excess, body)
        return body, chain[0].id


def _growing(held: Hold) -> Callable[[int], None]:
    return lambda n_bytes: held.grow(held.amount + MEMORY_PER_BODY_BYTE * n_bytes)


def _joined(asked: Mapping[str, Any], chain: Sequence[StoredResponse], items: list[Any]) -> bytes:
    return dumps({**asked, _PREVIOUS: None, "input": [*conversation_of(chain), *items]})


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
        _refuse_strangers(caller)
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
        _refuse_strangers(caller)
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
        _refuse_strangers(caller)
        with memory.hold(caller.key_id) as held:
            chain = await store.chain(caller.team_id, response_id, _growing(held))
            if not chain:
                raise NotFound(_NONE, param="response_id")
            page = await long_work.aside(_page_of, chain, response_id, order, after, limit)
        return Response(page, media_type="application/json")


def _page_of(
    chain: Sequence[StoredResponse], response_id: str, order: str, after: str | None, limit: int
) -> bytes:
    """Write a page of what a stored response answered."""
    given = [*conversation_of(chain[:-1]), *chain[-1].own_items()]
    items = [_named(item, response_id, place) for place, item in enumerate(given)]
    return dumps(_page(items if order == "asc" else items[::-1], after, limit))


def _page(items: list[dict[str, Any]], after: str | None, limit: int) -> dict[str, Any]:
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


def _refuse_strangers(caller: Caller) -> None:
    if not caller.stores_responses:
        raise NotFound(_ADVICE, param="response_id")


def _named(item: dict[str, Any], response_id: str, place: int) -> dict[str, Any]:
    """Give an item a name where it has none; one of the gateway's, which no host is sent."""
    own = f"in{OWN_MARK}{response_id.removeprefix(RESPONSE_PREFIX)[:32]}_{place}"
    return {"type": "message", **item, "id": item.get("id") or own}
