"""Runs programs of the command line, for the scripts that drive one."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress

PATIENCE_S = 100


def output_of(*command: str, also: Mapping[str, str] | None = None, fails: bool = False) -> str:
    """Run a program; return all that it wrote. It must succeed, unless it `fails`.

    What it started is ended with it.
    """
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(also or {})},
            start_new_session=True,
        )
        try:
            status: int | None = process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        said = output.read().decode(errors="replace")
    if not fails and status != 0:
        raise RuntimeError(f"status {status}: {said[-1000:]}")
    return said
