"""The operators' side of the evaluation log: one turn by any of its ids, and what was spent."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query
from sqlalchemy import Engine

from gateway.access.keys import MAX_PAGE
from gateway.budgets.definitions import scope_digest
from gateway.errors import InvalidRequest, NotFound
from gateway.evaluation_log.one_turn import find_turns
from gateway.evaluation_log.spend import By, Spending, parse_by, spend, usd

MAX_CURSOR_CHARS = 4096


@dataclass(frozen=True, slots=True)
class SpendParameters:
    """What to add up; the fields are the parameters of the query string.

    Attributes:
        user: As callers call it, within `team`.
    """

    by: str = "team"
    since: datetime | None = None
    until: datetime | None = None
    team: str | None = None
    key: str | None = None
    user: str | None = None
    model: str | None = None
    task: str | None = None

    def spending(self) -> Spending:
        """Check them.

        Raises:
            InvalidRequest: A name in `by` is unknown, or a user is named without its team.
        """
        try:
            by = parse_by(self.by)
        except ValueError as error:
            raise InvalidRequest(f"by: {error}", param="by") from error
        user = self.user
        if user is not None:
            if self.team is None:
                raise InvalidRequest("user: users are named within a team; give team", param="user")
            user = scope_digest(self.team, "user", user)
        only: dict[By, str | None] = {
            "team": self.team,
            "key": self.key,
            "user": user,
            "model": self.model,
            "task": self.task,
        }
        where = {name: value for name, value in only.items() if value is not None}
        return Spending(by, _in_utc(self.since), _in_utc(self.until), where)


def log_endpoints(engine: Engine) -> APIRouter:
    """Make the endpoints that read what the log holds."""
    endpoints = APIRouter(tags=["log"])

    @endpoints.get("/turns/{turn_id}")
    def show_turn(turn_id: str) -> dict[str, Any]:
        """Show the turn with this id of a request, decision or answer, or all turns of a trace."""
        found = find_turns(engine, turn_id)
        if not found:
            raise NotFound(f"no turn has the id {turn_id[:80]!r}", param="turn_id")
        return {"data": found}

    @endpoints.get("/spend")
    def show_spend(
        asked: Annotated[SpendParameters, Depends()],
        after: Annotated[
            str | None,
            Query(max_length=MAX_CURSOR_CHARS, description="`next_after` of the previous page."),
        ] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
    ) -> dict[str, Any]:
        """Show what was spent, a page at a time, in the order of what makes a row."""
        spending = asked.spending()
        last = None if after is None else _read_cursor(after, len(spending.by))
        rows = spend(engine, spending, after=last, limit=limit)
        data = [{**row, "cost_usd": usd(row["cost_nusd"])} for row in rows]
        is_whole = len(rows) < limit
        cursor = None if is_whole else orjson.dumps([rows[-1][name] for name in spending.by])
        return {"data": data, "next_after": None if cursor is None else cursor.decode()}

    return endpoints


def _read_cursor(text: str, length: int) -> list[str]:
    """Read what makes the last row of the page before.

    Raises:
        InvalidRequest: It is not what a page said.
    """
    try:
        values = orjson.loads(text)
    except ValueError:
        values = None
    is_list = isinstance(values, list) and len(values) == length
    if not is_list or not all(isinstance(value, str) for value in values):
        raise InvalidRequest("after: give `next_after` of the page before", param="after")
    return list(values)


def _in_utc(moment: datetime | None) -> datetime | None:
    """Take a time without a zone for one in UTC."""
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
