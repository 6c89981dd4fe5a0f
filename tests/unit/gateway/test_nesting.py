import orjson
import pytest

from gateway.errors import InvalidRequest
from gateway.nesting import MAX_DEPTH, MAX_INDENTATION_BYTES, indentation_of, is_too_deep
from gateway.wire import decoded_body


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


def within(levels: int, value: object) -> dict[str, object]:
    for _ in range(levels):
        value = [value]
    return {"a": value}


@pytest.mark.parametrize("levels", [0, 3, 190])
def test_indentation_is_never_more_than_its_bound(levels: int) -> None:
    raw = orjson.dumps(within(levels, {"b": [1, "[", {"c": []}], "d": None}))
    value = orjson.loads(raw)
    written = orjson.dumps(value, option=orjson.OPT_INDENT_2)
    blanks = sum(len(line) - len(line.lstrip(b" ")) for line in written.splitlines())
    assert blanks <= indentation_of(raw, value)


def test_many_values_that_are_nested_deeply_are_refused() -> None:
    many = [0] * 100_000
    assert decoded_body(orjson.dumps(within(10, many)))
    deep = orjson.dumps(within(190, many))
    assert indentation_of(deep, orjson.loads(deep)) > MAX_INDENTATION_BYTES
    with pytest.raises(InvalidRequest, match="nested deeply"):
        decoded_body(deep)
