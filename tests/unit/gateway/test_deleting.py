"""A team is deleted: its keys and texts go, its turns and its id stay."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, select

from gateway.access.auth import Authenticator
from gateway.access.keys import FIRST_TEAM, KeyStore, ensure_first_key
from gateway.cli import cli
from gateway.deleting import count_deleted, delete_team
from gateway.errors import Conflict, NotFound, Unauthenticated
from gateway.evaluation_log.grades import GradeRecord
from gateway.evaluation_log.row_layout import to_row
from gateway.settings.config import KeySettings
from gateway.storage.database import create_database_engine
from gateway.storage.rows import insert_rows
from migrations.tables import GRADES, TURNS
from tests.fakes.patience import PATIENCE_S
from tests.fakes.schemas import with_schema
from tests.fakes.turns import make_turn


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = create_database_engine(database_url)
    with_schema(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def store(engine: Engine) -> KeyStore:
    """Two teams, each with a key and a turn whose text was kept."""
    store = KeyStore(engine)
    for number, team in enumerate(("blue", "red")):
        store.create_team(team, logs_text=True, trains_reasoner=True, is_judged=True)
        store.create_key(team, "k")
        turn = replace(
            make_turn(number, team_id=team, query_text="What is secret?"),
            messages=({"role": "user", "content": "What is secret?"},),
            answer="This.",
        )
        grade = GradeRecord(
            f"g{number}", turn.answer_id or "", team, "me", "feedback", 1.0, "secret", 1.76e9
        )
        with engine.begin() as connection:
            insert_rows(connection, [to_row(turn), to_row(grade)])
    return store


def kept(engine: Engine) -> dict[str, tuple[object, ...]]:
    """Return what is kept of each team's turn and grade in words."""
    query = select(
        TURNS.c.team_id, TURNS.c.query_text, TURNS.c.messages, TURNS.c.answer, GRADES.c.comment
    ).join(GRADES, GRADES.c.team_id == TURNS.c.team_id)
    with engine.connect() as connection:
        return {row.team_id: tuple(row)[1:] for row in connection.execute(query)}


def test_its_keys_and_all_text_go_and_its_turns_and_grades_stay(engine, store) -> None:
    counted = count_deleted(engine, "blue")
    delete_team(engine, "blue")

    assert counted == {
        "keys": 1,
        "exchanges": 1,
        "texts of queries": 1,
        "comments of grades": 1,
        "budgets": 0,
    }
    found = kept(engine)
    assert found["blue"] == (None, None, None, None)
    assert None not in found["red"]
    assert [key.team_id for key in store.keys(limit=9)] == ["red"]
    assert [team.id for team in store.teams()] == ["red"]
    with pytest.raises(NotFound):
        store.team("blue")


async def test_a_running_gateway_lets_its_keys_in_no_more(engine, store) -> None:
    key = store.create_key("blue", "another").secret.get_secret_value().encode()
    now_s = 1_000.0
    settings = KeySettings(read_timeout_s=PATIENCE_S)
    authenticator = Authenticator(engine, settings, monotonic=lambda: now_s)
    assert await authenticator.authenticate(key)

    delete_team(engine, "blue")
    now_s += settings.staleness_s
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(key)
    authenticator.close()


def test_its_id_is_not_given_to_another_team(engine, store) -> None:
    delete_team(engine, "blue")

    with pytest.raises(Conflict, match="was deleted: take another id"):
        store.create_team("blue")
    with pytest.raises(NotFound):
        delete_team(engine, "blue")


def test_the_team_of_first_keys_stays(engine) -> None:
    ensure_first_key(engine)

    with pytest.raises(Conflict, match="is the first one"):
        delete_team(engine, FIRST_TEAM)


def test_an_operator_is_asked_and_budgets_go_too(tmp_path: Path) -> None:
    config = tmp_path / "waypost.toml"
    config.write_text(f'data_dir = "{tmp_path}"\n')

    def run(*arguments: str) -> str:
        group, command, *rest = arguments
        return CliRunner().invoke(cli, [group, command, "--config", str(config), *rest]).output

    run("teams", "create", "blue")
    run("keys", "create", "--team", "blue", "--name", "k")
    run("budgets", "create", "--team", "blue", "--usd", "5", "--per", "month")

    assert "give --yes" in run("teams", "delete", "blue")
    assert "would do: delete the team blue: 1 keys, 1 budgets" in run(
        "teams", "delete", "blue", "--dry-run"
    )
    assert "deleted the team blue: 1 keys, 1 budgets" in run("teams", "delete", "blue", "--yes")
    left = run("teams", "list"), run("keys", "list"), run("budgets", "list")
    assert not any("blue" in each for each in left)
