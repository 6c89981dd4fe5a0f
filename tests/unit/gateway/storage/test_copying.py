"""A database copied into another one, both ways between SQLite and a real Postgres."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, Table, func, insert, select, text

from gateway.access.auth import Authenticator
from gateway.access.keys import KeyStore
from gateway.evaluation_log.row_layout import to_row
from gateway.settings.config import ConfigurationError, KeySettings
from gateway.storage import copying
from gateway.storage.copying import COPIED, copy_all
from gateway.storage.database import create_database_engine, ensure_schema, schema_revision
from gateway.storage.rows import insert_rows
from migrations import history
from migrations.history import revisions
from migrations.tables import (
    HEAD_REVISION,
    KEYS,
    LEARNING_EVENTS,
    METADATA,
    TEAMS,
    TURNS,
    Json,
    UtcDateTime,
)
from tests.fakes.patience import PATIENCE_S
from tests.fakes.postgres import Postgres
from tests.fakes.schemas import with_schema
from tests.fakes.turns import make_turn

LONG_AGO = datetime(2026, 3, 1, 12, 30, 15, 123456, UTC)


@pytest.fixture(params=["sqlite to postgres", "postgres to sqlite"])
def engines(
    request: pytest.FixtureRequest, tmp_path: Path, postgres: Postgres
) -> Iterator[tuple[Engine, Engine]]:
    urls = [f"sqlite:///{tmp_path / 'waypost.db'}", postgres.new_database()]
    if request.param == "postgres to sqlite":
        urls.reverse()
    source, target = map(create_database_engine, urls)
    with_schema(source)
    yield source, target
    source.dispose()
    target.dispose()


def a_row(table: Table, number: int) -> dict[str, Any]:
    """Make a row with a value in every column."""
    return {column.name: a_value(column, number) for column in table.c}


def a_value(column: Any, number: int) -> Any:
    if column.foreign_keys:
        return f"id-{number}"
    if isinstance(column.type, UtcDateTime):
        return LONG_AGO
    if isinstance(column.type, Json):
        return [{"model": f"größe {number}", "quality": 0.1 + number, "is_eligible": True}]
    kind = column.type.python_type
    if kind is str:
        return f"id-{number}" if column.primary_key else f"Größe {number} \U0001f600"
    return {bool: True, bytes: bytes([0, number, 255]), int: 2**40 + number, float: 0.1 + number}[
        kind
    ]


def all_rows(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """Read everything that is copied, but for what the database numbers itself."""
    with engine.connect() as connection:
        return {
            table.name: [
                {name: value for name, value in row.items() if (table, name) != (KEYS, "version")}
                for row in connection.execute(select(table).order_by(*table.primary_key)).mappings()
            ]
            for table in COPIED
        }


def small(table: Table, row: dict[str, Any]) -> dict[str, Any]:
    """Keep to 32 bits where the column has no more."""
    return {
        name: value % 1000
        if isinstance(value, int) and str(table.c[name].type) == "INTEGER"
        else value
        for name, value in row.items()
    }


def fill(engine: Engine, rows: int) -> None:
    with engine.begin() as connection:
        for table in METADATA.sorted_tables:
            if table in COPIED:
                connection.execute(
                    insert(table), [small(table, a_row(table, number)) for number in range(rows)]
                )


def test_every_column_of_every_table_arrives_as_it_was(engines, monkeypatch) -> None:
    monkeypatch.setattr(copying, "ROWS_AT_ONCE", 2)
    source, target = engines
    fill(source, rows=5)

    counts = copy_all(source, target)

    assert counts == {table.name: 5 for table in COPIED}
    assert all_rows(target) == all_rows(source)
    assert schema_revision(target) == HEAD_REVISION


def test_candidates_stay_stored_by_column(engines) -> None:
    source, target = engines
    with source.begin() as connection:
        insert_rows(connection, [to_row(make_turn(1))])

    copy_all(source, target)

    with target.connect() as connection:
        assert '"model": [' in str(connection.scalar(text("SELECT candidates FROM turns"))).replace(
            "'", '"'
        ).replace('":[', '": [')
        assert connection.scalar(select(TURNS.c.candidates))[0]["model"] == "small"


async def test_keys_work_and_can_be_revoked_in_the_new_database(engines) -> None:
    source, target = engines
    store = KeyStore(source)
    store.create_team("blue")
    key = store.create_key("blue", "k")

    copy_all(source, target)

    authenticator = Authenticator(target, KeySettings(read_timeout_s=PATIENCE_S))
    secret = key.secret.get_secret_value().encode()
    assert (await authenticator.authenticate(secret)).team_id == "blue"
    authenticator.close()
    KeyStore(target).revoke_key(key.info.id)
    with target.connect() as connection:
        assert connection.scalar(select(KEYS.c.version)) > 1


def test_new_events_are_numbered_after_those_that_were_copied(engines) -> None:
    source, target = engines
    fill(source, rows=3)

    copy_all(source, target)

    row = a_row(LEARNING_EVENTS, 9)
    del row["id"]
    with target.begin() as connection:
        highest = connection.scalar(select(func.max(LEARNING_EVENTS.c.id)))
        (made,) = connection.execute(insert(LEARNING_EVENTS), row).inserted_primary_key
    assert made == highest + 1


def test_an_empty_gateway_can_be_copied(engines) -> None:
    source, target = engines

    assert set(copy_all(source, target).values()) == {0}
    with target.begin() as connection:
        row = a_row(LEARNING_EVENTS, 1)
        del row["id"]
        assert connection.execute(insert(LEARNING_EVENTS), row).inserted_primary_key == (1,)


def test_what_fails_leaves_nothing_behind(engines, monkeypatch) -> None:
    source, target = engines
    fill(source, rows=2)
    copied: list[str] = []

    def fail(table: str, rows: int) -> None:
        copied.append(table)
        if table == TURNS.name:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        copy_all(source, target, fail)

    assert len(copied) > 1
    assert not any(all_rows(target).values())
    assert copy_all(source, target)[TEAMS.name] == 2


def test_a_database_that_holds_rows_is_not_written_to(engines) -> None:
    source, target = engines
    ensure_schema(target)
    KeyStore(target).create_team("theirs")

    with pytest.raises(ConfigurationError, match=r"not empty: teams has 1 rows"):
        copy_all(source, target)

    assert [row["id"] for row in all_rows(target)["teams"]] == ["theirs"]


def test_an_older_empty_target_is_upgraded_and_a_newer_one_refused(engines) -> None:
    source, target = engines
    history.upgrade(target, revisions()[0])
    copy_all(source, target)
    assert schema_revision(target) == HEAD_REVISION

    with target.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigurationError, match="newer Waypost"):
        copy_all(source, target)


def test_an_older_source_is_to_be_upgraded_first(engines) -> None:
    source, target = engines
    history.downgrade(source, revisions()[-2])

    with pytest.raises(ConfigurationError, match="waypost database upgrade"):
        copy_all(source, target)

    with pytest.raises(ConfigurationError, match="same database"):
        copy_all(source, source)
