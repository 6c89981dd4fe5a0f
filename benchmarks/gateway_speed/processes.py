"""Starts the measured programs, reads what they cost from /proc, and ends them all."""

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
ROOT = Path(__file__).resolve().parents[2]
STOP_GRACE_S = 5.0
POLL_S = 0.002


class CannotMeasure(Exception):
    """Something the benchmark needs is missing or broken; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Program:
    """A started program, in a process group of its own.

    Attributes:
        started_s: Monotonic time just before it was started.
    """

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    started_s: float

    @property
    def pid(self) -> int:
        """Process id of the program's first process."""
        return self.process.pid

    def stop(self) -> None:
        """End the program and everything it started."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, number)
            except ProcessLookupError:
                break
            try:
                self.process.wait(STOP_GRACE_S)
            except subprocess.TimeoutExpired:
                continue
        self.process.wait()

    def last_words(self) -> str:
        """The end of what it wrote, for error messages."""
        return self.log.read_text(errors="replace")[-1500:]


def start(
    name: str, command: Sequence[str], folder: Path, environ: Mapping[str, str] | None = None
) -> Program:
    """Start `command` with its output in a log under `folder`."""
    log = folder / f"{name}.log"
    started_s = time.monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, **(environ or {})},
            start_new_session=True,
        )
    return Program(name, process, log, started_s)


def wait_for(program: Program, port: int, path: str, timeout_s: float) -> float:
    """Ask until `path` answers 200; returns the seconds since the program was started.

    Raises:
        CannotMeasure: The program ended, or did not answer in time.
    """
    while time.monotonic() < program.started_s + timeout_s:
        if program.process.poll() is not None:
            raise CannotMeasure(f"{program.name} ended at its start:\n{program.last_words()}")
        if answers(port, path):
            return time.monotonic() - program.started_s
        time.sleep(POLL_S)
    raise CannotMeasure(
        f"{program.name} did not answer {path} in {timeout_s:g} s:\n{program.last_words()}"
    )


def answers(port: int, path: str) -> bool:
    """Whether a GET of `path` is answered with status 200 now."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing listens on."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def family(pid: int) -> list[int]:
    """Return `pid` and all its living descendants."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for member in found:
        found.extend(parents.get(member, []))
    return found


def cpu_s(pid: int) -> float:
    """CPU seconds, user and system, of all threads of `pid` and its descendants, ended ones too."""
    ticks = 0
    for member in family(pid):
        if fields := _stat(member):
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / TICKS_PER_S


def resident_mb(pid: int) -> float:
    """Resident memory of one process in MB (10^6 bytes)."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * PAGE_BYTES / 1e6


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third on; empty if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
