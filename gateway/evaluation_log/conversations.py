"""Conversations that a team keeps: stored responses, and items that callers add, in their order.

A conversation is as old as its beginning, whatever was added later: it goes as a whole.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, Engine, and_, delete, func, insert, select, update

from gateway.errors import BodyTooLarge
from gateway.evaluation_log.stored_responses import (
    MAX_LINKS,
    ResponseStore,
    StoredResponse,
    bytes_of,
    decoded,
)
from gateway.exact_json import dumps
from gateway.storage.database import writing
from migrations.tables import CONVERSATIONS, STORED_RESPONSES

MAX_CONVERSATIONS: Final = 100_000
"""Of a team."""
MAX_ADDED_BYTES: Final = 1024**3
"""Of items that a team's callers add and no model is paid for."""
_NO_ROOM: Final = "This team has stored as much as it may. Delete conversations, or wait."


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation, without what was said; `metadata` is JSON."""

    id: str
    created_at: datetime
    metadata: str

    @property
    def decoded_metadata(self) -> dict[str, str]:
        """What callers attached."""
        found: dict[str, str] = decoded(self.metadata)
        return found


@dataclass(frozen=True, slots=True)
class ConversationStore:
    """Keeps conversations, each for its own team alone.

    All methods raise `DependencyUnavailable` where the database cannot be asked.
    """

    responses: ResponseStore

    async def create(
        self, team_id: str, conversation_id: str, metadata: Mapping[str, Any], items: list[Any]
    ) -> Conversation:
        """Begin a conversation with `items`.

        Raises:
            BodyTooLarge: The team has no room left.
        """
        made = Conversation(conversation_id, self._now(), dumps(metadata).decode())
        part = self._part(team_id, conversation_id, items)
        if not await self.responses.ask(_created, team_id, made, part):
            raise BodyTooLarge(_NO_ROOM)
        return made

    async def find(self, team_id: str, conversation_id: str) -> Conversation | None:
        """Return a conversation; None where the team has none of that id."""
        return await self.responses.ask(_found, self.responses.oldest, team_id, conversation_id)

    async def update(
        self, team_id: str, conversation_id: str, metadata: Mapping[str, Any]
    ) -> Conversation | None:
        """Replace its metadata; None where the team has none of that id."""
        changed = dumps(metadata).decode()
        about = (self.responses.oldest, team_id, conversation_id, changed)
        return await self.responses.ask(_updated, *about)

    async def delete(self, team_id: str, conversation_id: str) -> bool:
        """Delete it and all that was said in it; False where the team has none of that id."""
        about = (self.responses.oldest, team_id, conversation_id)
        return await self.responses.ask(_deleted, *about) is not None

    async def parts(
        self, team_id: str, conversation_id: str, hold: Callable[[int], None]
    ) -> list[StoredResponse] | None:
        """Return what was said, the oldest first; None where the team has none of that id.

        Args:
            hold: Told how many bytes there are, before they are read.

        Raises:
            BodyTooLarge: They are longer than a request may be.
        """
        sizes = await self.responses.ask(_sizes, self.responses.oldest, team_id, conversation_id)
        if sizes is None:
            return None
        n_parts, n_bytes = sizes
        if n_bytes > self.responses.max_bytes or n_parts > MAX_LINKS:
            raise BodyTooLarge(
                f"The conversation is longer than {self.responses.max_bytes} bytes or {MAX_LINKS} "
                "answers."
            )
        hold(n_bytes)
        return await self.responses.ask(_parts, team_id, conversation_id) or []

    async def add(self, team_id: str, conversation_id: str, items: list[Any]) -> bool:
        """Add items; False where the team has no conversation of that id.

        Raises:
            BodyTooLarge: The team has no room left.
        """
        if await self.find(team_id, conversation_id) is None:
            return False
        part = self._part(team_id, conversation_id, items)
        if not await self.responses.ask(_added, team_id, part):
            raise BodyTooLarge(_NO_ROOM)
        return True

    async def delete_item(self, team_id: str, conversation_id: str, item_id: str) -> bool:
        """Delete an item; False where there is none of that id."""
        about = (self.responses.oldest, team_id, conversation_id, item_id)
        return await self.responses.ask(_without, *about) is not None

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.responses.clock(), UTC)

    def _part(self, team_id: str, conversation_id: str, items: list[Any]) -> dict[str, Any] | None:
        """Lay items out as a row; None where there are none."""
        if not items:
            return None
        written = dumps(items).decode()
        return {
            "team_id": team_id,
            "id": items[0]["id"],
            "previous_id": None,
            "created_at": self._now(),
            "n_bytes": bytes_of(written),
            "input": written,
            "response": "",
            "conversation_id": conversation_id,
        }


def _is_kept(oldest: datetime, team_id: str, conversation_id: str) -> Any:
    table = CONVERSATIONS.c
    here = and_(table.team_id == team_id, table.id == conversation_id)
    return and_(here, table.created_at >= oldest)


def _is_in(team_id: str, conversation_id: str) -> Any:
    table = STORED_RESPONSES.c
    return and_(table.team_id == team_id, table.conversation_id == conversation_id)


def _created(
    engine: Engine, team_id: str, made: Conversation, part: dict[str, Any] | None
) -> bool | None:
    row = {"team_id": team_id, "id": made.id, "created_at": made.created_at}
    with writing(engine) as connection:
        mine = select(func.count()).where(CONVERSATIONS.c.team_id == team_id)
        if connection.execute(mine).scalar_one() >= MAX_CONVERSATIONS:
            return None
        if part is not None and not _has_room(connection, team_id, part):
            return None
        connection.execute(insert(CONVERSATIONS).values({**row, "metadata": made.metadata}))
        if part is not None:
            connection.execute(insert(STORED_RESPONSES).values(part))
    return True


def _added(engine: Engine, team_id: str, part: dict[str, Any] | None) -> bool | None:
    with writing(engine) as connection:
        if part is not None:
            if not _has_room(connection, team_id, part):
                return None
            connection.execute(insert(STORED_RESPONSES).values(part))
    return True


def _has_room(connection: Connection, team_id: str, part: Mapping[str, Any]) -> bool:
    table = STORED_RESPONSES.c
    mine = select(func.coalesce(func.sum(table.n_bytes), 0))
    mine = mine.where(table.team_id == team_id, table.response == "")
    taken: int = connection.execute(mine).scalar_one() + part["n_bytes"]
    return taken <= MAX_ADDED_BYTES


def _found(
    engine: Engine, oldest: datetime, team_id: str, conversation_id: str
) -> Conversation | None:
    with engine.connect() as connection:
        return _read(connection, oldest, team_id, conversation_id)


def _read(
    connection: Connection, oldest: datetime, team_id: str, conversation_id: str
) -> Conversation | None:
    table = CONVERSATIONS.c
    query = select(table.id, table.created_at, table.metadata)
    found = connection.execute(query.where(_is_kept(oldest, team_id, conversation_id))).first()
    return None if found is None else Conversation(*found)


def _updated(
    engine: Engine, oldest: datetime, team_id: str, conversation_id: str, metadata: str
) -> Conversation | None:
    here = _is_kept(oldest, team_id, conversation_id)
    with writing(engine) as connection:
        connection.execute(update(CONVERSATIONS).where(here).values({"metadata": metadata}))
        return _read(connection, oldest, team_id, conversation_id)


def _deleted(engine: Engine, oldest: datetime, team_id: str, conversation_id: str) -> bool | None:
    here = _is_kept(oldest, team_id, conversation_id)
    with writing(engine) as connection:
        if connection.execute(delete(CONVERSATIONS).where(here)).rowcount == 0:
            return None
        connection.execute(delete(STORED_RESPONSES).where(_is_in(team_id, conversation_id)))
    return True


def _sizes(
    engine: Engine, oldest: datetime, team_id: str, conversation_id: str
) -> tuple[int, int] | None:
    """Return how many parts a conversation has, and their bytes."""
    totals = select(func.count(), func.coalesce(func.sum(STORED_RESPONSES.c.n_bytes), 0))
    with engine.connect() as connection:
        if _read(connection, oldest, team_id, conversation_id) is None:
            return None
        n_parts, n_bytes = connection.execute(totals.where(_is_in(team_id, conversation_id))).one()
    return n_parts, n_bytes


def _parts(engine: Engine, team_id: str, conversation_id: str) -> list[StoredResponse]:
    table = STORED_RESPONSES.c
    query = select(table.id, table.input, table.response, table.conversation_id)
    query = query.where(_is_in(team_id, conversation_id))
    with engine.connect() as connection:
        found = connection.execute(query.order_by(table.created_at, table.id))
        return [StoredResponse(*row) for row in found]


def _without(
    engine: Engine, oldest: datetime, team_id: str, conversation_id: str, item_id: str
) -> bool | None:
    """Take an item out of the part that it stands in."""
    table = STORED_RESPONSES.c
    query = select(table.id, table.input, table.response)
    with writing(engine) as connection:
        if _read(connection, oldest, team_id, conversation_id) is None:
            return None
        parts = connection.execute(query.where(_is_in(team_id, conversation_id))).all()
        for name, given, response in parts:
            changed = _texts_without(given, response, item_id)
            if changed is None:
                continue
            here = and_(table.team_id == team_id, table.id == name)
            row = {**changed, "n_bytes": sum(map(bytes_of, changed.values()))}
            connection.execute(update(STORED_RESPONSES).where(here).values(row))
            return True
    return None


def _texts_without(given: str, response: str, item_id: str) -> dict[str, str] | None:
    """Write a part without an item; None where it has none of that id."""
    items, answer = decoded(given), decoded(response) if response else {"output": []}
    kept = [item for item in items if item.get("id") != item_id]
    output = [item for item in answer["output"] if item.get("id") != item_id]
    if len(kept) + len(output) == len(items) + len(answer["output"]):
        return None
    written = dumps({**answer, "output": output}).decode() if response else ""
    return {"input": dumps(kept).decode(), "response": written}
