"""A bounded queue on disk for rows that the database cannot take at the moment.

Segments are append-only files of lines, ``<crc32 of the rest> <payload>``. The process that owns a
segment holds a lock on it; the lock vanishes with the process, so another one that shares the
directory takes the segment over. A line torn by a crash fails its checksum and is skipped.
"""

import fcntl
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

SEGMENT_BYTES = 8 * 1024 * 1024
SUFFIX = ".rows"


class SpoolFull(Exception):
    """The directory holds as many bytes as it may."""


@dataclass(slots=True)
class _Segment:
    path: Path
    file: BinaryIO
    replayed_bytes: int = 0
    read_bytes: int = 0


class Spool:
    """The part of a spool directory that this process owns; for use by one thread.

    Args:
        directory: Made when the first rows come; may be shared by several processes.
        max_bytes: Bound on all segments in the directory, whoever owns them.
        segment_bytes: A segment is closed beyond this size, and deleted once it is replayed.
        clock_ns: Orders the segments.
    """

    def __init__(
        self,
        directory: Path,
        max_bytes: int,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._clock_ns = clock_ns
        self._numbers = count()
        self._segments: list[_Segment] = []
        self._active: _Segment | None = None
        self.torn_lines = 0

    @property
    def is_empty(self) -> bool:
        """Whether this process owns nothing that waits to be replayed."""
        return not self._segments

    @property
    def size_bytes(self) -> int:
        """All segments in the directory, whoever owns them."""
        return sum(size for _, size in self._files())

    def append(self, payloads: Sequence[bytes]) -> None:
        """Store `payloads`, none of which holds a newline; all of them or none.

        Raises:
            SpoolFull: They would exceed the bound.
            OSError: The directory cannot be written, or the disk is full.
        """
        block = b"".join(b"%08x %b\n" % (crc32(payload), payload) for payload in payloads)
        if self.size_bytes + len(block) > self._max_bytes:
            raise SpoolFull(
                f"the spool {self._directory} is full: it may hold {self._max_bytes} bytes"
            )
        segment = self._active or self._create()
        end = segment.file.seek(0, os.SEEK_END)
        try:
            segment.file.write(block)
            segment.file.flush()
            os.fsync(segment.file.fileno())
        except OSError:
            segment.file.truncate(end)
            raise
        if end + len(block) >= self._segment_bytes:
            self._active = None

    def read(self, max_payloads: int) -> list[bytes]:
        """Return the oldest payloads not yet acknowledged; an empty list when there are none."""
        while self._segments:
            segment = self._segments[0]
            if segment is self._active:
                self._active = None
            payloads = self._read_segment(segment, max_payloads)
            if payloads:
                return payloads
            self._delete(segment)
        return []

    def acknowledge(self) -> None:
        """Forget what the last `read` returned: it is in the database now."""
        segment = self._segments[0]
        segment.replayed_bytes = segment.read_bytes
        if segment.replayed_bytes == segment.file.seek(0, os.SEEK_END):
            self._delete(segment)

    def adopt(self) -> int:
        """Take over the segments that no living process owns; returns how many."""
        own = {segment.path for segment in self._segments}
        adopted = 0
        for path, _ in self._files():
            if path not in own and (segment := _lock(path)) is not None:
                self._segments.append(segment)
                adopted += 1
        self._segments.sort(key=lambda segment: segment.path.name)
        return adopted

    def close(self) -> None:
        """Give the segments up; they stay on disk for the next process."""
        for segment in self._segments:
            segment.file.close()
        self._segments = []
        self._active = None

    def _files(self) -> list[tuple[Path, int]]:
        try:
            with os.scandir(self._directory) as entries:
                return sorted(_stat_existing(entry) for entry in entries if _is_segment(entry))
        except FileNotFoundError:
            return []

    def _create(self) -> _Segment:
        """Make a segment; it gets its name only when it is locked, so that nobody adopts it."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = f"{self._clock_ns():020d}-{os.getpid()}-{next(self._numbers):06d}"
        fresh = self._directory / f"{name}.new"
        path = self._directory / f"{name}{SUFFIX}"
        descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        fresh.rename(path)
        segment = _Segment(path, os.fdopen(descriptor, "r+b"))
        self._segments.append(segment)
        self._active = segment
        return segment

    def _read_segment(self, segment: _Segment, max_payloads: int) -> list[bytes]:
        segment.file.seek(segment.replayed_bytes)
        payloads: list[bytes] = []
        while len(payloads) < max_payloads and (line := segment.file.readline()):
            payload = _payload(line)
            if payload is None:
                self.torn_lines += 1
            else:
                payloads.append(payload)
        segment.read_bytes = segment.file.tell()
        return payloads

    def _delete(self, segment: _Segment) -> None:
        self._segments.remove(segment)
        segment.path.unlink(missing_ok=True)
        segment.file.close()


def _payload(line: bytes) -> bytes | None:
    """Check a line; None if a crash tore it."""
    checksum, _, rest = line.partition(b" ")
    payload = rest[:-1]
    if not line.endswith(b"\n") or checksum != b"%08x" % crc32(payload):
        return None
    return payload


def _lock(path: Path) -> _Segment | None:
    """Lock the segment at `path`; None if its owner lives, or has deleted it meanwhile."""
    try:
        file = path.open("r+b")
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    if os.fstat(file.fileno()).st_nlink == 0:
        file.close()
        return None
    return _Segment(path, file)


def _is_segment(entry: os.DirEntry[str]) -> bool:
    return entry.name.endswith(SUFFIX)


def _stat_existing(entry: os.DirEntry[str]) -> tuple[Path, int]:
    """Size of a segment; 0 when its owner deleted it meanwhile."""
    try:
        return Path(entry.path), entry.stat().st_size
    except FileNotFoundError:
        return Path(entry.path), 0
