from contextlib import suppress

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.budgets.prompt_tokens import worst_prompt_tokens
from gateway.errors import InvalidRequest
from gateway.wire import (
    MAX_PIECES,
    SLICE_BYTES,
    ChatRequest,
    parse_chat_request,
    refuse_excess,
    text_of,
)

USER = {"role": "user", "content": "hello"}


def parse(body: object, **headers: str) -> ChatRequest:
    encoded = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return parse_chat_request(orjson.dumps(body), encoded)


def refusal_of(body: object, **headers: str) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse(body, **headers)
    return caught.value


def test_keeps_unknown_fields_and_drops_only_its_own() -> None:
    body = {"model": "auto", "messages": [USER], "seed": 7, "tools": [], "x_new": {"a": [1]}}
    request = parse({**body, "waypost": {"willingness_to_pay": 0.5}})
    assert request.body == body
    assert request.options.willingness_to_pay_usd == 0.5


def test_reads_the_last_user_message_as_the_query() -> None:
    messages = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "user", "content": [{"type": "text", "text": "second"}, {"type": "image_url"}]},
        {"role": "tool", "content": "result"},
    ]
    request = parse({"model": "auto", "messages": messages})
    assert (request.query, request.turn_index) == ("second", 1)


def test_reads_the_last_message_where_no_user_spoke() -> None:
    request = parse({"model": "auto", "messages": [{"role": "system", "content": "only"}]})
    assert (request.query, request.turn_index) == ("only", 0)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"model": "x" * 257}, "model"),
        ({"messages": "hi"}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"content": "no role"}]}, "messages[0]"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": []}, None),
        ({"stream_options": [1]}, "stream_options"),
        ({"waypost": 3}, "waypost"),
        ({"waypost": {"wilingness": 1}}, "waypost.wilingness"),
        ({"waypost": {"willingness_to_pay": 0}}, "waypost.willingness_to_pay"),
        ({"waypost": {"willingness_to_pay": "NaN"}}, "waypost.willingness_to_pay"),
        ({"waypost": {"willingness_to_pay": "inf"}}, "waypost.willingness_to_pay"),
        ({"waypost": {"willingness_to_pay": True}}, "waypost.willingness_to_pay"),
        ({"waypost": {"willingness_to_pay": "much"}}, "waypost.willingness_to_pay"),
        ({"waypost": {"willingness_to_pay": []}}, "waypost.willingness_to_pay"),
        ({"waypost": {"turn_budget": 0}}, "waypost.turn_budget"),
        ({"waypost": {"turn_budget": 2.5}}, "waypost.turn_budget"),
        ({"waypost": {"turn_budget": True}}, "waypost.turn_budget"),
        ({"waypost": {"turn_budget": "1e3"}}, "waypost.turn_budget"),
        ({"waypost": {"turn_budget": "9" * 400}}, "waypost.turn_budget"),
        ({"waypost": {"plan": "first this"}}, "waypost.plan"),
        ({"waypost": {"plan": ["first", ""]}}, "waypost.plan"),
        ({"waypost": {"plan": ["step"] * 65}}, "waypost.plan"),
        ({"waypost": {"plan_position": 0}}, "waypost.plan_position"),
        ({"waypost": {"plan": ["only"], "plan_position": 1}}, "waypost.plan_position"),
        ({"waypost": {"plan": ["only"], "plan_position": -1}}, "waypost.plan_position"),
        ({"waypost": {"plan": ["only"], "plan_position": True}}, "waypost.plan_position"),
        ({"waypost": {"router_version": 3}}, "waypost.router_version"),
        ({"waypost": {"conversation_id": "a b"}}, "waypost.conversation_id"),
    ],
)
def test_names_the_field_at_fault(change: dict[str, object], param: str | None) -> None:
    body = {"model": "auto", "messages": [USER], **change}
    if param is None:
        assert parse(body).wants_usage is False
    else:
        assert refusal_of(body).param == param


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b"[" * 100_000])
def test_refuses_what_is_not_a_json_object(raw: bytes) -> None:
    with pytest.raises(InvalidRequest, match="JSON"):
        parse_chat_request(raw, {})


def test_a_header_wins_over_the_body() -> None:
    request = parse(
        {"model": "auto", "messages": [USER], "waypost": {"willingness_to_pay": 1}},
        x_waypost_willingness_to_pay="0.25",
        x_waypost_conversation_id="c-1",
        x_waypost_router_version="v",
        x_waypost_task="maths",
    )
    options = request.options
    assert options.willingness_to_pay_usd == 0.25
    assert (options.conversation_id, options.router_version, options.task) == ("c-1", "v", "maths")


def test_wants_usage_only_in_a_stream_that_asks_for_it() -> None:
    asked = {"model": "auto", "messages": [USER], "stream_options": {"include_usage": True}}
    assert parse({**asked, "stream": True}).wants_usage
    assert not parse(asked).wants_usage


json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_text_of_any_content_is_text(content: object) -> None:
    assert isinstance(text_of(content), str)


@given(st.dictionaries(st.sampled_from(["model", "messages", "stream", "waypost"]), json_values))
def test_any_body_is_parsed_or_refused(body: dict[str, object]) -> None:
    with suppress(InvalidRequest):
        assert isinstance(parse(body).query, str)


def test_reads_a_turn_budget_and_a_plan_and_passes_neither_on():
    own = {"turn_budget": 8000, "plan": ["half of 48", "the sum"], "plan_position": 1}
    request = parse({"model": "auto", "messages": [USER], "waypost": own})
    assert request.options.turn_budget_tokens == 8000
    assert request.options.plan == ("half of 48", "the sum")
    assert request.options.plan_position == 1
    assert "waypost" not in request.body


def test_reads_a_turn_budget_from_a_header():
    request = parse({"model": "auto", "messages": [USER]}, x_waypost_turn_budget="8000")
    assert request.options.turn_budget_tokens == 8000


@pytest.mark.parametrize("depth", [201, 300, 1_000])
@pytest.mark.parametrize(("start", "end"), [('{"x":', "}"), ("[", "]")])
def test_a_body_that_could_not_be_counted_for_its_depth_is_refused(depth, start, end) -> None:
    seed = start * (depth - 1) + "1" + end * (depth - 1)
    messages = '[{"role":"user","content":"x"}]'
    raw = f'{{"model":"m","messages":{messages},"seed":{seed}}}'.encode()
    with pytest.raises(InvalidRequest, match="nested more than 200 levels"):
        parse_chat_request(raw, {})


def test_a_long_body_may_have_any_number_of_objects() -> None:
    messages = [{"role": "user", "content": "x"}] * 500
    raw = orjson.dumps({"model": "m", "messages": messages})
    assert parse_chat_request(raw, {}).turn_index == 499


@pytest.mark.parametrize(
    "many",
    [
        {"messages": [USER] * 40_000},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}] * 40_000}]},
        {"messages": [USER], "tools": [{}] * 150_000},
        {"messages": [USER], "logit_bias": {str(n): 1 for n in range(150_000)}},
        {"messages": [USER], "seed": [0] * 250_000},
        {"messages": [USER], "seed": [[[]]] * 100_000},
    ],
)
def test_more_than_any_caller_needs_is_refused(many) -> None:
    raw = orjson.dumps({"model": "m", **many})
    with pytest.raises(InvalidRequest, match="more than 250000 strings, commas and brackets"):
        refuse_excess(raw)


@pytest.mark.parametrize("raw", [b'"' * 2_000_000, b'"' + b'\\"' * 1_000_000, b"[" * 2_000_000])
def test_what_is_no_json_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        parse_chat_request(raw, {})


def test_a_long_text_may_have_any_number_of_brackets_and_quotes() -> None:
    message = {"role": "user", "content": ',[{"\\' * 100_000}
    raw = orjson.dumps({"model": "m", "messages": [message]})
    assert parse_chat_request(raw, {}).query == message["content"]


@pytest.mark.parametrize("before", range(-2, 4))
def test_a_text_goes_on_from_one_slice_to_the_next(before: int) -> None:
    refuse_excess(b'"' + b"," * (SLICE_BYTES - before) + b'\\"' + b"," * MAX_PIECES + b'"')


@pytest.mark.parametrize("before", range(-2, 4))
def test_what_follows_a_text_of_several_slices_is_counted(before: int) -> None:
    text = b'"' + b"," * (2 * SLICE_BYTES - before) + b'\\\\"'
    refuse_excess(text + b"," * (MAX_PIECES - 1))
    with pytest.raises(InvalidRequest):
        refuse_excess(text + b"," * MAX_PIECES)


def test_a_text_that_never_ends_is_one_piece() -> None:
    refuse_excess(b'"' + b"," * 2 * SLICE_BYTES + b"\\")


def test_what_is_nested_no_deeper_is_counted() -> None:
    part: dict[str, object] = {"type": "input_audio"}
    for _ in range(194):
        part = {"type": "input_audio", "x": part}
    message = {"role": "user", "content": [part]}
    raw = orjson.dumps({"model": "m", "messages": [message], "seed": part})
    assert worst_prompt_tokens(parse_chat_request(raw, {}).body) > 0
