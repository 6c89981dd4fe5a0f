"""`waypost learn demo`: the real command with the real small models, and nothing left of it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.fakes.processes import COVERED, ROOT
from tests.fakes.turns import until

PROCESSES = Path("/proc")


@asynccontextmanager
async def demonstration(folder: Path, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run it with `folder` for its temporary files, and with somebody's key in the environment."""
    kept = {name: os.environ[name] for name in (*COVERED, "PATH") if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "learn", "demo", "--seed", "0", *arguments),
        cwd=ROOT,
        env={**kept, "TMPDIR": str(folder), "OPENAI_API_KEY": "sk-of-somebody"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        # Whoever runs the tests in the background may have had SIGINT ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def started_in(folder: Path) -> list[str]:
    """Return the processes whose command line or environment names `folder`."""
    found = []
    for process in PROCESSES.glob("[0-9]*"):
        try:
            if str(folder).encode() in (process / "cmdline").read_bytes():
                found.append(process.name)
        except OSError:
            continue
    return found


async def test_the_whole_loop_is_shown_on_real_models(tmp_path):
    async with demonstration(tmp_path, "--turns", "32", "--held-out", "6") as process:
        output, _ = await process.communicate()
    said = output.decode()
    assert process.returncode == 0, said
    places = [said.index(word) for word in ("1. Before", "2. Traffic", "3. Learning", "4. After")]
    assert places == sorted(places)
    assert " 32 other questions" in said
    assert "activated" in said
    assert "intervals over the 6 questions" in said
    assert "gpt" not in said  # nobody's paid models join
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not PROCESSES.exists(), reason="looks for processes as Linux can")
async def test_ctrl_c_leaves_no_process_and_no_file(tmp_path):
    async with demonstration(tmp_path) as process:
        assert process.stdout is not None
        await process.stdout.readuntil(b"1. Before")
        assert started_in(tmp_path) != []
        process.send_signal(signal.SIGINT)
        await process.communicate()
    assert process.returncode == 1
    await until(lambda: started_in(tmp_path) == [])
    assert list(tmp_path.iterdir()) == []
