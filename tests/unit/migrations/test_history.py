from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import pairwise

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, insert, inspect, text
from sqlalchemy.exc import StatementError

from gateway.storage.database import create_database_engine, ensure_schema, schema_revision
from migrations import history
from migrations.tables import HEAD_REVISION, METADATA, TEAMS


@pytest.fixture
def url(database_url: str) -> str:
    return database_url


@pytest.fixture
def engine(url: str):
    engine = create_database_engine(url)
    yield engine
    engine.dispose()


def test_migrations_lead_to_the_tables(engine: Engine):
    history.upgrade(engine)

    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_the_head_named_in_tables_is_the_newest_revision(engine: Engine):
    history.upgrade(engine)

    assert history.head() == HEAD_REVISION
    assert schema_revision(engine) == HEAD_REVISION
    with engine.connect() as connection:
        assert history.current(connection) == HEAD_REVISION


def test_a_database_without_schema_has_no_revision(engine: Engine):
    assert schema_revision(engine) is None


def test_ensuring_the_schema_twice_does_it_once(engine: Engine):
    assert ensure_schema(engine)
    assert not ensure_schema(engine)


def test_downgrade_removes_every_table(engine: Engine):
    history.upgrade(engine)

    history.downgrade(engine, "base")

    assert inspect(engine).get_table_names() == ["alembic_version"]


def test_a_time_without_zone_is_refused(engine: Engine):
    history.upgrade(engine)
    team = insert(TEAMS).values(id="t", logs_text=False, created_at=datetime(2026, 11, 1))  # noqa: DTZ001

    with pytest.raises(StatementError, match="naive"), engine.begin() as connection:
        connection.execute(team)


def test_processes_may_migrate_at_the_same_time(url: str):
    engines = [create_database_engine(url) for _ in range(4)]
    try:
        with ThreadPoolExecutor(len(engines)) as pool:
            list(pool.map(ensure_schema, engines))

        assert schema_revision(engines[0]) == HEAD_REVISION
    finally:
        for engine in engines:
            engine.dispose()


def test_a_newer_schema_is_served_as_it_is(engine: Engine):
    history.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    assert not ensure_schema(engine)
    assert schema_revision(engine) == "9999"


@pytest.mark.parametrize(("earlier", "later"), list(pairwise(history.revisions())))
def test_a_revision_takes_nothing_from_the_release_before(engine: Engine, earlier: str, later: str):
    history.upgrade(engine, earlier)
    before = columns(engine)

    history.upgrade(engine, later)

    after = columns(engine)
    assert {name: after.get(name) for name in before} == before
    added = [column for name, column in after.items() if name not in before]
    known = {table for table, _ in before}
    assert all(is_optional for (table, _, is_optional) in added if table in known)


def columns(engine: Engine) -> dict[tuple[str, str], tuple[str, str, bool]]:
    """Describe each column: its table, its type, and whether an insert may leave it out."""
    inspector = inspect(engine)
    return {
        (table, column["name"]): (
            table,
            str(column["type"]),
            column["nullable"] or column["default"] is not None,
        )
        for table in inspector.get_table_names()
        for column in inspector.get_columns(table)
    }
