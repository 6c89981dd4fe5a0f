import gzip
import tracemalloc
import zlib

import pytest

from gateway.inflating import PIECE_BYTES, InflatedTooLong, Inflater, inflate

BODY = b"Hello, world. " * 100


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_inflates_what_fits_exactly(pack) -> None:
    assert inflate(pack(BODY), len(BODY)) == BODY
    with pytest.raises(InflatedTooLong):
        inflate(pack(BODY), len(BODY) - 1)


def test_inflates_several_members_in_pieces() -> None:
    packed, inflater, inflated = gzip.compress(BODY) + gzip.compress(BODY), Inflater(), b""
    for i in range(0, len(packed), 3):
        inflater.give(packed[i : i + 3])
        while piece := inflater.take():
            inflated += piece
    assert inflated == BODY * 2
    assert inflater.is_whole


def test_what_is_inflated_comes_in_small_pieces() -> None:
    inflater = Inflater()
    inflater.give(gzip.compress(b" " * 1_000_000))
    pieces = [len(piece) for piece in iter(inflater.take, b"")]
    assert sum(pieces) == 1_000_000
    assert max(pieces) == PIECE_BYTES


def test_a_bomb_takes_no_more_memory_than_its_limit() -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    tracemalloc.start()
    with pytest.raises(InflatedTooLong):
        inflate(bomb, 1_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


@pytest.mark.parametrize(
    "body",
    [b"", b"plain", gzip.compress(BODY)[:-5], gzip.compress(BODY) + b"x"],
    ids=["empty", "plain", "half", "more"],
)
def test_what_is_not_whole_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="compressed"):
        inflate(body, 100_000)
