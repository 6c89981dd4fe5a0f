"""What children do in tests of those who start them."""

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from federation.deployment.supervisor import ChildProcess, Supervisor
from router_models.verifiers.verifiers import parse_verifier, verify


def note_and_wait(file: Path) -> None:
    """Note this process in `file`, and stay."""
    with file.open("a") as notes:
        notes.write(f"{os.getpid()}\n")
    threading.Event().wait()


def ignore_sigterm(file: Path) -> None:
    """Stay whatever is asked."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note_and_wait(file)


def fail(reason: str) -> None:
    """End with an error."""
    raise RuntimeError(reason)


def write_surroundings(file: Path) -> None:
    """Write the arguments and a variable that the child was given."""
    part = file.with_suffix(".part")
    part.write_text(" ".join([*sys.argv, os.environ["FLWR_HOME"]]))
    part.replace(file)


def verdict_of_a_process(answers: Any) -> None:
    """Verify an answer by a pattern, and put the score into a queue."""
    answers.put(verify(parse_verifier({"kind": "regex", "pattern": "b$"}), "ab"))


if __name__ == "__main__":
    child = ChildProcess(
        "one", "tests.fakes.child_functions:note_and_wait", Path(sys.argv[2]), (Path(sys.argv[1]),)
    )
    asyncio.run(Supervisor((child,), print).run())
