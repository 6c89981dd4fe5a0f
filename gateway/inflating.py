"""Takes compressed bodies apart, within a limit: a kilobyte can stand for a megabyte."""

import zlib
from importlib import import_module
from typing import Any, Final, Protocol

BROTLI: Final = "br"


def _brotli() -> Any:
    """Return the module `brotli`, if it is there and can stop where a limit is reached (1.2)."""
    try:
        module: Any = import_module("brotli")
    except ImportError:
        return None
    return module if hasattr(module.Decompressor, "can_accept_more_data") else None


_BROTLI: Final = _brotli()
NAMED: Final = ("gzip", "deflate") if _BROTLI is None else ("gzip", "deflate", BROTLI)
"""What callers are told that they may send."""
ENCODINGS: Final = frozenset({*NAMED, "x-gzip"})
"""What is understood, as `Content-Encoding` names it (RFC 9110, section 8.4.1)."""
PIECE_BYTES: Final = 256 * 1024
_GZIP_OR_ZLIB: Final = 47


class InflatedTooLong(Exception):
    """The body is longer than it may be once it is inflated."""


class Inflater(Protocol):
    """Inflates a body that comes in pieces, into small pieces."""

    @property
    def is_whole(self) -> bool:
        """Whether what came is complete."""
        ...

    def give(self, data: bytes) -> None:
        """Take what arrived."""
        ...

    def take(self) -> bytes:
        """Return the next piece; empty where more must arrive before there is one.

        Raises:
            ValueError: The body is not what it says.
        """
        ...


class _Zlib:
    """Gzip and deflate; a piece has at most `PIECE_BYTES`."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_GZIP_OR_ZLIB)
        self._waiting = b""

    @property
    def is_whole(self) -> bool:
        return self._stream.eof and not self._waiting

    def give(self, data: bytes) -> None:
        self._waiting += data

    def take(self) -> bytes:
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


class _Brotli:
    """Brotli; a piece has less than twice `PIECE_BYTES`."""

    def __init__(self) -> None:
        self._stream = _BROTLI.Decompressor()
        self._waiting = b""

    @property
    def is_whole(self) -> bool:
        return bool(self._stream.is_finished()) and not self._waiting

    def give(self, data: bytes) -> None:
        self._waiting += data

    def take(self) -> bytes:
        stream, piece, is_at_end = self._stream, b"", False
        while not piece and not is_at_end:
            data = b""
            if self._waiting and stream.can_accept_more_data():
                data, self._waiting = self._waiting, b""
            is_at_end = not data and not self._waiting  # what it holds already may be a piece
            try:
                piece = stream.process(data, output_buffer_limit=PIECE_BYTES)
            except _BROTLI.error as error:
                raise ValueError("not a compressed body") from error
        return piece


def inflater_of(encoding: str) -> Inflater:
    """Make what inflates a body of one of the `ENCODINGS`."""
    return _Brotli() if encoding == BROTLI else _Zlib()


def inflate(data: bytes, max_bytes: int, encoding: str) -> bytes:
    """Inflate a whole body of one of the `ENCODINGS`.

    Raises:
        InflatedTooLong: It stands for more than `max_bytes`.
        ValueError: It is not what it says, or is not complete.
    """
    inflater, inflated = inflater_of(encoding), bytearray()
    inflater.give(data)
    while piece := inflater.take():
        inflated += piece
        if len(inflated) > max_bytes:
            raise InflatedTooLong(f"more than {max_bytes} bytes")
    if not inflater.is_whole:
        raise ValueError("the compressed body is not complete")
    return bytes(inflated)
