"""The metrics of several workers on one page: whichever is scraped asks the others.

Each worker answers on a Unix socket in a folder that is the workers' own. Nothing is shared that a
request would have to wait for, as client libraries' own way with files mapped into memory would.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.telemetry.families import gauges
from gateway.telemetry.series import merge, write_family

ANSWER_TIMEOUT_S = 2.0
UP = "waypost_worker_up"


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
    async def answering(self, render: Callable[[str], bytes]) -> AsyncIterator[None]:
        """Answer the other workers while the context lasts.

        Args:
            render: Writes this worker's metrics, under the name it is given.
        """

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            del reader
            writer.write(await asyncio.to_thread(render, str(self.number)))
            writer.close()

        path = self._path(self.number)
        path.unlink(missing_ok=True)  # left behind by a worker that was killed
        server = await asyncio.start_unix_server(answer, path)
        try:
            yield
        finally:
            server.close()

    async def page(self) -> bytes:
        """Ask all workers; one that does not answer is left out, and said to be down."""
        pages = await asyncio.gather(*(self._ask(number) for number in range(self.count)))
        up = {str(number): float(page is not None) for number, page in enumerate(pages)}
        told = write_family(
            gauges(UP, "1 if the worker process answered this scrape, else 0.", "worker", up)
        )
        return merge([*(page for page in pages if page is not None), told])

    async def _ask(self, number: int) -> bytes | None:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(self._path(number))
                try:
                    return await reader.read()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return None

    def _path(self, number: int) -> Path:
        return self.folder / f"{number}.sock"
