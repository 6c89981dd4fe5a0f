"""What holds for every test."""

import pytest
from hypothesis import settings

# A busy machine is no failure, and a failure must come back at the next run.
settings.register_profile("waypost", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("waypost")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the golden files be rewritten; review the difference."""
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files")
