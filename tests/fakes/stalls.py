"""Measures for how long a process holds up everybody, in its own CPU time.

On a busy machine a clock would blame it for what others used.
"""

import http.client
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.fakes.patience import PATIENCE_S

PAUSE_S = 0.01


class Watch:
    """Asks for `/health` over and over, from a thread.

    Attributes:
        longest_s: The most CPU time that the process used between a question and its answer.
        used_s: What it used altogether.
    """

    def __init__(self, url: str, pid: int) -> None:
        self.longest_s = 0.0
        self.used_s = 0.0
        self._place = urlsplit(url)
        self._stat = Path(f"/proc/{pid}/stat")
        self._is_over = threading.Event()

    def cpu_s(self) -> float:
        """Return the CPU time of the process so far."""
        fields = self._stat.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def run(self) -> None:
        """Ask until `stop`."""
        assert self._place.hostname is not None
        connection = http.client.HTTPConnection(
            self._place.hostname, self._place.port, timeout=PATIENCE_S
        )
        begun_s = self.cpu_s()
        while not self._is_over.is_set():
            before_s = self.cpu_s()
            connection.request("GET", "/health")
            connection.getresponse().read()
            self.longest_s = max(self.longest_s, self.cpu_s() - before_s)
            self._is_over.wait(PAUSE_S)
        self.used_s = self.cpu_s() - begun_s
        connection.close()

    def stop(self) -> None:
        """Ask no more."""
        self._is_over.set()


@contextmanager
def watched(url: str, pid: int) -> Iterator[Watch]:
    """Watch a gateway's process meanwhile."""
    watch = Watch(url, pid)
    thread = threading.Thread(target=watch.run)
    thread.start()
    try:
        yield watch
    finally:
        watch.stop()
        thread.join()
