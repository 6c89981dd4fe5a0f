import orjson
import pytest

from gateway.evaluation_log.exchange import MAX_KEPT_CHARS, ForwardedEvents, answer_of, prompt_of
from gateway.wire import parse_chat_request
from tests.fakes.upstream import anthropic_event

QUESTION = {"role": "user", "content": "6 x 7?"}


def asked(*messages, **fields):
    body = {"model": "auto", "messages": list(messages) or [QUESTION], **fields}
    return parse_chat_request(orjson.dumps(body), {})


def said(text: str | None, index: int = 0) -> bytes:
    chunk = {"choices": [{"index": index, "delta": {"content": text}, "finish_reason": None}]}
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def test_keeps_roles_and_text_of_a_prompt_and_nothing_else():
    system = {"role": "system", "content": "Be brief.", "name": "operator"}
    parts = {
        "role": "user",
        "content": [{"type": "text", "text": "6 x"}, {"type": "text", "text": "7?"}],
    }

    assert prompt_of(asked(system, parts, temperature=0.0)) == (
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "6 x\n7?"},
    )


@pytest.mark.parametrize(
    "request_",
    [
        asked({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}),
        asked(QUESTION, {"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]}),
        asked(QUESTION, {"role": "tool", "tool_call_id": "c", "content": "42"}),
        asked({"role": "user", "content": ""}),
        asked({"role": "user", "content": "x" * (MAX_KEPT_CHARS + 1)}),
        asked(QUESTION, tools=[{"type": "function", "function": {"name": "f"}}]),
        asked(QUESTION, n=2),
    ],
    ids=["image", "tool call", "tool result", "empty", "too long", "tools", "two choices"],
)
def test_keeps_no_prompt_that_is_more_than_its_text(request_):
    assert prompt_of(request_) is None


def test_keeps_the_text_of_a_whole_answer():
    assert answer_of({"choices": [{"message": {"content": "It is 42."}}]}) == "It is 42."


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"choices": None},
        {"choices": [None]},
        {"choices": [{"message": {"content": None, "tool_calls": []}}]},
        {"choices": [{"message": {"content": "42"}}, {"message": {"content": "41"}}]},
        {"choices": [{"message": {"content": "x" * (MAX_KEPT_CHARS + 1)}}]},
    ],
)
def test_keeps_no_answer_that_is_not_one_text(body):
    assert answer_of(body) is None


def test_gathers_a_streamed_answer_however_its_events_arrive():
    text = ForwardedEvents()
    text.add(b": keep-alive\n\n" + said("It ") + said(None) + said("is "))
    text.add(b"data: {torn\n\n" + said("42."))

    assert text.text == "It is 42."


def test_a_stream_without_text_or_with_too_much_is_not_kept():
    silent, long = ForwardedEvents(), ForwardedEvents()
    silent.add(said(None))
    long.add(said("x" * MAX_KEPT_CHARS))
    long.add(said("y"))

    assert silent.text is None
    assert long.text is None


def test_a_text_that_a_host_sends_under_several_names_counts_once():
    details = {"type": "reasoning.text", "text": "so", "format": "anthropic-claude-v1"}
    deltas = [
        {"reasoning": "so", "reasoning_content": "so", "reasoning_details": [details]},
        {"content": "so"},
        {"reasoning_details": [{"type": "reasoning.text", "signature": "Zm9vYmFy"}]},
    ]
    forwarded = ForwardedEvents()
    for delta in deltas:
        chunk = {"choices": [{"index": 0, "delta": delta}]}
        forwarded.add(b"data: " + orjson.dumps(chunk) + b"\n\n")

    assert forwarded.output() == ("soso", 0)


@pytest.mark.parametrize("later", ["word ", "w", "a much longer run of words"])
def test_of_a_long_stream_more_is_counted_than_can_have_been_put_out(later):
    event = said("word ")
    forwarded = ForwardedEvents(10 * len(event))
    for text in ["word "] * 10 + [later] * 30:
        forwarded.add(said(text))

    assert forwarded.output() == ("word " * 10, 30 * len(later))


def test_the_characters_of_a_long_stream_are_counted_by_the_part_that_is_kept():
    event = said("word ")
    forwarded = ForwardedEvents(10 * len(event))
    for _ in range(40):
        forwarded.add(event)

    assert forwarded.n_chars() == 40 * len("word ")


def test_after_events_that_say_nothing_all_that_was_forwarded_counts():
    forwarded = ForwardedEvents(2)
    forwarded.add(b": " + b"x" * 50 + b"\n\n")
    forwarded.add(said("word "))

    assert forwarded.output() == ("", forwarded.n_bytes)


def test_one_long_event_is_kept_in_part_and_counts_as_all_that_was_forwarded():
    event = said("word " * 1_000)
    forwarded = ForwardedEvents(len(event) // 2)
    forwarded.add(event)

    text, more = forwarded.output()

    assert text == ""
    assert more == forwarded.n_bytes


def test_the_part_that_is_kept_of_a_last_event_counts_too():
    event = said("word ")
    forwarded = ForwardedEvents(2 * len(event) - 5)
    forwarded.add(event)
    forwarded.add(event)

    assert forwarded.output() == ("word ", len("word "))


def test_reads_what_was_forwarded_in_anthropics_form():
    forwarded = ForwardedEvents()
    thought = {"type": "thinking_delta", "thinking": "Hm. "}
    for delta in (thought, {"type": "text_delta", "text": "Hi"}):
        forwarded.add(anthropic_event("content_block_delta", index=0, delta=delta))
    forwarded.add(anthropic_event("message_delta", delta={"stop_reason": "end_turn"}))

    assert forwarded.text == "Hi"
    assert forwarded.output() == ("Hm. Hi", 0)
