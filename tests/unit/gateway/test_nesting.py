import orjson
import pytest

from gateway.nesting import MAX_DEPTH, is_too_deep


@pytest.mark.parametrize("opened", [b"[", b'{"a":', b'[{"a":'])
def test_a_value_may_have_so_many_levels_and_no_more(opened: bytes) -> None:
    levels = opened.count(b"[") + opened.count(b"{")
    closed = opened[::-1].translate(bytes.maketrans(b"[{", b"]}"), b'a:"')
    for depth in (MAX_DEPTH, MAX_DEPTH + levels):
        raw = opened * (depth // levels) + b"1" + closed * (depth // levels)
        assert is_too_deep(raw, orjson.loads(raw)) == (depth > MAX_DEPTH)


def test_a_wide_value_is_not_a_deep_one() -> None:
    raw = b"[" + b"[]," * 1_000 + b"{}]"
    assert not is_too_deep(raw, orjson.loads(raw))


def test_what_orjson_writes_is_never_too_deep_for_it() -> None:
    value: list[object] = []
    for _ in range(MAX_DEPTH + 10):
        value = [value]
    assert orjson.loads(orjson.dumps(value)) == value
