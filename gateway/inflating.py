"""Takes compressed bodies apart, within a limit: a kilobyte can stand for a megabyte."""

import zlib
from typing import Final

ENCODINGS: Final = frozenset({"deflate", "gzip", "x-gzip"})
"""What is understood, as `Content-Encoding` names it (RFC 9110, section 8.4.1)."""
PIECE_BYTES: Final = 256 * 1024
_GZIP_OR_ZLIB: Final = 47


class InflatedTooLong(Exception):
    """The body is longer than it may be once it is inflated."""


class Inflater:
    """Inflates a body that comes in pieces, into pieces of at most `PIECE_BYTES`."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_GZIP_OR_ZLIB)
        self._waiting = b""

    @property
    def is_whole(self) -> bool:
        """Whether what came is complete."""
        return self._stream.eof and not self._waiting

    def give(self, data: bytes) -> None:
        """Take what arrived."""
        self._waiting += data

    def take(self) -> bytes:
        """Return the next piece; empty where more must arrive before there is one.

        Raises:
            ValueError: The body is not what it says.
        """
        piece = b""
        while self._waiting and not piece:
            if self._stream.eof:  # a body may have several members, one after the other
                self._stream = zlib.decompressobj(_GZIP_OR_ZLIB)
            try:
                piece = self._stream.decompress(self._waiting, PIECE_BYTES)
            except zlib.error as error:
                raise ValueError(f"not a compressed body: {error}") from error
            self._waiting = self._stream.unconsumed_tail or self._stream.unused_data
        return piece


def inflate(data: bytes, max_bytes: int) -> bytes:
    """Inflate a whole body.

    Raises:
        InflatedTooLong: It stands for more than `max_bytes`.
        ValueError: It is not what it says, or is not complete.
    """
    inflater, inflated = Inflater(), bytearray()
    inflater.give(data)
    while piece := inflater.take():
        inflated += piece
        if len(inflated) > max_bytes:
            raise InflatedTooLong(f"more than {max_bytes} bytes")
    if not inflater.is_whole:
        raise ValueError("the compressed body is not complete")
    return bytes(inflated)
