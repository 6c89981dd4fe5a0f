import asyncio
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from federation.deployment.supervisor import (
    MAX_LOG_BYTES,
    ChildProcess,
    RestartBackoff,
    Supervisor,
    last_log_lines,
)
from federation.errors import EndedForGood
from tests.fakes.turns import until

ROOT = Path(__file__).resolve().parents[4]
QUICK = RestartBackoff(first_wait_s=0.01, last_wait_s=0.02, stop_s=2.0)
MODULE = "tests.fakes.child_functions"


def child(name: str, function: str, folder: Path, *arguments: object) -> ChildProcess:
    return ChildProcess(name, f"{MODULE}:{function}", folder / f"{name}.log", arguments)


def pids(file: Path) -> list[int]:
    """Every process that has noted itself in `file`."""
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_what_dies_is_started_again_with_what_belongs_to_it(tmp_path):
    told: list[str] = []
    first, second = tmp_path / "first", tmp_path / "second"
    group = (
        child("one", "note_and_wait", tmp_path, first),
        child("two", "note_and_wait", tmp_path, second),
    )
    running = asyncio.create_task(Supervisor(group, told.append, QUICK).run())
    await until(lambda: len(pids(first)) == len(pids(second)) == 1)

    os.kill(pids(first)[0], signal.SIGKILL)
    await until(lambda: len(pids(first)) == len(pids(second)) == 2)

    assert not is_running(pids(second)[0])
    assert told[0].startswith("one ended with status -9")
    running.cancel()
    await asyncio.wait({running})
    assert not any(is_running(pid) for pid in pids(first) + pids(second))


async def test_the_reason_for_an_end_is_passed_on(tmp_path):
    told: list[str] = []
    group = (child("one", "fail", tmp_path, "the key is not known"),)
    running = asyncio.create_task(Supervisor(group, told.append, QUICK).run())
    await until(lambda: len(told) >= 2)
    running.cancel()
    await asyncio.wait({running})

    assert told[0].endswith("RuntimeError: the key is not known")


async def test_what_ends_for_good_is_not_started_again(tmp_path):
    told: list[str] = []
    noted = tmp_path / "other"
    group = (
        replace(child("one", "fail", tmp_path, "shut out"), last_status=1),
        child("two", "note_and_wait", tmp_path, noted),
    )

    with pytest.raises(EndedForGood, match="RuntimeError: shut out"):
        await Supervisor(group, told.append, QUICK).run()

    assert told == []
    assert not any(map(is_running, pids(noted)))


async def test_a_child_that_does_not_leave_is_killed(tmp_path):
    noted = tmp_path / "pid"
    stubborn = (child("one", "ignore_sigterm", tmp_path, noted),)
    timing = RestartBackoff(stop_s=0.2)
    running = asyncio.create_task(Supervisor(stubborn, print, timing).run())
    await until(lambda: len(pids(noted)) == 1)

    running.cancel()
    await asyncio.wait({running})

    assert not is_running(pids(noted)[0])


async def test_children_leave_when_their_parent_is_killed(tmp_path):
    noted = tmp_path / "pid"
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", MODULE, str(noted), str(tmp_path / "child.log")),
        cwd=ROOT,
    )
    await until(lambda: len(pids(noted)) == 1)

    parent.kill()
    await parent.wait()

    await until(lambda: not is_running(pids(noted)[0]))


async def test_a_child_gets_its_arguments_and_environment(tmp_path):
    answer = tmp_path / "answer"
    told = ChildProcess(
        "one",
        f"{MODULE}:write_surroundings",
        tmp_path / "one.log",
        (answer,),
        ("--port", "5"),
        {"FLWR_HOME": "here"},
    )
    running = asyncio.create_task(Supervisor((told,), print, QUICK).run())
    await until(answer.exists)
    running.cancel()
    await asyncio.wait({running})

    assert answer.read_text() == "one --port 5 here"


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("", "(empty)"),
        ("a\nb\n\n", "b"),
        ("b\nINFO: c\n", "b"),
        ("\x1b]0;title\x07\x1b[31mred\u202e\n", "]0;title[31mred"),
        (
            "ERROR: Exit Code: 305\nIt failed.\nThe key is unknown.\n\nFor more information, x\n",
            "It failed. The key is unknown.",
        ),
    ],
)
def test_the_last_words_of_a_log_are_what_went_wrong(tmp_path, log, words):
    file = tmp_path / "log"
    file.write_text(log)

    assert last_log_lines(file) == words


def test_a_missing_log_has_no_last_words(tmp_path):
    assert last_log_lines(tmp_path / "log") == "(no log)"


async def test_a_long_log_is_put_aside_before_the_next_start(tmp_path):
    noted, log = tmp_path / "pid", tmp_path / "one.log"
    log.write_bytes(b"x" * (MAX_LOG_BYTES + 1))
    group = (child("one", "note_and_wait", tmp_path, noted),)
    running = asyncio.create_task(Supervisor(group, print, QUICK).run())
    await until(lambda: len(pids(noted)) == 1)
    running.cancel()
    await asyncio.wait({running})

    assert (tmp_path / "one.old.log").stat().st_size == MAX_LOG_BYTES + 1
    assert log.stat().st_size == 0
