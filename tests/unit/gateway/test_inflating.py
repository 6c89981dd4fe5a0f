import gzip
import tracemalloc
import zlib
from importlib import import_module
from typing import Any

import pytest

from gateway.inflating import ENCODINGS, PIECE_BYTES, InflatedTooLong, inflate, inflater_of

BODY = b"Hello, world. " * 100
PACK: dict[str, Any] = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress}
if "br" in ENCODINGS:
    PACK["br"] = import_module("brotli").compress


@pytest.mark.parametrize("encoding", PACK)
def test_inflates_what_fits_exactly(encoding: str) -> None:
    packed = PACK[encoding](BODY)
    assert inflate(packed, len(BODY), encoding) == BODY
    with pytest.raises(InflatedTooLong):
        inflate(packed, len(BODY) - 1, encoding)


@pytest.mark.parametrize("encoding", PACK)
def test_inflates_what_comes_byte_by_byte(encoding: str) -> None:
    inflater, inflated = inflater_of(encoding), b""
    for byte in PACK[encoding](BODY):
        inflater.give(bytes([byte]))
        while piece := inflater.take():
            inflated += piece
    assert inflated == BODY
    assert inflater.is_whole


def test_inflates_several_members_in_pieces() -> None:
    packed, inflater, inflated = gzip.compress(BODY) * 2, inflater_of("gzip"), b""
    for i in range(0, len(packed), 3):
        inflater.give(packed[i : i + 3])
        while piece := inflater.take():
            inflated += piece
    assert inflated == BODY * 2
    assert inflater.is_whole


@pytest.mark.parametrize("encoding", PACK)
def test_what_is_inflated_comes_in_small_pieces(encoding: str) -> None:
    inflater = inflater_of(encoding)
    inflater.give(PACK[encoding](b" " * 1_000_000))
    pieces = [len(piece) for piece in iter(inflater.take, b"")]
    assert sum(pieces) == 1_000_000
    assert max(pieces) < 2 * PIECE_BYTES


@pytest.mark.parametrize("encoding", PACK)
def test_a_bomb_takes_no_more_memory_than_its_limit(encoding: str) -> None:
    bomb = PACK[encoding](b" " * 50_000_000)
    tracemalloc.start()
    with pytest.raises(InflatedTooLong):
        inflate(bomb, 1_000_000, encoding)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


@pytest.mark.parametrize("encoding", PACK)
def test_what_is_not_whole_is_refused(encoding: str) -> None:
    packed = PACK[encoding](BODY)
    for body in (b"", b"plain", packed[:-5], packed + b"x"):
        with pytest.raises(ValueError, match="compressed"):
            inflate(body, 100_000, encoding)
