from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.fakes.budgets import migrated


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A gateway's database with the team ``blue``."""
    engine = migrated(f"sqlite:///{tmp_path / 'waypost.db'}")
    yield engine
    engine.dispose()
