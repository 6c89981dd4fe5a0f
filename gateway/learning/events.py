"""What the learner did, when and why: rows that are only added, the memory of the loop."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import Engine, RowMapping, func, insert, select

from gateway.storage.database import writing
from migrations.tables import LEARNING_EVENTS

What = Literal[
    "trained",  # a router was made; one of the next three, or `failed`, follows
    "refused",  # it does not serve: it may be worse
    "proposed",  # it waits for an operator
    "canary",  # it decides a share of the turns
    "activated",  # it serves
    "watched",  # what the watch of the active router has found so far
    "rolled_back",  # the router before it serves again
    "failed",  # nothing came of a step
    "skipped",  # there is nothing to learn from yet
]
ENDS: Final[tuple[What, ...]] = ("refused", "proposed", "canary", "activated", "failed", "skipped")
"""How a training may end. One that is killed ends in none of them, and is begun again."""
ACCEPTED: Final[Mapping[str, What]] = {
    "propose": "proposed",
    "canary": "canary",
    "activate": "activated",
}
"""What becomes of a router that was accepted, by `learning.on_acceptance`."""
GRADED_UNTIL: Final = "graded_until"
"""Figure of these: the time of the last grade that the training knew of."""
LEARNER: Final = "learner"
OPERATOR: Final = "operator"

Table = LEARNING_EVENTS


@dataclass(frozen=True, slots=True)
class Event:
    """One row of the table."""

    at: datetime
    who: str
    what: What
    why: str
    router_version: str | None = None
    former_version: str | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LearningEvents:
    """The table; every method is one short transaction."""

    engine: Engine

    def add(self, event: Event) -> None:
        """Add a row."""
        row = {name: getattr(event, name) for name in Event.__slots__}
        with writing(self.engine) as connection:
            connection.execute(insert(Table).values(row))

    def latest(self, *what: What, version: str | None = None) -> Event | None:
        """Return the last event, of these kinds where any are named, about `version` if given."""
        query = select(Table).order_by(Table.c.id.desc()).limit(1)
        if what:
            query = query.where(Table.c.what.in_(what))
        if version is not None:
            query = query.where(Table.c.router_version == version)
        with self.engine.connect() as connection:
            row = connection.execute(query).mappings().one_or_none()
        return None if row is None else _event(row)

    def latest_attempt(self) -> Event | None:
        """Return the last event that ended a training: it says up to which grade it went."""
        query = select(Table).where(Table.c.what.in_(ENDS)).order_by(Table.c.id.desc())
        with self.engine.connect() as connection:
            for row in connection.execute(query).mappings():
                if GRADED_UNTIL in row["figures"]:
                    return _event(row)
        return None

    def newest(self, count: int) -> Sequence[Event]:
        """Return the last events, the newest first."""
        query = select(Table).order_by(Table.c.id.desc()).limit(count)
        with self.engine.connect() as connection:
            return [_event(row) for row in connection.execute(query).mappings()]

    def count(self) -> Mapping[str, tuple[int, datetime]]:
        """Count the events of each kind, with the time of the last."""
        query = select(Table.c.what, func.count(), func.max(Table.c.at)).group_by(Table.c.what)
        with self.engine.connect() as connection:
            return {what: (number, at) for what, number, at in connection.execute(query)}

    def rolled_back(self) -> frozenset[str]:
        """Return the versions that did worse than the one before them."""
        query = select(Table.c.router_version).where(Table.c.what == "rolled_back")
        with self.engine.connect() as connection:
            return frozenset(connection.execute(query).scalars())


def _event(row: RowMapping) -> Event:
    return Event(**{name: row[name] for name in Event.__slots__})
