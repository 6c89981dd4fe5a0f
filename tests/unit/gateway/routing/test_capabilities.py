from dataclasses import replace

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.routing.candidates import CandidatePool
from gateway.routing.capabilities import OK, UNAVAILABLE, Verdict, judge, read_needs
from gateway.types import Capabilities, HostedModel, ModelPrice

PRICE = ModelPrice(1, 1)
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}}


def hosted(name: str = "m", **capabilities) -> HostedModel:
    return HostedModel(name, "p", name, PRICE, Capabilities(**capabilities))


def body(content="hello", **fields):
    return {"model": "auto", "messages": [{"role": "user", "content": content}], **fields}


def verdicts_on(request, *models: HostedModel, paused=()) -> tuple[Verdict, ...]:
    return judge(request, CandidatePool(models), {("p", name) for name in paused})


def reason(request, *models: HostedModel) -> str:
    return verdicts_on(request, *models)[0].reason


@pytest.mark.parametrize(
    ("request_body", "capabilities", "expected"),
    [
        (body(), {}, "ok"),
        (body(tools=[TOOL]), {"tools": False}, "no_tools"),
        (body(tools=[TOOL]), {"tools": True}, "ok"),
        (body(tools=[]), {"tools": False}, "ok"),
        (body(functions=[{"name": "look_up"}]), {"tools": False}, "no_tools"),
        (body([PICTURE]), {"vision": False}, "no_vision"),
        (body([PICTURE]), {"vision": True, "context_tokens": 4_000}, "ok"),
        (body([{"type": "input_image", "image_url": "https://x"}]), {}, "no_vision"),
        (body([{"type": "file", "file": {"file_id": "f"}}]), {}, "no_vision"),
        (body([{"type": "input_audio", "input_audio": {}}]), {"vision": True}, "no_audio"),
        (body(modalities=["text", "audio"]), {}, "no_audio"),
        (body(modalities=["text"]), {}, "ok"),
        (body([{"type": "video_url", "video_url": {}}]), {"vision": True}, "no_video"),
        (body(response_format=SCHEMA), {"json_schema": False}, "no_json_schema"),
        (body(response_format=SCHEMA), {}, "ok"),
        (body(response_format={"type": "json_object"}), {"json_schema": False}, "ok"),
        (body("a " * 5_000), {"context_tokens": 1_000}, "context_too_long"),
        (body("a " * 5_000), {"context_tokens": None}, "ok"),
        (body(max_tokens=2_000), {"context_tokens": 1_000}, "context_too_long"),
        (body(max_completion_tokens=2_000), {"max_output_tokens": 1_000}, "output_too_long"),
        (body(max_completion_tokens=9, max_tokens=2_000), {"max_output_tokens": 1_000}, "ok"),
        (body(max_tokens=1_000), {"max_output_tokens": 1_000}, "ok"),
        (body(logprobs=True, n=3, seed=1), {"tools": False, "json_schema": False}, "ok"),
    ],
)
def test_a_model_is_ruled_out_by_what_it_lacks(request_body, capabilities, expected):
    assert reason(request_body, hosted(**capabilities)) == expected


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {}}]},
        {"role": "tool", "tool_call_id": "1", "content": "42"},
        {"role": "function", "name": "look_up", "content": "42"},
    ],
)
def test_a_conversation_that_called_tools_needs_them(message):
    request = {"messages": [{"role": "user", "content": "hi"}, message]}
    assert reason(request, hosted(tools=False)) == "no_tools"


def test_a_model_behind_an_open_breaker_is_unavailable():
    assert verdicts_on(body(), hosted("a"), hosted("b"), paused=["b"]) == (OK, UNAVAILABLE)


def test_what_a_model_lacks_is_said_before_that_it_is_unavailable():
    models = hosted("a", tools=False), hosted("b")
    found = verdicts_on(body(tools=[TOOL]), *models, paused=["a", "b"])
    assert [verdict.reason for verdict in found] == ["no_tools", "unavailable"]


def test_a_tight_model_is_passed_over_where_another_surely_has_room():
    # 10,000 characters are 1,666 to 4,008 tokens.
    request = body("a" * 10_000)
    tight, roomy, unknown = (hosted(context_tokens=n) for n in (2_000, 5_000, None))
    found = [v.reason for v in verdicts_on(request, tight, roomy, unknown)]
    assert found == ["context_may_be_too_long", "ok", "ok"]


def test_a_tight_model_is_tried_where_no_other_surely_has_room():
    request = body("a" * 10_000)
    tight, roomy, unknown = (hosted(str(n), context_tokens=n) for n in (2_000, 5_000, None))
    assert reason(request, tight) == "ok"
    assert reason(request, tight, unknown) == "ok"
    verdicts = verdicts_on(request, tight, roomy, paused=["5000"])
    assert [v.reason for v in verdicts] == ["ok", "unavailable"]


def test_bounds_the_tokens_of_text_and_of_tools():
    needs = read_needs(body("word " * 600))
    assert needs.min_prompt_tokens == 500
    assert needs.max_prompt_tokens == 1_208
    with_tools = read_needs(body("word " * 600, tools=[TOOL] * 10))
    assert with_tools.min_prompt_tokens > needs.min_prompt_tokens + 100


def test_other_alphabets_may_take_more_tokens_than_characters():
    assert read_needs(body("語" * 100)).max_prompt_tokens == 158


def test_the_bytes_of_a_picture_are_not_text():
    needs = read_needs(body([{"type": "text", "text": "what?"}, PICTURE]))
    assert needs.min_prompt_tokens == 0
    assert 1_600 <= needs.max_prompt_tokens < 1_700


@pytest.mark.parametrize(
    "messages",
    [
        None,
        "hello",
        [],
        [None, 7, "x", []],
        [{"role": "user"}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": 7}],
        [{"role": "user", "content": [None, 7, "x", {}, {"type": 7}, {"text": 7}]}],
        [{"role": ["user"], "content": "x", "tool_calls": "x"}],
    ],
)
def test_leaves_malformed_messages_to_the_provider(messages):
    request = {
        "messages": messages,
        "tools": "hammer",
        "functions": {},
        "response_format": "json",
        "modalities": "audio",
        "max_tokens": "many",
    }
    assert reason(request, hosted(tools=False, json_schema=False)) == "ok"


@pytest.mark.parametrize("junk", ["12", True, 1.5, -4, 0, None])
def test_an_output_limit_that_is_no_number_reserves_nothing(junk):
    assert read_needs(body(max_tokens=junk)).output_tokens == 0


def test_tools_nested_beyond_reason_do_not_stumble():
    tools = orjson.loads(b"[" * 500 + b"]" * 500)
    assert reason(body(tools=tools), hosted(tools=False)) == "no_tools"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-9, 9) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(
    ["messages", "tools", "functions", "response_format", "modalities", "max_tokens"]
)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(fields, json_values), st.lists(st.dictionaries(st.text(), json_values)))
def test_never_raises_whatever_a_caller_sends(request, messages):
    needs = read_needs({"messages": messages, **request})
    assert 0 <= needs.min_prompt_tokens <= needs.max_prompt_tokens


@settings(deadline=None)
@given(st.text(max_size=300), st.integers(1, 200))
def test_bounds_hold_for_any_text(text, context):
    needs = read_needs(body(text))
    n_bytes = len(text.encode("utf-8", "surrogatepass"))
    assert needs.min_prompt_tokens <= len(text) <= n_bytes
    assert needs.max_prompt_tokens >= len(text) / 2.5
    assert reason(body(text), hosted(context_tokens=context)) in {"ok", "context_too_long"}


def test_a_field_is_kept_from_the_providers_that_may_not_be_sent_it():
    strict, open_to_any = hosted("strict"), hosted("open")
    strict = replace(strict, fields=frozenset({"model", "messages"}))
    found = verdicts_on(body(plugins=[]), strict, open_to_any)
    assert [verdict.reason for verdict in found] == ["field_refused", "ok"]
    assert verdicts_on(body(plugins=None), strict, open_to_any) == (OK, OK)
