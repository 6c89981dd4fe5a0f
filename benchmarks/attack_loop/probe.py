"""Asks /health again and again, from a process that goes before all others, and notes how long.

Usage: python -m benchmarks.attack_loop.probe PORT PID STOPS_AT OUT

Of the process that answers it notes how much CPU time it used between a question and its answer.

It also notes how late it was woken itself: no answer can be measured more exactly than that.
"""

import json
import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

INTERVAL_S = 0.02
TIMEOUT_S = 60.0
NICE = -15
ASK = b"GET /health HTTP/1.1\r\nhost: gateway\r\n\r\n"
OK = b'{"status":"ok"}'


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process so far (Linux: clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


def ask(connection: socket.socket) -> None:
    """Ask once.

    Raises:
        OSError: The connection was closed, or no answer came in time.
    """
    connection.sendall(ASK)
    received = b""
    while not received.endswith(OK):
        data = connection.recv(4_096)
        if not data:
            raise ConnectionResetError
        received += data


def main() -> None:
    """Ask until the time is over; write when each question was asked and what it took."""
    port, pid, stops_at_s = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    with suppress(PermissionError):
        os.nice(NICE)
    asked: list[tuple[float, float, float]] = []
    woken_late: list[float] = []
    failed = 0
    connection: socket.socket | None = None
    while (begun_s := time.monotonic()) < stops_at_s:
        used_s = cpu_s(pid)
        try:
            if connection is None:
                connection = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
            ask(connection)
        except OSError:
            failed += 1
            connection = None
        asked.append((begun_s, time.monotonic() - begun_s, cpu_s(pid) - used_s))
        sleeps_at_s = time.monotonic()
        time.sleep(INTERVAL_S)
        woken_late.append(time.monotonic() - sleeps_at_s - INTERVAL_S)
    priority = os.getpriority(os.PRIO_PROCESS, 0)
    Path(sys.argv[4]).write_text(
        json.dumps({"asked": asked, "late": woken_late, "failed": failed, "nice": priority})
    )


if __name__ == "__main__":
    main()
