"""What was kept of what a team asked, because it chose so: counted, and erased."""

from typing import Any

from sqlalchemy import Connection, Table, delete, func, or_, select, true, update

from migrations.tables import CONVERSATIONS, GRADES, STORED_RESPONSES, TURNS

HAS_EXCHANGE = or_(TURNS.c.messages.is_not(None), TURNS.c.answer.is_not(None))
HAS_VERIFIER = GRADES.c.verifier.is_not(None)
EXCHANGES: dict[str, tuple[Table, Any]] = {
    "exchanges": (TURNS, HAS_EXCHANGE),
    "verifiers": (GRADES, HAS_VERIFIER),
}
RESPONSES: dict[str, tuple[Table, Any]] = {
    "stored responses": (STORED_RESPONSES, true()),
    "conversations": (CONVERSATIONS, true()),
}
TEXTS = {"texts of queries": TURNS.c.query_text, "comments of grades": GRADES.c.comment}


def count_kept(
    connection: Connection,
    team_id: str,
    *,
    exchanges: bool = False,
    responses: bool = False,
    texts: bool = False,
) -> dict[str, int]:
    """Count by kind what is kept for a reasoner to learn from, of the Responses API, of queries."""
    asked = (EXCHANGES if exchanges else {}) | (RESPONSES if responses else {})
    if texts:
        asked |= {what: (column.table, column.is_not(None)) for what, column in TEXTS.items()}
    found = {
        what: connection.execute(
            select(func.count()).select_from(table).where(table.c.team_id == team_id, condition)
        ).scalar_one()
        for what, (table, condition) in asked.items()
    }
    return {what: count for what, count in found.items() if count}


def forget_exchanges(connection: Connection, team_id: str) -> None:
    """Erase what a reasoner would learn from; turns and grades themselves stay."""
    of_team = TURNS.c.team_id == team_id
    connection.execute(
        update(TURNS).where(of_team, HAS_EXCHANGE).values(messages=None, answer=None)
    )
    connection.execute(
        update(GRADES).where(GRADES.c.team_id == team_id, HAS_VERIFIER).values(verifier=None)
    )


def forget_responses(connection: Connection, team_id: str) -> None:
    """Erase stored responses and conversations."""
    for table, _ in RESPONSES.values():
        connection.execute(delete(table).where(table.c.team_id == team_id))


def forget_texts(connection: Connection, team_id: str) -> None:
    """Erase the texts of queries and the comments of grades; turns and grades themselves stay."""
    for column in TEXTS.values():
        of_team = column.table.c.team_id == team_id
        connection.execute(
            update(column.table).where(of_team, column.is_not(None)).values({column.name: None})
        )
