from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from gateway.storage.database import create_database_engine
from tests.fakes.schemas import with_schema


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A gateway's database as it is after its first start."""
    engine = create_database_engine(f"sqlite:///{tmp_path / 'waypost.db'}")
    with_schema(engine)
    yield engine
    engine.dispose()
