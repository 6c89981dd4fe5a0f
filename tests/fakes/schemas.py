"""Empty databases of the newest schema, without a migration for each of them."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import Engine

from gateway.storage.database import create_database_engine, ensure_schema


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
        Path(name).write_bytes(_migrated())
    else:
        ensure_schema(engine)
    return engine
