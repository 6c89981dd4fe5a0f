from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.storage.database import create_database_engine
from tests.fakes.learning_loop import Clock, Loop
from tests.fakes.schemas import closing, with_schema


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    engine = create_database_engine(f"sqlite:///{tmp_path / 'waypost.db'}")
    with closing(with_schema(engine)):
        yield Loop(engine, tmp_path, Clock())
