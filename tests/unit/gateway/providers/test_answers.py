from typing import Any

import orjson
import pytest

from gateway.errors import ProviderCutOff
from gateway.providers.answers import (
    MAX_GATHERED_BYTES,
    WholeTap,
    decode_answer,
    gathered,
    is_stream,
)
from gateway.providers.base import Completion
from gateway.providers.sse import StreamTap
from tests.fakes.upstream import chunk, completion, stream_chunks


def test_what_takes_too_much_to_decode_is_no_answer() -> None:
    for raw in (b"{", b"[" * 300 + b"]" * 300, b'"\\ud800' + b"[" * 100_000):
        with pytest.raises(ValueError):  # noqa: PT011 - of whichever decoder
            decode_answer(raw)


@pytest.mark.parametrize("raw", [b"data: {}\n\n", b": hi\n\n", b"event: a\n", b"\n data: {}"])
def test_knows_a_stream_by_its_beginning(raw: bytes) -> None:
    assert is_stream(raw)
    assert not is_stream(b'{"data:": 1}')


def test_a_stream_is_gathered_in_time_linear_in_its_length() -> None:
    pieces = [chunk({"content": "a" * 50}) for _ in range(20_000)]
    raw = b"".join((*pieces, chunk({}, "stop"), b"data: [DONE]\n\n"))
    (choice,) = gathered(raw, StreamTap("acme")).body["choices"]
    assert choice["message"]["content"] == "a" * 50 * 20_000


def test_a_stream_without_end_is_not_gathered() -> None:
    with pytest.raises(ValueError, match="too long"):
        gathered(b"data: {}\n\n" * (MAX_GATHERED_BYTES // 10 + 1), StreamTap("acme"))
    with pytest.raises(ProviderCutOff):
        gathered(chunk({"content": "a"}), StreamTap("acme"))


def test_fields_that_are_no_text_are_gathered_as_they_are() -> None:
    pieces = [
        chunk({"content": "a", "annotations": [1], "refusal": None}),
        chunk({}, "stop", choices=[{"delta": {}, "logprobs": {"content": [2]}}]),
        *stream_chunks("b")[1:],
    ]
    (choice,) = gathered(b"".join(pieces), StreamTap("acme")).body["choices"]
    assert choice["message"]["annotations"] == [1]
    assert choice["logprobs"] == {"content": [2]}


@pytest.mark.parametrize("usage", [None, {"prompt_tokens": 1}])
def test_a_whole_answer_is_a_stream_to_which_nothing_is_added(usage: Any) -> None:
    tap = WholeTap(Completion(completion(usage=usage), None, "stop"))
    assert (tap.due(b"x"), tap.feed(b"x"), tap.finish()) == (0, b"", b"")
    assert (tap.usage_event is None) is (usage is None)
    first = orjson.loads(tap.events.split(b"\n\n")[0][6:])
    assert first["choices"][0]["delta"]["content"] == "Hello!"
