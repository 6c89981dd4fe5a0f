"""Runs the scripts of `tests/integration/node`, which drive SDKs that are written for Node."""

import asyncio
import os
import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "integration" / "node"


def require(is_there: bool, what: str) -> None:  # noqa: FBT001
    """Without `what` there is nothing to test: a failure where CI must have installed it."""
    if is_there:
        return
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def find_package(name: str) -> tuple[str, Path]:
    """Return where Node is, and where the package `name` is installed."""
    node, folder = shutil.which("node"), FOLDER / "node_modules" / name
    require(node is not None, "Node is not installed")
    require(folder.exists(), f"run `npm install` in {FOLDER}")
    return str(node), folder


async def run_script(name: str, *arguments: str, package: str) -> Any:
    """Run a script that needs `package`; return what it printed."""
    node, _ = find_package(package)
    process = await asyncio.create_subprocess_exec(
        node, str(FOLDER / name), *arguments, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return orjson.loads(output)
