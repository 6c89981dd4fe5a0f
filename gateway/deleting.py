"""Deletes a team: what goes with it, and what stays."""

from sqlalchemy import Engine, delete, func, select, update

from gateway.access.kept import count_kept, forget_exchanges, forget_responses, forget_texts
from gateway.access.keys import FIRST_TEAM, TEAM_CHOICES, KeyStore, utc_now
from gateway.budgets.definitions import BudgetDefinitions
from gateway.errors import Conflict
from gateway.storage.database import writing
from migrations.tables import BUDGETS, KEYS, TEAMS


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
    budgets = select(func.count()).select_from(BUDGETS)
    budgets = budgets.where(BUDGETS.c.team_id == team_id, BUDGETS.c.deleted_at.is_(None))
    with engine.connect() as connection:
        return {
            "keys": connection.execute(keys).scalar_one(),
            **count_kept(connection, team_id, exchanges=True, responses=True, texts=True),
            "budgets": connection.execute(budgets).scalar_one(),
        }


def delete_team(engine: Engine, team_id: str) -> dict[str, int]:
    """Delete a team with its keys and budgets, and erase all text that was kept of it.

    Its turns stay in the log without text, as they do of a deleted key, and so does its id.
    Budgets go last: a process that is killed before that leaves caps without keys, and not keys
    without caps.

    Returns:
        What was deleted, as `count_deleted` counts it.

    Raises:
        NotFound, Conflict: As `count_deleted`.
    """
    counted = count_deleted(engine, team_id)
    with writing(engine) as connection:
        connection.execute(delete(KEYS).where(KEYS.c.team_id == team_id))
        forget_exchanges(connection, team_id)
        forget_responses(connection, team_id)
        forget_texts(connection, team_id)
        gone = {"deleted_at": utc_now(), **dict.fromkeys(TEAM_CHOICES, False)}
        connection.execute(update(TEAMS).where(TEAMS.c.id == team_id).values(gone))
    BudgetDefinitions(engine).delete_of_team(team_id)
    return counted
