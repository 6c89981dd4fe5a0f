"""Empty databases of the newest schema, without a migration for each of them, and their end."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import Engine

from gateway.storage.database import create_database_engine, ensure_schema
from tests.fakes.patience import PATIENCE_S


@cache
def _migrated() -> bytes:
    """Migrate one SQLite database, of which the others are copies."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "waypost.db"
        engine = create_database_engine(f"sqlite:///{file}")
        ensure_schema(engine)
        engine.dispose()
        return file.read_bytes()


def with_schema(engine: Engine) -> Engine:
    """Bring a database to the newest schema; a new SQLite file becomes a copy of a migrated one."""
    name = engine.url.database
    if engine.dialect.name == "sqlite" and name and not Path(name).exists():
        Path(name).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        Path(name).write_bytes(_migrated())
        Path(name).chmod(0o600)
    else:
        ensure_schema(engine)
    return engine


@contextmanager
def closing(engine: Engine) -> Iterator[Engine]:
    """Close an engine at the end, after the calls that nobody waits for have left it.

    A look-up that took too long goes on in its thread. If the engine is disposed meanwhile, nobody
    closes that thread's connection.
    """
    try:
        yield engine
    finally:
        deadline = time.monotonic() + PATIENCE_S
        while engine.pool.checkedout() and time.monotonic() < deadline:  # type: ignore[attr-defined]
            time.sleep(0.01)
        engine.dispose()
