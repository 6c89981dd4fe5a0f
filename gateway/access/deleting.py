"""Deletes a team: what goes with it, and what stays."""

from typing import Final

from sqlalchemy import Engine, delete, func, select, update

from gateway.access.kept import count_kept, forget_exchanges, forget_responses, forget_texts
from gateway.access.keys import FIRST_TEAM, KeyStore, utc_now
from gateway.errors import Conflict
from gateway.storage.database import writing
from migrations.tables import KEYS, TEAMS

CHOICES: Final = ("logs_text", "trains_reasoner", "is_judged", "stores_responses")


def count_deleted(engine: Engine, team_id: str) -> dict[str, int]:
    """Count by kind what `delete_team` would delete.

    Raises:
        NotFound: There is no such team.
        Conflict: It is the one that first keys are made for.
    """
    KeyStore(engine).team(team_id)
    if team_id == FIRST_TEAM:
        raise Conflict(f"team {team_id!r} is the first one: revoke its keys", param="id")
    keys = select(func.count()).select_from(KEYS).where(KEYS.c.team_id == team_id)
    with engine.connect() as connection:
        kept = count_kept(connection, team_id, exchanges=True, responses=True, texts=True)
        return {"keys": connection.execute(keys).scalar_one(), **kept}


def delete_team(engine: Engine, team_id: str) -> None:
    """Delete a team with its keys, and erase all text that was kept of it.

    Its turns stay in the log without text, as they do of a deleted key, and so does its id. Budgets
    are lifted apart: gateways follow them by other means.

    Raises:
        NotFound, Conflict: As `count_deleted`.
    """
    count_deleted(engine, team_id)
    opted_out = dict.fromkeys(
        ("logs_text", "trains_reasoner", "is_judged", "stores_responses"), False
    )
    with writing(engine) as connection:
        connection.execute(delete(KEYS).where(KEYS.c.team_id == team_id))
        forget_exchanges(connection, team_id)
        forget_responses(connection, team_id)
        forget_texts(connection, team_id)
        gone = {"deleted_at": utc_now(), **opted_out}
        connection.execute(update(TEAMS).where(TEAMS.c.id == team_id).values(gone))
