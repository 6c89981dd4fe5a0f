"""A conversation may go on with another model: what was made elsewhere is made fit for it."""

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from tests.fakes.gateway import CLAUDE, LARGE, PRICE, SMALL, RunningGateway, running_gateway
from tests.fakes.upstream import (
    Answer,
    anthropic_message,
    anthropic_stream_chunks,
    completion,
    json_answer,
    stream_answer,
)

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("wire histories"),  # one gateway
]

CHAT = "/v1/chat/completions"
MISTRAL = "mistral"
NEWEST = "newest"
SEES = {"vision": True, "tools": True, "json_schema": True}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    hosted = {
        CLAUDE: ("gamma", "claude-sonnet-4-5"),
        NEWEST: ("gamma", "claude-opus-4-6"),
        LARGE: ("beta", "some-model"),
        SMALL: ("alpha", "gpt-4o-mini"),
        MISTRAL: ("delta", "mistral-large-latest"),
    }
    models = {
        name: {"provider": host, "upstream_name": up, "price": PRICE, "capabilities": SEES}
        for name, (host, up) in hosted.items()
    }
    models[CLAUDE]["capabilities"] = {**SEES, "reasoning": "thinking"}
    claude_only = {"willingness_to_pay_usd": 1.0, "models": [CLAUDE]}
    async with running_gateway(
        tmp_path_factory.mktemp("wire"),
        keeps_store=True,
        also={"alpha": {"catalogue": "openai"}, "delta": {"catalogue": "mistral"}},
        models=models,
        profiles={"claude-only": claude_only},
    ) as gateway:
        yield gateway


@pytest.fixture
def gateway(running: RunningGateway) -> RunningGateway:
    """The gateway, whose upstreams have seen nothing."""
    running.upstreams.reset()
    return running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def http(running: RunningGateway) -> AsyncIterator[httpx2.AsyncClient]:
    async with running.caller() as client:
        yield client


async def sent(
    gateway: RunningGateway,
    http: httpx2.AsyncClient,
    headers: dict[str, str] | None = None,
    *,
    dropped: str = "",
    **body: Any,
) -> Any:
    """Ask, and return the body that went upstream."""
    is_stream = body.get("stream", False)
    plain = stream_answer() if is_stream else json_answer(completion())
    events = Answer(tuple(anthropic_stream_chunks()))
    for upstream in gateway.upstreams.by_name.values():
        upstream.answers = [plain]
    gateway.gamma.answers = [events if is_stream else json_answer(anthropic_message())]
    answer = await http.post(CHAT, json=body, headers=headers or {})
    assert (answer.status_code, answer.headers.get("x-waypost-dropped", "")) == (200, dropped)
    (received,) = [one for up in gateway.upstreams.by_name.values() for one in up.requests]
    return received.body


def user(content: Any, **fields: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **fields}


def calling(*ids: str, **fields: Any) -> dict[str, Any]:
    function = {"name": "get_weather", "arguments": "{}"}
    calls = [{"id": one, "type": "function", "function": function} for one in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls, **fields}


def result(call_id: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": "sunny"}


def ids_in(body: Any) -> list[str]:
    """Collect the ids of calls and of results, in order, of either dialect."""
    found: list[str] = []
    for message in body["messages"]:
        found += [call["id"] for call in message.get("tool_calls") or ()]
        found += [message["tool_call_id"]] if "tool_call_id" in message else []
        content = message["content"] if isinstance(message["content"], list) else ()
        found += [p.get("id") or p.get("tool_use_id") for p in content if p["type"][:4] == "tool"]
    return found


FORMS = {
    CLAUDE: r"[a-zA-Z0-9_-]+",
    MISTRAL: r"[a-zA-Z0-9]{9}",
    SMALL: r".{1,40}",
    LARGE: r".+",
}
ODD_IDS = ["functions.get_weather:0", "call_" + "x" * 80, "é à", "gemini|1/2==", "123456789"]


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("model", FORMS)
async def test_ids_of_tool_calls_fit_every_host_and_stay_the_same_in_every_turn(
    gateway: RunningGateway, http: httpx2.AsyncClient, model: str, *, is_stream: bool
) -> None:
    messages = [user("Weather?"), calling(*ODD_IDS), *map(result, ODD_IDS)]
    seen = ids_in(await sent(gateway, http, model=model, messages=messages, stream=is_stream))
    assert all(re.fullmatch(FORMS[model], one) for one in seen)
    assert seen[: len(ODD_IDS)] == seen[len(ODD_IDS) :]
    assert len(set(seen)) == len(ODD_IDS)
    assert [s for s in seen if s in ODD_IDS] == [
        o for o in ODD_IDS * 2 if re.fullmatch(FORMS[model], o)
    ]
    gateway.upstreams.reset()
    later = [*messages, user("And tomorrow?")]
    body = await sent(gateway, http, model=model, messages=later, stream=is_stream)
    assert ids_in(body) == seen


async def test_an_empty_id_is_made_one_too(
    gateway: RunningGateway, http: httpx2.AsyncClient
) -> None:
    messages = [user("Weather?"), calling(""), result("")]
    one, other = ids_in(await sent(gateway, http, model=CLAUDE, messages=messages))
    assert one == other
    assert one


KEPT = {LARGE: True, SMALL: False, MISTRAL: False, CLAUDE: False}


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(("model", "is_kept"), KEPT.items())
async def test_reasoning_goes_only_where_it_is_taken(
    gateway: RunningGateway, http: httpx2.AsyncClient, model: str, *, is_kept: bool, is_stream: bool
) -> None:
    thought = {"role": "assistant", "content": "Hello.", "reasoning_content": "Be kind."}
    messages = [user("Hi"), thought, user("Again")]
    body = await sent(gateway, http, model=model, messages=messages, stream=is_stream)
    assert ("reasoning_content" in body["messages"][1]) is is_kept


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(
    ("model", "role"), [(SMALL, "developer"), (LARGE, "system"), (MISTRAL, "system")]
)
async def test_the_role_developer_goes_only_where_it_is_known(
    gateway: RunningGateway, http: httpx2.AsyncClient, model: str, role: str, *, is_stream: bool
) -> None:
    messages = [user("Hi"), {"role": "developer", "content": "Be brief."}, user("Again")]
    body = await sent(gateway, http, model=model, messages=messages, stream=is_stream)
    assert [one["role"] for one in body["messages"]] == ["user", role, "user"]


THINKING: dict[str, Any] = {
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "max_tokens": 4000,
}
ROUND = [user("Weather?"), calling("a"), result("a")]
HISTORIES = {
    "amid a round": (ROUND, False),
    "a user text after the result": ([*ROUND, user("Thanks, and?")], False),
    "an answer after the round": (
        [*ROUND, {"role": "assistant", "content": "Sunny."}, user("And?")],
        True,
    ),
    "a begun answer": ([user("Hi"), {"role": "assistant", "content": "He"}], False),
    "no tools": ([user("Hi")], True),
}


@pytest.mark.parametrize(("messages", "may_think"), HISTORIES.values(), ids=HISTORIES.keys())
async def test_claude_thinks_only_where_it_need_not_see_earlier_thoughts(
    gateway: RunningGateway, http: httpx2.AsyncClient, messages: Any, *, may_think: bool
) -> None:
    dropped = "" if may_think else "thinking"
    body = await sent(gateway, http, model=CLAUDE, messages=messages, dropped=dropped, **THINKING)
    assert ("thinking" in body) is may_think
    gateway.upstreams.reset()
    body = await sent(gateway, http, model=CLAUDE, messages=messages, reasoning_effort="medium")
    assert ("thinking" in body) is may_think


@pytest.mark.parametrize("model", [CLAUDE, "claude-only"])
@pytest.mark.parametrize(("messages", "may_think"), HISTORIES.values(), ids=HISTORIES.keys())
async def test_a_turn_budget_has_claude_think_only_there(
    gateway: RunningGateway,
    http: httpx2.AsyncClient,
    messages: Any,
    model: str,
    *,
    may_think: bool,
) -> None:
    name = f"{model}-{len(messages)}-{may_think}-{messages[-1]['role']}"
    budget = {"x-waypost-conversation-id": name, "x-waypost-turn-budget": "100000"}
    body = await sent(gateway, http, budget, model=model, messages=messages, max_tokens=4000)
    assert ("thinking" in body) is may_think


async def test_adaptive_thinking_stays_after_tools(
    gateway: RunningGateway, http: httpx2.AsyncClient
) -> None:
    thinking = {"type": "adaptive"}
    body = await sent(gateway, http, model=NEWEST, messages=ROUND, thinking=thinking)
    assert body["thinking"] == thinking


PIXEL = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
MARK = {"type": "ephemeral"}
TEXT = {"type": "text", "text": "Hi"}
FIT_FOR_CLAUDE: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "temperature and top_p": ({"temperature": 0.3, "top_p": 0.8}, {"temperature": 0.3}, "top_p"),
    "top_p alone": ({"top_p": 0.8}, {"top_p": 0.8}, ""),
    "temperature and a top_p of 1": ({"temperature": 2, "top_p": 1}, {"temperature": 1}, ""),
    "blank stops": ({"stop": ["\n", "", "END"]}, {"stop_sequences": ["END"]}, "stop"),
    "a blank stop": ({"stop": " \n"}, {}, "stop"),
    "an empty stop": ({"stop": ""}, {}, ""),
    "top_k while thinking": (
        {**THINKING, "top_k": 3, "temperature": 1},
        {"thinking": THINKING["thinking"], "max_tokens": 4000},
        "temperature, top_k",
    ),
}


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("case", FIT_FOR_CLAUDE.values(), ids=FIT_FOR_CLAUDE.keys())
async def test_fields_are_made_fit_for_claude(
    gateway: RunningGateway, http: httpx2.AsyncClient, case: Any, *, is_stream: bool
) -> None:
    fields, wanted, dropped = case
    body = {"model": CLAUDE, "messages": [user("Hi")], "max_tokens": 9, "stream": is_stream}
    seen = await sent(gateway, http, dropped=dropped, **{**body, **fields})
    plain = {"model", "messages", "stream"}
    expected = {"max_tokens": 9, **wanted}
    assert {name: value for name, value in seen.items() if name not in plain} == expected


MESSAGES_FOR_CLAUDE: dict[str, tuple[list[Any], list[Any]]] = {
    "a begun answer that ends in a blank": (
        [user("Hi"), {"role": "assistant", "content": "Hel \n"}],
        [user([TEXT]), {"role": "assistant", "content": [{"type": "text", "text": "Hel"}]}],
    ),
    "blank texts": (
        [user("Hi"), {"role": "assistant", "content": " \n"}, user([{**TEXT, "text": "\t"}, TEXT])],
        [user([TEXT, TEXT])],
    ),
    "a blank beside a picture": (
        [user([{**TEXT, "text": " "}, PIXEL])],
        [
            user(
                [
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": "AA"},
                    }
                ]
            )
        ],
    ),
    "a mark on a text message": (
        [user("Hi", cache_control=MARK)],
        [user([{**TEXT, "cache_control": MARK}])],
    ),
    "a mark on a message of parts": (
        [user([TEXT, TEXT], cache_control=MARK)],
        [user([TEXT, {**TEXT, "cache_control": MARK}])],
    ),
}


@pytest.mark.parametrize("case", MESSAGES_FOR_CLAUDE.values(), ids=MESSAGES_FOR_CLAUDE.keys())
async def test_messages_are_made_fit_for_claude(
    gateway: RunningGateway, http: httpx2.AsyncClient, case: Any
) -> None:
    messages, wanted = case
    assert (await sent(gateway, http, model=CLAUDE, messages=messages))["messages"] == wanted


async def test_a_mark_on_the_system_message_is_kept_for_claude(
    gateway: RunningGateway, http: httpx2.AsyncClient
) -> None:
    system = {"role": "system", "content": "Hi", "cache_control": MARK}
    body = await sent(gateway, http, model=CLAUDE, messages=[system, user("Hi")])
    assert body["system"] == [{**TEXT, "cache_control": MARK}]
