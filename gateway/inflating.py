"""Takes compressed bodies apart, within a limit: a kilobyte can stand for a megabyte."""

import zlib
from typing import Final

ENCODINGS: Final = frozenset({"deflate", "gzip", "x-gzip"})
"""What is understood, as `Content-Encoding` names it (RFC 9110, section 8.4.1)."""
_GZIP_OR_ZLIB: Final = 47


class InflatedTooLong(Exception):
    """The body is longer than it may be once it is inflated."""


class Inflater:
    """Inflates a body piece by piece.

    Args:
        max_bytes: That one piece may become.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._stream = zlib.decompressobj(_GZIP_OR_ZLIB)

    @property
    def is_whole(self) -> bool:
        """Whether what came is complete."""
        return self._stream.eof

    def feed(self, data: bytes) -> bytes:
        """Take what arrived; return what it stands for.

        Raises:
            InflatedTooLong: It stands for more than `max_bytes`.
            ValueError: It is not what it says.
        """
        inflated = bytearray()
        while data:
            if self._stream.eof:  # a body may have several members, one after the other
                self._stream = zlib.decompressobj(_GZIP_OR_ZLIB)
            try:
                # One byte more than there may be, so that 0, which means any, is never asked for.
                inflated += self._stream.decompress(data, self._max_bytes + 1 - len(inflated))
            except zlib.error as error:
                raise ValueError(f"not a compressed body: {error}") from error
            if len(inflated) > self._max_bytes or self._stream.unconsumed_tail:
                raise InflatedTooLong(f"more than {self._max_bytes} bytes")
            data = self._stream.unused_data
        return bytes(inflated)


def inflate(data: bytes, max_bytes: int) -> bytes:
    """Inflate a whole body.

    Raises:
        InflatedTooLong: It stands for more than `max_bytes`.
        ValueError: It is not what it says, or is not complete.
    """
    inflater = Inflater(max_bytes)
    inflated = inflater.feed(data)
    if not inflater.is_whole:
        raise ValueError("the compressed body is not complete")
    return inflated
