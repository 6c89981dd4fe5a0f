"""What holds for every test."""

import os
import signal
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import httpcore2
import pytest
from hypothesis import settings

from tests.fakes.postgres import Postgres, running_postgres

# Every core has a worker already; more threads wait for each other and cost up to twice the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

LONGEST_ID = 80
"""Of one parameter of a test in its name."""

# What this process ignores (under nohup, or as a shell's job in the background), the programs that
# tests start would ignore too, and never end. What it handles is reset in them.
for each in (signal.SIGHUP, signal.SIGINT):
    if signal.getsignal(each) is signal.SIG_IGN:
        signal.signal(each, lambda number, frame: None)

# A busy machine is no failure, and a failure must come back at the next run.
settings.register_profile("waypost", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("waypost")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the golden files be rewritten; review the difference."""
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files")


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name a long text by its beginning: every worker tells every name to the first process."""
    if isinstance(val, str | bytes) and len(val) > LONGEST_ID:
        beginning = val[:LONGEST_ID] if isinstance(val, str) else str(val[:LONGEST_ID])[2:-1]
        return f"{beginning} and {len(val) - LONGEST_ID} more"
    return None


@pytest.fixture(scope="session", autouse=True)
def authorities() -> Iterator[None]:
    """Read the certificate authorities once: every HTTP client would take 30 ms of CPU for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpcore2, "default_ssl_context", cache(httpcore2.default_ssl_context))
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for all tests that leave it as they found it."""
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        return server.new_database()
    return f"sqlite:///{tmp_path / 'waypost.db'}"
