"""Responses that a team keeps, so that a request can go on from one by its id.

Each is kept with its own input, and names the response before it: a conversation is read along
these links. So nothing is kept twice, and what is deleted is gone; what came after it cannot be
gone on from any more. They are written with the log, off the request path.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol, TypeVar

import orjson
from sqlalchemy import Engine, and_, delete, literal, select
from sqlalchemy.exc import SQLAlchemyError

from gateway.errors import BodyTooLarge, DependencyUnavailable
from gateway.exact_json import exact
from gateway.storage.database import is_row_fault, writing
from gateway.wire import refuse_excess
from migrations.tables import STORED_RESPONSES

MAX_LINKS: Final = 1_000
"""Of a conversation; also what ends a circle."""
WAITS_S: Final = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Between looks for a response that is not there."""

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class ResponseRecord:
    """A response to store.

    Attributes:
        input: The request's own items, as JSON; `response` likewise.
        conversation_id: The conversation that it is a part of.
    """

    team_id: str
    response_id: str
    previous_id: str | None
    created_at_unix_s: float
    input: str
    response: str
    conversation_id: str | None = None

    @property
    def n_bytes(self) -> int:
        """What it takes in the database."""
        return bytes_of(self.input) + bytes_of(self.response)


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response as it is kept; both texts are JSON.

    Attributes:
        response: Empty where items were added to a conversation, and no model answered.
    """

    id: str
    input: str
    response: str
    conversation_id: str | None = None

    def items(self) -> list[Any]:
        """Return what a request that goes on from it begins with: its input and its output."""
        output = decoded(self.response)["output"] if self.response else []
        return [*self.own_items(), *output]

    def own_items(self) -> list[Any]:
        """Return its own input."""
        items: list[Any] = decoded(self.input)
        return items


class ResponseLog(Protocol):
    """What writes; `gateway.evaluation_log.evaluation_log.EvaluationLog` is one."""

    def record_response(self, response: ResponseRecord) -> bool:
        """Queue a response; False where there is no room for it."""
        ...


@dataclass(frozen=True, slots=True)
class ResponseStore:
    """Keeps responses, each for its own team alone.

    Attributes:
        max_days: Older ones are as good as deleted.
        max_bytes: Of a conversation that is gone on from.
        patience_s: How long a response is looked for that may be on its way to the database.
    """

    log: ResponseLog
    engine: Engine
    max_days: int
    max_bytes: int
    patience_s: float = 1.0
    clock: Callable[[], float] = time.time
    lookup_timeout_s: float = 2.0

    async def chain(
        self, team_id: str, response_id: str, hold: Callable[[int], None]
    ) -> list[StoredResponse]:
        """Return a response and all before it, the oldest first; empty where one is missing.

        Args:
            hold: Told how many bytes they have, before they are read.

        Raises:
            BodyTooLarge: Together they are longer than a request may be.
            DependencyUnavailable: The database cannot be asked.
        """
        links = await self._look_for(_links, team_id, response_id)
        if links is None:
            return []
        n_bytes = sum(links.values())
        if n_bytes > self.max_bytes:
            raise BodyTooLarge(f"The conversation is longer than {self.max_bytes} bytes.")
        hold(n_bytes)
        found = await self.ask(_contents, team_id, list(links)) or {}
        return [found[name] for name in reversed(links)] if len(found) == len(links) else []

    async def response(self, team_id: str, response_id: str) -> str | None:
        """Return a response as JSON; None where the team has none of that id.

        Raises:
            DependencyUnavailable: The database cannot be asked.
        """
        return await self._look_for(_response, team_id, response_id)

    async def delete(self, team_id: str, response_id: str) -> bool:
        """Delete a response; False where the team has none of that id.

        Raises:
            DependencyUnavailable: The database cannot be asked.
        """
        return await self._look_for(_deleted, team_id, response_id) is not None

    async def is_written(self, team_id: str, response_id: str) -> bool:
        """Wait until a response is in the database, as long as patience lasts.

        Raises:
            DependencyUnavailable: The database cannot be asked.
        """
        return await self._look_for(_is_there, team_id, response_id) is not None

    @property
    def oldest(self) -> datetime:
        """When the oldest that there may be was made."""
        return datetime.fromtimestamp(self.clock(), UTC) - timedelta(days=self.max_days)

    async def _look_for(
        self, read: Callable[..., Found | None], team_id: str, response_id: str
    ) -> Found | None:
        oldest = self.oldest
        waited_s = 0.0
        for wait_s in (*WAITS_S, None):
            found = await self.ask(read, oldest, team_id, response_id)
            if found is not None or wait_s is None or waited_s + wait_s > self.patience_s:
                return found
            await asyncio.sleep(wait_s)
            waited_s += wait_s
        return None

    async def ask(self, read: Callable[..., Found | None], *about: Any) -> Found | None:
        """Have a thread ask the database; None where it has nothing of that id.

        Raises:
            DependencyUnavailable: The database cannot be asked.
        """
        try:
            async with asyncio.timeout(self.lookup_timeout_s):
                return await asyncio.to_thread(read, self.engine, *about)
        except (SQLAlchemyError, TimeoutError, UnicodeEncodeError) as error:
            if is_row_fault(error):  # an id that no database can hold is the id of nothing
                return None
            raise DependencyUnavailable(
                "Stored responses cannot be read now. Try again soon.", retry_after_s=1.0
            ) from error


def decoded(text: str) -> Any:
    """Read JSON that was stored."""
    raw = text.encode()
    return exact(raw, orjson.loads(raw))


def _links(
    engine: Engine, oldest: datetime, team_id: str, response_id: str
) -> dict[str, int] | None:
    """Follow a conversation back to its beginning; returns how long each response is."""
    table = STORED_RESPONSES.c
    named = (table.id, table.previous_id, table.n_bytes)
    link = (
        select(*named, literal(0).label("place"))
        .where(_is_one(oldest, team_id, response_id))
        .cte("link", recursive=True)
    )
    before = (
        select(*named, link.c.place + 1)
        .join(link, table.id == link.c.previous_id)
        .where(_is_kept(oldest, team_id), link.c.place < MAX_LINKS)
    )
    link = link.union_all(before)
    with engine.connect() as connection:
        links = connection.execute(select(link).order_by(link.c.place)).all()
    is_whole = bool(links) and links[-1].previous_id is None
    return {one.id: one.n_bytes for one in links} if is_whole else None


def _contents(engine: Engine, team_id: str, ids: list[str]) -> dict[str, StoredResponse]:
    table = STORED_RESPONSES.c
    query = select(table.id, table.input, table.response, table.conversation_id)
    query = query.where(table.team_id == team_id, table.id.in_(ids))
    with engine.connect() as connection:
        return {row.id: StoredResponse(*row) for row in connection.execute(query)}


def _response(engine: Engine, oldest: datetime, team_id: str, response_id: str) -> str | None:
    table = STORED_RESPONSES.c
    query = select(table.response).where(_is_one(oldest, team_id, response_id))
    with engine.connect() as connection:
        found: str | None = connection.execute(query).scalar()
    return found


def _is_there(engine: Engine, oldest: datetime, team_id: str, response_id: str) -> bool | None:
    query = select(literal(value=True)).where(_is_one(oldest, team_id, response_id))
    with engine.connect() as connection:
        return connection.execute(query).scalar()


def _deleted(engine: Engine, oldest: datetime, team_id: str, response_id: str) -> bool | None:
    here = _is_one(oldest, team_id, response_id)
    with writing(engine) as connection:
        is_gone = connection.execute(delete(STORED_RESPONSES).where(here)).rowcount > 0
    return True if is_gone else None


def _is_kept(oldest: datetime, team_id: str) -> Any:
    table = STORED_RESPONSES.c
    return and_(table.team_id == team_id, table.created_at >= oldest)


def _is_one(oldest: datetime, team_id: str, response_id: str) -> Any:
    """Whether a row is this response; one without a response is only a part of a conversation."""
    table = STORED_RESPONSES.c
    return and_(_is_kept(oldest, team_id), table.id == response_id, table.response != "")


def conversation_of(chain: Sequence[StoredResponse]) -> list[Any]:
    """Join the items of a conversation; takes long where it is long.

    Raises:
        InvalidRequest: What was asked has more pieces than any request may have.
    """
    refuse_excess("".join(one.input for one in chain).encode())
    return [item for one in chain for item in one.items()]


def bytes_of(text: str) -> int:
    """Return what a text takes in the database: two to four for a character beyond ASCII."""
    return len(text) if text.isascii() else len(text.encode())
