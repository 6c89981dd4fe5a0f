"""Stored conversations: callers begin, read, add to and delete them.

https://platform.openai.com/docs/api-reference/conversations

Teams opt in, as for stored responses.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query, Request, Response

from budget.in_flight import InFlight
from gateway.endpoints.access import CONVERSATIONS_PATH
from gateway.endpoints.stored_responses import (
    MAX_ITEMS,
    NO_CONVERSATION,
    growing,
    named_items,
    page_of,
    refuse_strangers,
)
from gateway.errors import InvalidRequest, NotFound
from gateway.evaluation_log.conversations import Conversation, ConversationStore
from gateway.evaluation_log.stored_responses import StoredResponse, conversation_of
from gateway.exact_json import dumps
from gateway.long_work import LongWork
from gateway.types import Caller
from gateway.wire import decoded_body
from gateway.wires.responses_items import conversation_of as read_items

MAX_ADDED: Final = 20
_MAX_METADATA: Final = 16
_MAX_KEY_CHARS: Final = 64
_MAX_VALUE_CHARS: Final = 512
_NO_ITEM: Final = "The conversation has no item of that id."


@dataclass(frozen=True, slots=True)
class ConversationEndpoints:
    """Collaborators of the endpoints."""

    store: ConversationStore
    memory: InFlight
    long_work: LongWork
    new_id: Callable[[], str]

    def add_to(self, endpoints: APIRouter, requires_key: Callable[..., Any]) -> None:
        """Add the endpoints."""
        self._add_conversations(endpoints, requires_key)
        self._add_items(endpoints, requires_key)

    def _add_conversations(self, endpoints: APIRouter, requires_key: Callable[..., Any]) -> None:
        one = f"{CONVERSATIONS_PATH}/{{conversation_id}}"

        @endpoints.post(CONVERSATIONS_PATH, tags=["conversations"])
        async def create_conversation(
            request: Request, caller: Annotated[Caller, Depends(requires_key)]
        ) -> dict[str, Any]:
            """Begin a conversation."""
            refuse_strangers(caller)
            raw = await request.body() or b"{}"
            body, items = await self.long_work.read(len(raw), self._begun, raw)
            metadata = _metadata(body.get("metadata") or {})
            name = f"conv_{self.new_id()}"
            return _shown(await self.store.create(caller.team_id, name, metadata, items))

        @endpoints.get(one, tags=["conversations"])
        async def show_conversation(
            conversation_id: str, caller: Annotated[Caller, Depends(requires_key)]
        ) -> dict[str, Any]:
            """Show a conversation, without what was said."""
            refuse_strangers(caller)
            return _shown(await self.store.find(caller.team_id, conversation_id))

        @endpoints.post(one, tags=["conversations"])
        async def update_conversation(
            conversation_id: str, request: Request, caller: Annotated[Caller, Depends(requires_key)]
        ) -> dict[str, Any]:
            """Replace a conversation's metadata."""
            refuse_strangers(caller)
            raw = await request.body() or b"{}"
            body = await self.long_work.read(len(raw), decoded_body, raw)
            metadata = _metadata(body.get("metadata") or {})
            return _shown(await self.store.update(caller.team_id, conversation_id, metadata))

        @endpoints.delete(one, tags=["conversations"])
        async def delete_conversation(
            conversation_id: str, caller: Annotated[Caller, Depends(requires_key)]
        ) -> dict[str, Any]:
            """Delete a conversation, and all that was said in it."""
            refuse_strangers(caller)
            if not await self.store.delete(caller.team_id, conversation_id):
                raise NotFound(NO_CONVERSATION, param="conversation_id")
            return {"id": conversation_id, "object": "conversation.deleted", "deleted": True}

    def _add_items(self, endpoints: APIRouter, requires_key: Callable[..., Any]) -> None:
        every = f"{CONVERSATIONS_PATH}/{{conversation_id}}/items"

        @endpoints.get(every, tags=["conversations"])
        async def list_items(
            conversation_id: str,
            caller: Annotated[Caller, Depends(requires_key)],
            after: Annotated[str | None, Query(max_length=256)] = None,
            order: Literal["asc", "desc"] = "desc",
            limit: Annotated[int, Query(ge=1, le=MAX_ITEMS)] = 20,
        ) -> Response:
            """List what was said in a conversation."""
            page = partial(_page, order=order, after=after, limit=limit)
            return await self._said(caller, conversation_id, page)

        @endpoints.post(every, tags=["conversations"])
        async def add_items(
            conversation_id: str, request: Request, caller: Annotated[Caller, Depends(requires_key)]
        ) -> Response:
            """Add items to a conversation."""
            refuse_strangers(caller)
            raw = await request.body()
            items = await self.long_work.read(len(raw), self._added, raw)
            if not await self.store.add(caller.team_id, conversation_id, items):
                raise NotFound(NO_CONVERSATION, param="conversation_id")
            page = await self.long_work.read(len(raw), _added_page, items)
            return Response(page, media_type="application/json")

        @endpoints.get(f"{every}/{{item_id}}", tags=["conversations"])
        async def show_item(
            conversation_id: str, item_id: str, caller: Annotated[Caller, Depends(requires_key)]
        ) -> Response:
            """Show an item of a conversation."""
            return await self._said(caller, conversation_id, partial(_item, item_id=item_id))

        @endpoints.delete(f"{every}/{{item_id}}", tags=["conversations"])
        async def delete_item(
            conversation_id: str, item_id: str, caller: Annotated[Caller, Depends(requires_key)]
        ) -> dict[str, Any]:
            """Delete an item of a conversation; returns the conversation."""
            refuse_strangers(caller)
            if not await self.store.delete_item(caller.team_id, conversation_id, item_id):
                raise NotFound(_NO_ITEM, param="item_id")
            return _shown(await self.store.find(caller.team_id, conversation_id))

    async def _said(
        self,
        caller: Caller,
        conversation_id: str,
        part: Callable[[list[dict[str, Any]]], dict[str, Any]],
    ) -> Response:
        """Write a part of what was said in a conversation."""
        refuse_strangers(caller)
        with self.memory.hold(caller.key_id) as held:
            parts = await self.store.parts(caller.team_id, conversation_id, growing(held))
            if parts is None:
                raise NotFound(NO_CONVERSATION, param="conversation_id")
            written = await self.long_work.aside(_written, parts, part)
        return Response(written, media_type="application/json")

    def _begun(self, raw: bytes) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        body = decoded_body(raw)
        return body, self._given_items(body) if body.get("items") else []

    def _added(self, raw: bytes) -> list[dict[str, Any]]:
        return self._given_items(decoded_body(raw))

    def _given_items(self, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Read the items of a request as a response's `input` is read, and give them names."""
        items = body.get("items")
        if not isinstance(items, list) or not 0 < len(items) <= MAX_ADDED:
            raise InvalidRequest(f"items: give 1 to {MAX_ADDED} items", param="items")
        try:
            read_items(None, items)
        except InvalidRequest as error:
            raise InvalidRequest(str(error).replace("input", "items", 1), param="items") from error
        return named_items(items, self.new_id())


def _written(
    parts: Sequence[StoredResponse], part: Callable[[list[dict[str, Any]]], dict[str, Any]]
) -> bytes:
    return dumps(part([_shown_item(item) for item in conversation_of(parts)]))


def _page(
    items: list[dict[str, Any]], *, order: str, after: str | None, limit: int
) -> dict[str, Any]:
    return page_of(items if order == "asc" else items[::-1], after, limit)


def _item(items: list[dict[str, Any]], *, item_id: str) -> dict[str, Any]:
    for item in items:
        if item["id"] == item_id:
            return item
    raise NotFound(_NO_ITEM, param="item_id")


def _added_page(items: list[dict[str, Any]]) -> bytes:
    return dumps(page_of([_shown_item(item) for item in items], None, MAX_ITEMS))


def _metadata(given: object) -> dict[str, str]:
    if (
        isinstance(given, dict)
        and len(given) <= _MAX_METADATA
        and all(map(_is_pair, given.items()))
    ):
        return given
    raise InvalidRequest(
        f"metadata: it must have at most {_MAX_METADATA} names of {_MAX_KEY_CHARS} characters, "
        f"with strings of {_MAX_VALUE_CHARS}",
        param="metadata",
    )


def _is_pair(pair: tuple[Any, Any]) -> bool:
    name, value = pair
    return len(name) <= _MAX_KEY_CHARS and isinstance(value, str) and len(value) <= _MAX_VALUE_CHARS


def _shown(conversation: Conversation | None) -> dict[str, Any]:
    """Write a conversation as OpenAI does.

    Raises:
        NotFound: There is none.
    """
    if conversation is None:
        raise NotFound(NO_CONVERSATION, param="conversation_id")
    return {
        "id": conversation.id,
        "object": "conversation",
        "created_at": int(conversation.created_at.timestamp()),
        "metadata": conversation.decoded_metadata,
    }


def _shown_item(item: dict[str, Any]) -> dict[str, Any]:
    """Write an item as OpenAI does: with a status, and a message's text as a part."""
    shown = {"status": "completed", **item}
    content = item.get("content")
    if item["type"] == "message" and isinstance(content, str):
        kind = "output_text" if item.get("role") == "assistant" else "input_text"
        more: dict[str, Any] = {"annotations": []} if kind == "output_text" else {}
        shown["content"] = [{"type": kind, "text": content, **more}]
    return shown
