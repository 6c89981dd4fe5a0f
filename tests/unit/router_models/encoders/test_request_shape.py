from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_models.encoders.request_shape import (
    LENGTH,
    SHAPE_NAMES,
    SUFFIX,
    WIDTH,
    append_shape,
    encoder_ids,
    measure_shape,
    text_part,
)

USER = {"role": "user", "content": "Which berth is free?"}
SYSTEM = {"role": "system", "content": "You are the assistant of the harbour."}
TOOL = {"type": "function", "function": {"name": "find_berth", "parameters": {}}}
SEARCH = {"type": "web_search"}
SCHEMA = {"type": "json_schema", "json_schema": {"schema": {"properties": {"berth": {}}}}}


def body(*messages, **fields):
    return {"model": "auto", "messages": list(messages) or [USER], **fields}


def part(kind, **fields):
    return {
        "role": "user",
        "content": [{"type": "text", "text": "Look."}, {"type": kind, **fields}],
    }


def shape_of(*messages, **fields):
    shape = measure_shape(body(*messages, **fields))
    assert shape is not None
    return shape


def cosine(one, other):
    return one @ other / np.linalg.norm(one) / np.linalg.norm(other)


@pytest.mark.parametrize(
    "plain",
    [
        body(),
        body(temperature=0.2, stream=True),
        body({"role": "user", "content": [{"type": "text", "text": "Look."}]}),
        body(tools=[], stop=None, response_format={"type": "text"}, tool_choice="auto"),
        {},
    ],
)
def test_one_user_message_of_text_has_no_shape(plain):
    assert measure_shape(plain) is None


@pytest.mark.parametrize(
    ("request_body", "names"),
    [
        (body(tools=[TOOL]), ["tools"]),
        (body(functions=[{"name": "find_berth"}]), ["tools"]),
        (body(tools=[SEARCH]), ["tools", "hosted_tools"]),
        (body(tools=[TOOL], tool_choice="required"), ["tools", "must_call"]),
        (body(tools=[TOOL], tool_choice="none"), ["tools", "may_not_call"]),
        (body(part("image_url")), ["images"]),
        (body(part("input_audio")), ["audio"]),
        (body(part("file")), ["files"]),
        (body(SYSTEM, USER), ["system", "earlier_chars"]),
        (body({**SYSTEM, "role": "developer"}, USER), ["system", "earlier_chars"]),
        (
            body(USER, {"role": "assistant", "content": "3"}, USER),
            ["earlier_chars", "earlier_turns"],
        ),
        (body(USER, {"role": "tool", "content": ""}), ["tool_results", "ends_with_tool"]),
        (body(USER, {"role": "assistant", "content": ""}), ["ends_with_assistant"]),
        (body(response_format={"type": "json_object"}), ["json_object"]),
        (body(response_format=SCHEMA), ["json_schema", "properties"]),
        (body(max_tokens=100), ["max_tokens"]),
        (body(max_completion_tokens=100), ["max_tokens"]),
        (body(stop=["\n"]), ["stop"]),
    ],
)
def test_says_what_a_request_has_beside_its_text(request_body, names):
    shape = measure_shape(request_body)
    assert shape is not None
    found = [name for name, value in zip(SHAPE_NAMES, shape, strict=True) if value]
    assert [name for name in found if "sign" not in name] == names


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["function", "tool", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "name", "function", "role", "content", "text", "schema", "x"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)
FIELDS = ["messages", "tools", "functions", "tool_choice", "response_format", "max_tokens", "stop"]


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_whatever_is_sent_is_finite_and_no_longer_than_it_may_be(sent):
    shape = measure_shape(sent)
    assert shape is None or (
        shape.shape == (WIDTH,) and 0 < np.linalg.norm(shape) <= LENGTH * (1 + 1e-6)
    )


@given(
    limit=st.one_of(st.integers(-1, 2**21), st.floats(), st.text(max_size=2), st.none()),
    stop=st.one_of(st.none(), st.text(max_size=2), st.lists(st.text(max_size=2), max_size=2)),
)
def test_what_most_requests_have_is_measured_as_all_is(limit, stop):
    fields = {"max_tokens": limit, "stop": stop}
    text = measure_shape({"messages": [{"role": "user", "content": "Hi"}], **fields})
    parts = [{"type": "text", "text": "Hi"}]
    whole = measure_shape({"messages": [{"role": "user", "content": parts}], **fields})

    np.testing.assert_array_equal(
        np.zeros(WIDTH) if text is None else text, np.zeros(WIDTH) if whole is None else whole
    )


def test_requests_of_one_application_are_alike_and_those_of_two_are_not():
    others = [f"You are the assistant of shop {number}." for number in range(20)]
    shapes = [shape_of({"role": "system", "content": text}, USER) for text in others]
    question = {"role": "user", "content": "Another question"}
    for text, shape in zip(others, shapes, strict=True):
        again = shape_of({"role": "system", "content": text}, question)
        np.testing.assert_array_equal(again, shape)
    apart = [cosine(one, other) for one, other in product(shapes, shapes) if one is not other]
    assert np.mean(apart) < 0.7


def test_a_system_prompt_in_parts_is_the_same_as_in_one_string():
    parts = [{"type": "text", "text": SYSTEM["content"]}]
    np.testing.assert_array_equal(
        shape_of({"role": "system", "content": parts}, USER), shape_of(SYSTEM, USER)
    )


def test_what_is_no_message_and_no_tool_says_nothing_more_than_that_it_is_there():
    assert measure_shape(body("no message", USER)) is None
    assert measure_shape(body({"role": "user", "content": ["no part", {"text": 1}]})) is None
    shape = shape_of(tools=["no tool", {"type": ["list"]}, {"name": 1}])
    assert next(n for n, value in zip(SHAPE_NAMES, shape, strict=True) if value) == "tools"


def test_a_date_at_the_end_of_a_system_prompt_makes_no_other_application():
    rules = "Answer in one sentence. " * 20
    monday, friday = (
        shape_of({"role": "system", "content": rules + day}, USER) for day in ("Monday", "Friday")
    )
    np.testing.assert_array_equal(monday, friday)


def test_tools_are_known_by_their_names_in_any_order():
    tools = [{"type": "function", "function": {"name": name}} for name in ("find", "book", "pay")]
    there = shape_of(tools=tools)
    np.testing.assert_array_equal(there, shape_of(tools=tools[::-1]))
    other = [{"type": "function", "function": {"name": name}} for name in ("sing", "dance", "act")]
    assert cosine(there, shape_of(tools=other)) < 0.9


def test_most_turns_of_a_conversation_look_like_the_one_before():
    answer = {"role": "assistant", "content": "Berth 3."}
    turns = [shape_of(SYSTEM, *[USER, answer] * turn, USER).tobytes() for turn in range(1, 33)]
    assert sum(one == other for one, other in pairwise(turns)) > 20


def test_a_vector_with_a_shape_has_a_name_of_its_own_and_begins_with_the_text():
    text = np.array([0.5, -1.0], np.float32)
    assert append_shape("fake-1", text, body()) == ("fake-1", text)
    name, vector = append_shape("fake-1", text, body(tools=[TOOL]))
    assert name == f"fake-1{SUFFIX}"
    assert vector.shape == (2 + WIDTH,)
    assert text_part(name, vector.tobytes()) == ("fake-1", text.tobytes())
    assert text_part("fake-1", text.tobytes()) == ("fake-1", text.tobytes())


def test_rows_of_an_encoder_are_those_with_and_without_a_shape():
    assert encoder_ids("fake-1") == ("fake-1", f"fake-1{SUFFIX}")
    assert encoder_ids(f"fake-1{SUFFIX}") == (f"fake-1{SUFFIX}",)
