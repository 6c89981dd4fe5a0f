"""The database dies under load: no row is lost or doubled, and recording never fails."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine, event, func, select, text

from gateway.evaluation_log.evaluation_log import EvaluationLog
from gateway.settings.config import EvaluationLogSettings
from gateway.storage.database import create_database_engine, ensure_schema
from migrations.tables import TURNS
from tests.fakes.log_writer import ROWS
from tests.fakes.patience import PATIENCE_S
from tests.fakes.postgres import Postgres, running_postgres
from tests.fakes.turns import make_turn, until

ROOT = Path(__file__).resolve().parents[2]
# More room in memory than any outage here fills, however slowly a database comes back.
SETTINGS = EvaluationLogSettings(
    flush_interval_s=0.02, batch_rows=50, queue_rows=1_000_000, retention_days=None
)
NOBODY = 65534


class Load:
    """Records turns at a steady rate on the event loop."""

    def __init__(self, log: EvaluationLog) -> None:
        self.recorded = 0
        self._log = log
        self._task = asyncio.create_task(self._record())

    async def _record(self) -> None:
        while True:
            for _ in range(5):
                self._log.record(make_turn(self.recorded))
                self.recorded += 1
            await asyncio.sleep(0.005)

    async def more(self, rows: int) -> None:
        """Wait until `rows` more are recorded."""
        target = self.recorded + rows
        await until(lambda: self.recorded >= target or self._task.done())
        assert not self._task.done()

    async def stop(self) -> None:
        """Stop recording; recording must not have failed."""
        assert not self._task.done()
        self._task.cancel()
        await asyncio.wait([self._task])


@pytest.fixture(scope="module")
def postgres():
    with running_postgres() as server:
        yield server


@pytest.fixture
def sqlite_file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "waypost.db"


def open_engine(url: str) -> Engine:
    engine = create_database_engine(url, busy_timeout_s=0.05)
    ensure_schema(engine)
    return engine


def count_rows(engine: Engine) -> tuple[int, int]:
    with engine.connect() as connection:
        total, distinct = connection.execute(
            select(func.count(), func.count(func.distinct(TURNS.c.request_id)))
        ).one()
        return total, distinct


async def survive(
    log: EvaluationLog,
    engine: Engine,
    break_it: Callable[[], object],
    mend_it: Callable[[], object],
) -> None:
    """Break the database under load twice, mend it each time, and count the rows."""
    log.start()
    load = Load(log)
    await load.more(50)
    for _ in range(2):
        await until(lambda: log.counters.written > 0 and not log.is_database_down)
        await asyncio.to_thread(break_it)
        await until(lambda: log.is_database_down)
        await load.more(50)
        await asyncio.to_thread(mend_it)
        await until(lambda: not log.is_database_down)
        await load.more(50)
    await load.stop()
    await until(lambda: log.counters.written >= load.recorded)
    await log.aclose()

    assert count_rows(engine) == (load.recorded, load.recorded)
    assert log.counters.spooled > 0
    assert log.counters.replayed == log.counters.spooled
    assert log.counters.dropped == 0
    assert log.spool_bytes == 0


async def test_postgres_killed_and_restarted_under_load_loses_nothing(
    postgres: Postgres, tmp_path: Path
):
    engine = open_engine(postgres.new_database())
    log = EvaluationLog(engine, SETTINGS, tmp_path / "spool")
    try:
        await survive(log, engine, postgres.kill, postgres.start)
    finally:
        engine.dispose()


async def test_postgres_cutting_its_connections_under_load_loses_nothing(
    postgres: Postgres, tmp_path: Path
):
    engine = open_engine(postgres.new_database())
    log = EvaluationLog(engine, SETTINGS, tmp_path / "spool")
    try:
        await survive(log, engine, postgres.stop, postgres.start)
    finally:
        engine.dispose()


async def test_a_frozen_postgres_does_not_hold_up_the_end(postgres: Postgres, tmp_path: Path):
    engine = open_engine(postgres.new_database())
    log = EvaluationLog(engine, SETTINGS, tmp_path / "spool")
    log.start()
    log.record(make_turn(0))
    await until(lambda: log.counters.written == 1)
    postgres.pause()
    log.record(make_turn(1))
    log.record(make_turn(2))

    await log.aclose(grace_s=0.2)

    await until(lambda: log.counters.spooled == 2)
    postgres.resume()
    following = EvaluationLog(engine, SETTINGS, tmp_path / "spool")
    following.start()
    await until(lambda: following.counters.replayed == 2)
    await following.aclose()
    assert count_rows(engine) == (3, 3)
    engine.dispose()


async def test_sqlite_locked_by_another_process_under_load_loses_nothing(
    sqlite_file: Path, tmp_path: Path
):
    engine = open_engine(f"sqlite:///{sqlite_file}")
    other = sqlite3.connect(
        sqlite_file, isolation_level=None, check_same_thread=False, timeout=PATIENCE_S
    )
    log = EvaluationLog(engine, SETTINGS, tmp_path / "spool")
    try:
        await survive(
            log,
            engine,
            lambda: other.execute("BEGIN IMMEDIATE") and None,
            lambda: other.execute("ROLLBACK") and None,
        )
    finally:
        other.close()
        engine.dispose()


async def test_a_full_disk_under_load_loses_nothing(sqlite_file: Path, tmp_path: Path):
    engine, most_pages = open_engine(f"sqlite:///{sqlite_file}"), [2**30]

    def limit(connection: sqlite3.Connection, *_: object) -> None:
        # Never less than there are; SQLite then says that the disk is full.
        connection.execute(f"PRAGMA max_page_count = {most_pages[0]}")

    event.listen(engine, "checkout", limit)
    log = EvaluationLog(engine, SETTINGS, tmp_path / "spool")
    try:
        await survive(
            log,
            engine,
            lambda: most_pages.__setitem__(0, 1),
            lambda: most_pages.__setitem__(0, 2**30),
        )
    finally:
        engine.dispose()


async def test_a_start_without_any_database_spools_until_there_is_one(tmp_path: Path):
    (tmp_path / "data").write_text("a file where the directory should be")
    url = f"sqlite:///{tmp_path / 'data' / 'waypost.db'}"
    engine = create_database_engine(url)
    log = EvaluationLog(engine, SETTINGS, tmp_path / "spool")
    log.start()
    for number in range(120):
        log.record(make_turn(number))
    await until(lambda: log.counters.spooled == 120)

    (tmp_path / "data").unlink()
    open_engine(url).dispose()
    await until(lambda: log.counters.replayed == 120)
    await log.aclose()

    assert count_rows(engine) == (120, 120)
    engine.dispose()


def start_writer(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.log_writer", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )


async def test_what_a_killed_process_spooled_the_next_one_replays(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'waypost.db'}"
    engine = open_engine(url)
    blocker = sqlite3.connect(tmp_path / "waypost.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    spool_dir = tmp_path / "spool"
    writers = [start_writer(url, str(spool_dir), prefix) for prefix in ("a", "b")]
    for writer in writers:
        assert writer.stdout is not None
        line = await asyncio.to_thread(writer.stdout.readline)
        assert line == f"spooled {ROWS} written 0\n"
        writer.kill()
        writer.wait()
        writer.stdout.close()
    blocker.close()

    log = EvaluationLog(engine, SETTINGS, spool_dir)
    log.start()
    await until(lambda: log.counters.replayed == 2 * ROWS)
    await log.aclose()

    assert count_rows(engine) == (2 * ROWS, 2 * ROWS)
    assert log.spool_bytes == 0
    engine.dispose()


async def test_a_directory_that_cannot_be_written_sends_rows_to_the_spool(tmp_path: Path):
    data = tmp_path / "data"
    url = f"sqlite:///{data / 'waypost.db'}"
    open_engine(url).dispose()
    spool_dir = tmp_path / "spool"
    spool_dir.mkdir()
    user = _give_to_nobody(tmp_path, spool_dir)
    data.chmod(0o555)
    (data / "waypost.db").chmod(0o444)
    writer = start_writer(url, str(spool_dir), "c", *user)
    assert writer.stdout is not None
    line = await asyncio.to_thread(writer.stdout.readline)
    writer.kill()
    writer.wait()
    writer.stdout.close()
    data.chmod(0o755)
    (data / "waypost.db").chmod(0o644)
    assert line == f"spooled {ROWS} written 0\n"

    engine = open_engine(url)
    log = EvaluationLog(engine, SETTINGS, spool_dir)
    log.start()
    await until(lambda: log.counters.replayed == ROWS)
    await log.aclose()
    assert count_rows(engine) == (ROWS, ROWS)
    engine.dispose()


async def test_a_table_locked_for_long_does_not_hold_up_the_writer(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gateway.storage.rows.STATEMENT_TIMEOUT_S", 1)
    engine = open_engine(postgres.new_database())
    log = EvaluationLog(engine, SETTINGS, tmp_path / "spool")
    with engine.begin() as locker:
        locker.execute(text("LOCK TABLE turns IN ACCESS EXCLUSIVE MODE"))
        log.start()
        log.record(make_turn(1))
        await until(lambda: log.counters.spooled == 1)
    await until(lambda: log.counters.replayed == 1)
    await log.aclose()

    assert count_rows(engine) == (1, 1)
    engine.dispose()


def _give_to_nobody(tmp_path: Path, spool_dir: Path) -> list[str]:
    """Root may write everywhere, so as root the writer runs as nobody."""
    if os.geteuid() != 0:
        return []
    for directory in (tmp_path, *tmp_path.parents):
        if directory == Path(tempfile.gettempdir()):
            break
        directory.chmod(0o755)
    shutil.chown(spool_dir, NOBODY, NOBODY)
    return [str(NOBODY)]
