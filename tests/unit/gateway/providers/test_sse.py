import threading
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ProviderCutOff, ProviderRejected, ProviderUnavailable
from gateway.long_work import LONG_BYTES, LongWork
from gateway.providers import sse
from gateway.providers.sse import (
    EventCutter,
    StreamTap,
    boundaries,
    decode,
    fed,
    is_noteworthy,
    payload_of,
)
from gateway.types import Usage
from tests.fakes.upstream import chunk, event, stream_chunks, usage_chunk

DONE = b"data: [DONE]\n\n"
MIXED = [
    b": OPENROUTER PROCESSING\n\n",
    *stream_chunks('a "usage": {"b"} [DONE] \\"finish_reason\\": "c"')[:-2],
    b"event: message\r\nid: 7\r\n" + chunk({"content": "crlf"}).replace(b"\n", b"\r\n"),
    chunk({"content": "cr"}).replace(b"\n", b"\r"),
    b": ping\n\n\n",
    chunk({"content": "after an empty line too many"}),
    usage_chunk(),
    DONE,
]
WHOLE = b"".join(MIXED)


def played(*pieces: bytes) -> tuple[StreamTap, bytes]:
    tap = StreamTap("acme")
    forwarded = b"".join([tap.feed(piece) for piece in pieces])
    return tap, forwarded + tap.finish()


@given(st.lists(st.integers(0, len(WHOLE)), max_size=40))
def test_any_split_of_the_stream_forwards_the_same_bytes(cuts: list[int]) -> None:
    marks = [0, *sorted(cuts), len(WHOLE)]
    pieces = [WHOLE[a:b] for a, b in pairwise(marks)]
    tap, forwarded = played(*pieces)
    assert forwarded == b"".join(MIXED[:-2])
    assert tap.usage == Usage(9, 3)
    assert tap.finish_reason == "stop"
    assert tap.error is None
    assert tap.is_done


@given(st.binary(max_size=200), st.integers(1, 50))
def test_takes_any_bytes_without_failing(junk: bytes, step: int) -> None:
    tap, _ = played(*[junk[i : i + step] for i in range(0, len(junk), step)])
    assert tap.is_done or tap.error is not None


@given(st.text())
def test_text_never_passes_for_a_noteworthy_key(text: str) -> None:
    plain = chunk({"content": f'"usage":{{"prompt_tokens":1}} {text}'})
    tap, forwarded = played(chunk({"role": "assistant"}), plain, chunk({}, "stop"))
    assert plain in forwarded
    assert tap.usage is None


def test_holds_an_event_back_until_it_is_whole() -> None:
    tap = StreamTap("acme")
    whole = chunk({"content": "a"})
    assert tap.feed(whole[:10]) == b""
    assert tap.feed(whole[10:-1]) == b""
    assert tap.feed(whole[-1:]) == whole


def test_counts_the_events_it_forwards() -> None:
    tap, _ = played(*stream_chunks("abc"))
    assert tap.forwarded_events == 5


def test_takes_usage_from_the_last_content_chunk() -> None:
    last = chunk({}, "stop", usage={"prompt_tokens": 4, "completion_tokens": 2})
    tap, forwarded = played(chunk({"content": "a"}), last, DONE)
    assert tap.usage == Usage(4, 2)
    assert tap.usage_event is None
    assert last in forwarded


def test_keeps_the_latest_usage_where_every_chunk_carries_it() -> None:
    chunks = [
        chunk({"content": "a"}, usage={"prompt_tokens": 4, "completion_tokens": n})
        for n in range(1, 4)
    ]
    tap, forwarded = played(*chunks, chunk({}, "stop"), DONE)
    assert tap.usage == Usage(4, 3)
    assert forwarded == b"".join([*chunks, chunk({}, "stop")])


def test_takes_the_head_from_the_first_chunk_with_an_identity() -> None:
    azure = event({"id": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": []})
    tap, forwarded = played(azure, *stream_chunks("a"))
    assert tap.head == {"id": "chatcmpl-1", "created": 1_700_000_000, "model": "upstream-model"}
    assert forwarded.startswith(azure)


def test_stops_looking_for_a_head_after_a_few_chunks() -> None:
    anonymous = [event({"choices": [{"index": 0, "delta": {"content": "a"}}]}) for _ in range(5)]
    tap, forwarded = played(*anonymous, chunk({}, "stop"))
    assert tap.head == {"id": None, "created": None, "model": None}
    assert forwarded == b"".join([*anonymous, chunk({}, "stop")])


def test_ignores_what_comes_after_done() -> None:
    tap, forwarded = played(chunk({}, "stop") + DONE + b"data: more\n\n", b"data: more\n\n")
    assert forwarded == chunk({}, "stop")
    assert tap.error is None


def test_a_finish_reason_without_done_is_a_whole_answer() -> None:
    tap, _ = played(chunk({"content": "a"}), chunk({}, "stop"))
    assert tap.error is None


def test_one_finished_choice_of_two_is_not_a_whole_answer() -> None:
    tap = StreamTap("acme", n_choices=2)
    tap.feed(chunk({"content": "a"}) + chunk({}, "stop"))
    tap.finish()
    assert isinstance(tap.error, ProviderCutOff)


def test_an_end_without_finish_reason_and_done_is_cut_off() -> None:
    tap, _ = played(chunk({"content": "a"}))
    assert isinstance(tap.error, ProviderCutOff)


def test_half_an_event_at_the_end_is_not_forwarded() -> None:
    tap, forwarded = played(chunk({"content": "a"}), chunk({"content": "b"})[:-10])
    assert forwarded == chunk({"content": "a"})
    assert isinstance(tap.error, ProviderCutOff)


@pytest.mark.parametrize("missing", [1, 2])
def test_a_last_event_may_lack_its_blank_line(missing: int) -> None:
    tap, forwarded = played(chunk({"content": "a"}), chunk({}, "stop")[:-missing])
    assert forwarded == chunk({"content": "a"}) + chunk({}, "stop")
    assert tap.error is None


def test_done_may_lack_its_blank_line() -> None:
    tap, forwarded = played(chunk({"content": "a"}), b"data: [DONE]")
    assert tap.is_done
    assert forwarded == chunk({"content": "a"})


def test_a_comment_at_the_end_may_lack_its_blank_line() -> None:
    _, forwarded = played(chunk({}, "stop"), b": bye\n")
    assert forwarded == chunk({}, "stop") + b": bye\n"


def test_a_field_without_data_at_the_end_is_dropped() -> None:
    _, forwarded = played(chunk({}, "stop"), b"id: 3")
    assert forwarded == chunk({}, "stop")


def test_an_error_event_ends_the_stream_after_what_came_before() -> None:
    bad = event({"error": {"message": "boom", "code": 502}})
    tap, forwarded = played(chunk({"content": "a"}) + bad + chunk({"content": "b"}))
    assert forwarded == chunk({"content": "a"})
    assert isinstance(tap.error, ProviderUnavailable)


def test_an_error_event_about_the_request_is_passed_on() -> None:
    tap, _ = played(event({"error": {"message": "too long", "type": "invalid_request_error"}}))
    assert isinstance(tap.error, ProviderRejected)
    assert tap.error.body == {"message": "too long", "type": "invalid_request_error"}


def test_an_event_named_error_is_an_error() -> None:
    named = b"event: error\n" + event({"message": "overloaded", "code": 503})
    tap, forwarded = played(chunk({"content": "a"}), named)
    assert forwarded == chunk({"content": "a"})
    assert isinstance(tap.error, ProviderUnavailable)


def test_finds_the_second_choices_end_behind_the_firsts_null() -> None:
    choices = [
        {"index": 0, "delta": {"content": "a"}, "finish_reason": None},
        {"index": 1, "delta": {}, "finish_reason": "length"},
    ]
    tap, _ = played(chunk({"content": "a"}), event({"id": "x", "choices": choices}))
    assert tap.finish_reason == "length"


def test_takes_null_with_a_space() -> None:
    spaced = b'data: {"id": "x", "choices": [{"finish_reason": null}], "usage": null}\n\n'
    tap, forwarded = played(spaced, spaced, chunk({}, "stop"))
    assert forwarded == spaced + spaced + chunk({}, "stop")
    assert tap.usage is None


@pytest.mark.parametrize("blank", ["", " "])
def test_null_is_no_reason_to_decode_an_event_with_or_without_a_blank(blank: str) -> None:
    null = f'"finish_reason":{blank}null,"usage":{blank}null'
    assert not is_noteworthy(f"data: {{{null}}}\n\n".encode())
    assert is_noteworthy(f'data: {{{null},"finish_reason":{blank}"stop"}}\n\n'.encode())
    assert is_noteworthy(f'data: {{{null},"usage":{blank}{{}}}}\n\n'.encode())


def test_an_error_body_in_place_of_events_is_an_error() -> None:
    tap, forwarded = played(b'{"error": {"message": "overloaded", "code": 503}}')
    assert forwarded == b""
    assert isinstance(tap.error, ProviderUnavailable)


def test_a_page_in_place_of_events_is_cut_off() -> None:
    tap, forwarded = played(b"<html>Bad gateway</html>")
    assert forwarded == b""
    assert isinstance(tap.error, ProviderCutOff)


def test_events_that_are_not_json_pass() -> None:
    odd = b"data: hello\n\ndata: [1]\n\n"
    _, forwarded = played(odd, chunk({}, "stop"), DONE)
    assert forwarded == odd + chunk({}, "stop")


def test_an_endless_event_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    tap = StreamTap("acme")
    tap.feed(b"data: " + b"x" * 200)
    assert isinstance(tap.error, ProviderCutOff)
    assert tap.feed(b"\n\n") == b""


@given(st.text("a\r\n", max_size=40).map(str.encode), st.lists(st.integers(0, 40), max_size=8))
def test_events_end_at_the_same_places_however_they_arrive(stream: bytes, cuts: list[int]) -> None:
    marks = [0, *sorted(cuts), len(stream)]
    cutter = EventCutter()
    found: list[int] = []
    taken = 0
    for a, b in pairwise(marks):
        whole, ends = cutter.feed(stream[a:b])
        assert whole == stream[taken : taken + len(whole)]
        found += [taken + end for end in ends]
        taken += len(whole)
    assert found == boundaries(stream)
    assert cutter.rest() == stream[taken:]


def test_a_large_event_in_small_pieces_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    searched = 0

    def counted(buffer: bytes) -> list[int]:
        nonlocal searched
        searched += len(buffer)
        return boundaries(buffer)

    monkeypatch.setattr(sse, "boundaries", counted)
    large = chunk({"content": "a" * 200_000})
    _, forwarded = played(*(large[i : i + 100] for i in range(0, len(large), 100)), DONE)
    assert forwarded == large
    assert searched < 1.1 * len(large)


async def test_an_event_that_has_become_long_is_read_in_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read_by = []
    monkeypatch.setattr(sse, "decode_object", lambda _: read_by.append(threading.get_ident()))
    tap, long_work, event = StreamTap("acme"), LongWork(), chunk({"content": "a" * LONG_BYTES})

    assert await fed(tap, chunk({"content": "a"}), long_work) == chunk({"content": "a"})
    assert await fed(tap, event[:-1], long_work) == b""
    assert await fed(tap, event[-1:], long_work) == event

    here, elsewhere = read_by
    assert here == threading.get_ident() != elsewhere


async def test_long_last_words_are_read_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    read_by = []
    monkeypatch.setattr(sse, "decode_object", lambda _: read_by.append(threading.get_ident()))
    tap, long_work = StreamTap("acme"), LongWork()
    await fed(tap, b"data: " + b"a" * LONG_BYTES, long_work)

    await fed(tap, b"", long_work)

    [elsewhere] = read_by
    assert elsewhere != threading.get_ident()


def test_pieces_of_an_event_that_goes_on_are_no_long_work() -> None:
    tap = StreamTap("acme")
    tap.feed(b"data: " + b"a" * LONG_BYTES)
    assert tap.due(b"a") == 0
    assert tap.due(b"a\r") > LONG_BYTES


def test_more_lists_than_any_answer_has_are_not_decoded() -> None:
    with pytest.raises(ValueError, match="more than 2000000 objects and lists"):
        decode(b"[" * 2_000_001)


def test_joins_the_data_lines_of_one_event() -> None:
    assert payload_of(b'event: x\ndata: {"a":\ndata:1}\n\n') == b'{"a":\n1}'


def test_odd_choices_are_no_reason_to_fail() -> None:
    odd = event({"id": "a", "choices": ["x", {"finish_reason": None}, {"finish_reason": "stop"}]})
    tap, forwarded = played(odd, DONE)
    assert forwarded == odd
    assert tap.finish_reason == "stop"


@pytest.mark.parametrize("index", [[1], {}, None, "0"])
def test_a_choice_of_an_odd_index_is_the_first(index) -> None:
    odd = event({"id": "a", "choices": [{"index": index, "finish_reason": "stop"}]})
    tap, forwarded = played(odd)
    assert forwarded == odd
    assert tap.is_done
