"""Programs that `dev.py` unpacks for the tests."""

import os
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / ".tools" / "bin"


def find_tool(name: str) -> Path:
    """Return where `name` is; without it there is nothing to test, and CI must have it."""
    tool = FOLDER / name
    if tool.exists():
        return tool
    missing = f"{name} is missing: `python3 dev.py test` unpacks it into .tools/bin"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)
