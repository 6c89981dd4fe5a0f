"""A team that stores its responses goes on from them by their ids, as OpenAI's SDK does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai import AsyncOpenAI
from sqlalchemy import Engine, update

from gateway.access.keys import KeyStore, ensure_first_key
from gateway.app import open_gateway
from gateway.settings.config import GatewaySettings
from gateway.startup import prepare
from migrations.tables import STORED_RESPONSES
from tests.fakes.gateway import (
    CLAUDE,
    SMALL,
    RunningGateway,
    make_settings,
)
from tests.fakes.responses import WEATHER, response, response_chunks
from tests.fakes.schemas import closing
from tests.fakes.server import serve
from tests.fakes.stored_responses import NATIVE, ids_in
from tests.fakes.turns import until
from tests.fakes.upstream import (
    Answer,
    ScriptedUpstream,
    anthropic_message,
    anthropic_stream_chunks,
    chunk,
    completion,
    json_answer,
    stream_answer,
    usage_chunk,
)

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("stored responses"),  # one gateway
]

RESPONSES = "/v1/responses"
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city":"Oslo"}'},
}


def calls_weather() -> dict[str, Answer]:
    """Write an answer of each upstream that calls a tool."""
    message = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    use = {"type": "tool_use", "id": "call_1", "name": "get_weather", "input": {"city": "Oslo"}}
    item = {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "call_1",
        "name": "get_weather",
        "arguments": '{"city":"Oslo"}',
        "status": "completed",
    }
    thoughts = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "aGk="}
    return {
        "alpha": json_answer(completion(choices=[choice])),
        "beta": json_answer(response(id="resp_n1", output=[thoughts, item])),
        "gamma": json_answer(anthropic_message(content=[use], stop_reason="tool_use")),
    }


async def two_turns(client: Any, model: str) -> Any:
    """Have a tool called, and give its result by the id of the response that called it."""
    first = await client.responses.create(
        model=model, input="Weather in Oslo?", tools=[WEATHER], instructions="Be brief."
    )
    (call,) = [item for item in first.output if item.type == "function_call"]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    return await client.responses.create(
        model=model, input=[result], previous_response_id=first.id, tools=[WEATHER]
    )


@pytest.mark.parametrize("model", [SMALL, CLAUDE, NATIVE])
async def test_a_result_of_a_tool_goes_to_the_response_that_called_it(
    gateway: RunningGateway, client: Any, model: str
) -> None:
    for name, answer in calls_weather().items():
        gateway.upstreams.by_name[name].answers.insert(0, answer)

    second = await two_turns(client, model)

    assert second.output_text == "Hello!"
    assert second.previous_response_id
    sent = next(up.last for up in gateway.upstreams.by_name.values() if up.requests).body
    if model == NATIVE:
        kinds = [item.get("type") for item in sent["input"]]
        assert kinds == ["message", "reasoning", "function_call", "function_call_output"]
        assert (sent["store"], "previous_response_id" in sent) == (False, False)
        assert "reasoning.encrypted_content" in sent["include"]
    else:
        roles = [message["role"] for message in sent["messages"]]
        assert roles == ["user", "assistant", "tool" if model == SMALL else "user"]
        assert "Be brief." not in str(sent)  # instructions hold for one response


def native_stream(number: int) -> Answer:
    """Write a stream of a host that speaks Responses, and that gives no id twice."""
    chunks = response_chunks()
    return Answer(tuple(piece.replace(b"resp_0a", b"resp_%d" % number) for piece in chunks))


STREAMS = {
    SMALL: [stream_answer("Hello!")],
    CLAUDE: [Answer(tuple(anthropic_stream_chunks("Hello!")))],
    NATIVE: [native_stream(1), native_stream(2)],
}


async def last_of(client: Any, **fields: Any) -> Any:
    """Stream a response; returns it as it is at the end."""
    stream = await client.responses.create(**fields, stream=True)
    return [event async for event in stream][-1].response


@pytest.mark.parametrize("model", STREAMS)
async def test_a_streamed_response_is_gone_on_from_at_once(
    gateway: RunningGateway, client: Any, model: str
) -> None:
    for upstream in (gateway.alpha, gateway.beta, gateway.gamma):
        upstream.answers = list(STREAMS[model])
    first = await last_of(client, model=model, input="Say hello.", store=True)
    assert first.to_dict()["store"] is True
    second = await last_of(client, model=model, input="Again.", previous_response_id=first.id)

    assert second.previous_response_id == first.id
    items = await client.responses.input_items.list(second.id, order="asc")
    texts = [item.content[0].text for item in items.data if item.type == "message"]
    assert texts == ["Say hello.", "Hello!", "Again."]


async def test_a_response_is_shown_as_it_was(client: Any) -> None:
    told = await client.responses.create(model=SMALL, input="Say hello.")
    shown = await client.responses.retrieve(told.id)
    assert shown.to_dict() == told.to_dict()
    assert shown.output_text == "Hello!"


async def test_responses_of_a_host_that_gives_one_id_twice_are_told_apart(
    client: Any,
) -> None:
    told = [await client.responses.create(model=SMALL, input=text) for text in ("One.", "Two.")]
    for text, one in zip(("One.", "Two."), told, strict=True):
        (item,) = (await client.responses.input_items.list(one.id)).data
        assert item.content[0].text == text


async def test_a_stored_response_can_be_graded_by_its_id(
    client: Any, http: httpx2.AsyncClient
) -> None:
    told = await client.responses.create(model=SMALL, input="Say hello.")
    graded = await http.post("/v1/feedback", json={"id": told.id, "score": 1})
    assert graded.status_code == 202


async def test_items_come_in_pages(client: Any, http: httpx2.AsyncClient) -> None:
    given = [{"role": "user", "content": str(n)} for n in range(5)]
    told = await client.responses.create(model=SMALL, input=given)
    pages = client.responses.input_items.list(told.id, limit=2, order="asc")
    assert [item.content async for item in pages] == list("01234")
    page = (await http.get(f"{RESPONSES}/{told.id}/input_items?limit=2")).json()
    assert [item["content"] for item in page["data"]] == ["4", "3"]
    assert (page["has_more"], page["first_id"]) == (True, page["data"][0]["id"])


async def test_a_deleted_response_is_gone_and_so_is_what_came_after_it(
    client: Any, http: httpx2.AsyncClient
) -> None:
    first = await client.responses.create(model=SMALL, input="My name is Ada.")
    second = await client.responses.create(
        model=SMALL, input="My name?", previous_response_id=first.id
    )
    await client.responses.delete(first.id)

    for gone in (first.id, "resp_unknown"):
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(gone)
        assert (await http.delete(f"{RESPONSES}/{gone}")).status_code == 404
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.create(model=SMALL, input="My name?", previous_response_id=second.id)
    assert (caught.value.code, caught.value.param) == (
        "previous_response_not_found",
        "previous_response_id",
    )


async def test_what_is_not_to_be_stored_is_not(client: Any) -> None:
    told = await client.responses.create(model=SMALL, input="Say hello.", store=False)
    assert told.to_dict()["store"] is False
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(told.id)


async def test_the_tokens_of_the_whole_conversation_are_counted(client: Any) -> None:
    told = await client.responses.create(model=SMALL, input="Say hello. " * 100)
    short = await client.responses.input_tokens.count(model=SMALL, input="Again.")
    whole = await client.responses.input_tokens.count(
        model=SMALL, input="Again.", previous_response_id=told.id
    )
    assert whole.input_tokens > short.input_tokens + 200


@asynccontextmanager
async def generation(settings: GatewaySettings) -> AsyncIterator[tuple[str, str | None, Engine]]:
    """Run one of several processes that follow each other on the same data; yields its URL."""
    startup = prepare(settings)
    with closing(startup.engine):
        async with (
            open_gateway(settings, {}, startup) as app,
            serve(app.public, lifespan="off") as url,
        ):
            key = ensure_first_key(startup.engine)
            KeyStore(startup.engine).update_team("default", stores_responses=True)
            yield f"{url}/v1", key, startup.engine


async def test_responses_outlive_the_process_and_not_their_time(tmp_path: Path) -> None:
    alpha = ScriptedUpstream(json_answer(completion()))
    async with serve(alpha, lifespan="off") as upstream_url:
        settings = make_settings(tmp_path, upstream_url, {}, {})
        async with generation(settings) as (url, key, _):
            client = AsyncOpenAI(base_url=url, api_key=key, max_retries=0)
            async with client:
                first = await client.responses.create(model=SMALL, input="One.")
        async with generation(settings) as (url, _, engine):
            client = AsyncOpenAI(base_url=url, api_key=key, max_retries=0)
            async with client:
                second = await client.responses.create(
                    model=SMALL, input="Two.", previous_response_id=first.id
                )
                said = [message["content"] for message in alpha.last.body["messages"]]
                assert said == ["One.", "Hello!", "Two."]
                age(engine, first.id)
                with pytest.raises(openai.NotFoundError):
                    await client.responses.retrieve(first.id)
                with pytest.raises(openai.BadRequestError):
                    await client.responses.create(
                        model=SMALL, input="Three.", previous_response_id=second.id
                    )
        async with generation(settings) as (_, _, engine):  # which first deletes what is too old
            await until(lambda: ids_in(engine) == [second.id])


def age(engine: Engine, response_id: str) -> None:
    """Let a response be older than any may be."""
    aged = update(STORED_RESPONSES).where(STORED_RESPONSES.c.id == response_id)
    with engine.begin() as connection:
        connection.execute(aged.values(created_at=datetime.now(UTC) - timedelta(days=31)))


async def test_usage_and_charge_are_those_of_the_whole_conversation(
    gateway: RunningGateway, client: Any
) -> None:
    gateway.alpha.answers = [
        Answer(
            (chunk({"content": "Hi"}), chunk({}, "stop"), usage_chunk(9, 3), b"data: [DONE]\n\n")
        )
    ]
    stream = await client.responses.create(model=SMALL, input="Hi", stream=True)
    events = [event async for event in stream]
    assert events[-1].response.usage.total_tokens == 12
