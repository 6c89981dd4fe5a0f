"""The metrics of several workers on one page: whichever is scraped asks the others.

Each worker answers on a Unix socket in a folder that is the workers' own. Nothing is shared that a
request would have to wait for, as client libraries' own way with files mapped into memory would.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gateway.telemetry.families import gauges
from gateway.telemetry.series import END, merge, write_family

ANSWER_TIMEOUT_S = 2.0
UP = "waypost_worker_up"
OPEN, PLAIN = b"openmetrics\n", b"text\n"
"""What a worker is asked to write."""


class Render(Protocol):
    """Writes a worker's metrics under the name it is given."""

    def __call__(self, worker: str, *, is_open: bool) -> bytes:
        """Write them, as `series.render` does."""
        ...


@dataclass(frozen=True, slots=True)
class WorkerMetrics:
    """How a worker shows the metrics of all.

    Attributes:
        number: Of this worker, from 0.
        folder: Where the workers' sockets are.
    """

    number: int
    count: int
    folder: Path

    @asynccontextmanager
    async def answering(self, render: Render) -> AsyncIterator[None]:
        """Answer the other workers while the context lasts.

        Args:
            render: Writes this worker's metrics, under the name it is given.
        """

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            is_open = await reader.readline() == OPEN
            writer.write(await asyncio.to_thread(render, str(self.number), is_open=is_open))
            writer.close()

        path = self._path(self.number)
        path.unlink(missing_ok=True)  # left behind by a worker that was killed
        server = await asyncio.start_unix_server(answer, path)
        try:
            yield
        finally:
            server.close()

    async def page(self, *, is_open: bool = False) -> bytes:
        """Ask all workers; one that does not answer is left out, and said to be down."""
        asked = (self._ask(number, OPEN if is_open else PLAIN) for number in range(self.count))
        pages = await asyncio.gather(*asked)
        up = {str(number): float(page is not None) for number, page in enumerate(pages)}
        family = gauges(UP, "1 if the worker process answered this scrape, else 0.", "worker", up)
        told = write_family(family, is_open=is_open)
        whole = merge([*(page for page in pages if page is not None), told])
        return whole + END if is_open else whole

    async def _ask(self, number: int, form: bytes) -> bytes | None:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(self._path(number))
                try:
                    writer.write(form)
                    return await reader.read()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return None

    def _path(self, number: int) -> Path:
        return self.folder / f"{number}.sock"
