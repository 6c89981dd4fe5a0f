import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.exact_json import dumps, exact, has_long_integers

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(2**62, 2**90) | st.text('a1" ,é'),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)


@given(values)
def test_what_is_read_and_written_is_the_same(value: object) -> None:
    raw = json.dumps(value).encode()
    read = exact(raw, orjson.loads(raw))
    assert read == value
    assert json.loads(dumps(read)) == value


@given(st.integers(0, 60), st.integers(20, 60), st.integers(0, 60))
def test_finds_a_long_integer_wherever_it_stands(before: int, length: int, after: int) -> None:
    assert has_long_integers(b"x" * before + b"7" * length + b"x" * after)


@pytest.mark.parametrize("raw", [b"", b"1" * 19, b"1234 1234 1234 1234 1234", b"1111x" * 30])
def test_finds_none_where_there_is_none(raw: bytes) -> None:
    assert not has_long_integers(raw)


def test_a_number_that_is_too_long_even_for_python_stays_as_it_was_read() -> None:
    assert exact(b"1" * 5_000, 1.0) == 1.0


def test_what_cannot_be_written_is_refused() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (deep, {"a": "\ud800"}):
        with pytest.raises(orjson.JSONEncodeError):
            dumps(value)


def test_indents_where_it_is_asked_to() -> None:
    assert dumps({"a": 2**70}, orjson.OPT_INDENT_2) == b'{\n  "a": %d\n}' % 2**70
