"""What hosts and callers send in odd forms that are allowed, and that has to pass."""

import asyncio
from typing import Any

import httpx2
import pytest
from openai import AsyncOpenAI

from tests.fakes.gateway import CLAUDE, PRICE, SMALL, RunningGateway, running_gateway
from tests.fakes.upstream import Answer, chunk, completion, json_answer, stream_answer

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHAT = "/v1/chat/completions"
HELLO: list[Any] = [{"role": "user", "content": "Say hello."}]
PLAIN = (
    b"".join((chunk({"content": "Grüße "}), chunk({"content": "你好"}), chunk({}, "stop")))
    + b"data: [DONE]\n\n"
)
FORMS = {
    "CRLF": PLAIN.replace(b"\n", b"\r\n"),
    "CR": PLAIN.replace(b"\n", b"\r"),
    "a byte order mark": b"\xef\xbb\xbf" + PLAIN,
    "no blank after the colon": PLAIN.replace(b"data: ", b"data:"),
    "comments": b": hello\n\n" + PLAIN.replace(b"data: ", b": still here\ndata: "),
    "other fields": PLAIN.replace(b"data: ", b"id: 1\nretry: 9\nevent: message\ndata: "),
}


async def said(client: AsyncOpenAI, model: str = SMALL) -> str:
    stream: Any = await client.chat.completions.create(
        model=model,
        messages=HELLO,
        stream=True,
    )
    return "".join([event.choices[0].delta.content or "" async for event in stream])


@pytest.mark.parametrize("size", [1, 100_000])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
async def test_events_of_any_form_that_is_allowed_are_read(
    gateway: RunningGateway, client: AsyncOpenAI, form: bytes, size: int
) -> None:
    """Also where each byte comes alone, so that characters of several are cut."""
    pieces = tuple(form[start : start + size] for start in range(0, len(form), size))
    gateway.alpha.answers = [Answer(pieces)]

    assert await said(client) == "Grüße 你好"


async def test_an_answer_ends_at_its_mark_although_the_connection_is_held_open(
    gateway: RunningGateway, client: AsyncOpenAI
) -> None:
    gateway.alpha.answers = [Answer((PLAIN,), stalls=True)]

    assert await asyncio.wait_for(said(client), 20.0) == "Grüße 你好"


async def test_an_event_of_megabytes_passes(gateway: RunningGateway, client: AsyncOpenAI) -> None:
    long = "x" * 3_000_000
    ending = chunk({}, "stop") + b"data: [DONE]\n\n"
    gateway.alpha.answers = [Answer((chunk({"content": long}), ending))]

    assert await said(client) == long


PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
TOOL_LAST: list[dict[str, Any]] = [
    {"role": "user", "content": "Weather?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}},
            {"id": "c2", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": ""},
    {"role": "tool", "tool_call_id": "c2", "content": "sunny"},
]
QUERIES: dict[str, list[dict[str, Any]]] = {
    "an image alone": [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": PIXEL}}]}
    ],
    "Chinese": [{"role": "user", "content": "十七和七十一哪个更大。" * 100}],
    "as long as a body may be": [{"role": "user", "content": "long " * 190_000}],
    "401 turns": [
        *({"role": role, "content": "Hi"} for _ in range(200) for role in ("user", "assistant")),
        {"role": "user", "content": "Bye"},
    ],
    "results of tools at the end": TOOL_LAST,
    "U+0000": [{"role": "user", "content": "a\0b"}],
    "several system messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "system", "content": "Be kind."},
        *HELLO,
    ],
}


@pytest.mark.parametrize("model", ["auto", SMALL, CLAUDE])
@pytest.mark.parametrize("messages", QUERIES.values(), ids=QUERIES.keys())
async def test_queries_of_any_kind_are_routed_and_answered(
    accommodating: RunningGateway, http: httpx2.AsyncClient, messages: list[Any], model: str
) -> None:
    answer = await http.post(CHAT, json={"model": model, "messages": messages})

    assert answer.status_code == 200, answer.text


NAMES = ("vendor/model:free", "modèle", "a%2Fb")


async def test_a_model_may_have_any_name(tmp_path: Any) -> None:
    model = {"provider": "alpha", "price": PRICE}
    models = {name: {**model, "upstream_name": f"up/{name}"} for name in NAMES}
    async with (
        running_gateway(tmp_path, models=models, profiles={}) as gateway,
        AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as client,
    ):
        gateway.alpha.answers = [stream_answer("Hello!")]
        listed = [model.id async for model in client.models.list()]
        assert set(NAMES) < set(listed)
        for name in NAMES:
            assert await said(client, name) == "Hello!"
            assert gateway.alpha.last.body["model"] == f"up/{name}"
            assert (await client.models.retrieve(name)).id == name


async def test_every_field_that_a_host_adds_to_its_answer_comes_back(
    gateway: RunningGateway, http: httpx2.AsyncClient
) -> None:
    whole = completion(x_host={"a": [1, None]}, system_fingerprint="fp_1", service_tier="default")
    gateway.alpha.answers = [json_answer(whole)]

    answer = (await http.post(CHAT, json={"model": SMALL, "messages": HELLO})).json()

    assert {name: answer[name] for name in whole if name != "usage"} == {
        name: whole[name] for name in whole if name != "usage"
    }
