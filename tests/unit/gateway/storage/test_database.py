import sqlite3
import stat

import psycopg
import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import (
    DataError,
    IntegrityError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    SQLAlchemyError,
    StatementError,
)

from gateway.settings.config import ConfigurationError
from gateway.storage.database import (
    create_database_engine,
    dump_json,
    is_row_fault,
    summary,
    wait_for_database,
    writing,
)


def wrapped(kind, original):
    return kind("INSERT secret", {"query_text": "secret"}, original)


@pytest.mark.parametrize("url", ["nonsense", "mysql://host/db", "", "sqlite+aiosqlite//x"])
def test_a_url_that_cannot_be_used_is_refused(url):
    with pytest.raises(ConfigurationError, match=r"database\.url"):
        create_database_engine(url)


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("postgres://u:p@h/d", "postgresql+psycopg"),
        ("postgresql://u:p@h/d", "postgresql+psycopg"),
        ("postgresql+asyncpg://u:p@h/d", "postgresql+psycopg"),
        ("sqlite:///x.db", "sqlite+pysqlite"),
    ],
)
def test_one_driver_serves_every_spelling_of_a_url(url, driver):
    engine = create_database_engine(url)

    assert engine.url.drivername == driver
    assert engine.hide_parameters


def test_the_sqlite_file_and_its_directory_are_private(tmp_path):
    engine = create_database_engine(f"sqlite:///{tmp_path / 'new' / 'waypost.db'}")
    with engine.connect():
        pass
    engine.dispose()

    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "new" / "waypost.db").stat().st_mode) == 0o600


def test_a_directory_that_cannot_be_made_is_a_database_error(tmp_path):
    (tmp_path / "file").write_text("")
    engine = create_database_engine(f"sqlite:///{tmp_path / 'file' / 'waypost.db'}")

    with pytest.raises(OperationalError, match="unable to open database file"):
        engine.connect()


def test_a_database_in_memory_is_one_database():
    engine = create_database_engine("sqlite://")
    with writing(engine) as connection:
        connection.execute(text("CREATE TABLE t (x INTEGER)"))
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM t")).scalar() == 0
    engine.dispose()


def test_a_writing_transaction_takes_the_lock_at_once(tmp_path):
    engine = create_database_engine(f"sqlite:///{tmp_path / 'w.db'}")
    statements = []
    event.listen(engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
    with writing(engine):
        pass
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    engine.dispose()

    assert [s for s in statements if s.startswith("BEGIN")] == ["BEGIN IMMEDIATE", "BEGIN"]


@pytest.mark.parametrize(
    "error",
    [
        wrapped(DataError, psycopg.DataError()),
        wrapped(IntegrityError, sqlite3.IntegrityError()),
        wrapped(NotSupportedError, psycopg.NotSupportedError()),
        wrapped(ProgrammingError, sqlite3.ProgrammingError("Error binding parameter 1")),
        wrapped(ProgrammingError, psycopg.ProgrammingError("cannot adapt type")),
        wrapped(OperationalError, psycopg.errors.ProgramLimitExceeded()),
        StatementError("", "", {}, ValueError()),
        OverflowError(),
        TypeError(),
    ],
    ids=repr,
)
def test_what_the_row_is_to_blame_for_is_not_tried_again(error):
    assert is_row_fault(error)


@pytest.mark.parametrize(
    "error",
    [
        wrapped(OperationalError, sqlite3.OperationalError("database is locked")),
        wrapped(OperationalError, psycopg.OperationalError("connection refused")),
        wrapped(OperationalError, psycopg.errors.AdminShutdown()),
        wrapped(OperationalError, psycopg.errors.QueryCanceled()),
        wrapped(ProgrammingError, psycopg.errors.UndefinedTable()),
        SQLAlchemyError("pool"),
        OSError(),
    ],
    ids=repr,
)
def test_everything_else_is_an_outage(error):
    assert not is_row_fault(error)


def test_a_summary_holds_neither_statement_nor_row():
    error = wrapped(IntegrityError, sqlite3.IntegrityError("NOT NULL failed\nDETAIL: secret"))

    assert summary(error) == "IntegrityError: NOT NULL failed"
    assert summary(ValueError("x")) == "ValueError: x"


def test_json_never_holds_what_postgres_cannot():
    assert dump_json({"a": "\x00"}) == '{"a":"\\ufffd"}'


def test_waits_until_the_database_is_there(tmp_path):
    blocked = tmp_path / "data"
    blocked.write_text("a file where the directory should be")
    engine = create_database_engine(f"sqlite:///{blocked / 'waypost.db'}")

    wait_for_database(engine, 60, sleep=lambda _: blocked.unlink())

    with engine.connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 1
    engine.dispose()


def test_gives_up_on_a_database_that_never_comes(tmp_path):
    blocked = tmp_path / "data"
    blocked.write_text("a file where the directory should be")
    engine = create_database_engine(f"sqlite:///{blocked / 'waypost.db'}")
    waited_s: list[float] = []

    with pytest.raises(OperationalError):
        wait_for_database(engine, 2, clock=lambda: sum(waited_s), sleep=waited_s.append)

    assert sum(waited_s) == 2
