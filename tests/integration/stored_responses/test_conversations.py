"""A team that stores its responses keeps conversations, as OpenAI's SDK does."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import openai
import pytest
from openai.types.conversations import Conversation
from sqlalchemy import select, update

from gateway.access.keys import KeyStore
from migrations.tables import CONVERSATIONS as CONVERSATIONS_TABLE
from migrations.tables import STORED_RESPONSES
from tests.fakes.gateway import CLAUDE, SMALL, RunningGateway
from tests.fakes.responses import WEATHER
from tests.fakes.stored_responses import NATIVE, neighbour, sdk_of
from tests.fakes.upstream import Answer, anthropic_stream_chunks, stream_answer
from tests.integration.stored_responses.test_stored_responses import (
    CALL,
    calls_weather,
    native_stream,
)

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("conversations"),  # one gateway
]

CONVERSATIONS = "/v1/conversations"
HI = {"type": "message", "role": "user", "content": "My name is Ada."}


def texts(items: list[Any]) -> list[str]:
    return [item.content[0].text for item in items if item.type == "message"]


async def said_in(client: Any, name: str) -> list[str]:
    return texts([item async for item in client.conversations.items.list(name, order="asc")])


async def test_a_conversation_is_made_shown_changed_and_deleted(client: Any) -> None:
    made = await client.conversations.create(metadata={"topic": "names"}, items=[HI])
    assert isinstance(made, Conversation)
    assert made.to_dict().keys() == {"id", "object", "created_at", "metadata"}
    assert (made.object, made.metadata) == ("conversation", {"topic": "names"})
    assert await client.conversations.retrieve(made.id) == made

    changed = await client.conversations.update(made.id, metadata={"topic": "none"})
    assert (changed.id, changed.metadata) == (made.id, {"topic": "none"})

    gone = await client.conversations.delete(made.id)
    assert (gone.id, gone.deleted, gone.object) == (made.id, True, "conversation.deleted")
    for ask in (
        client.conversations.retrieve(made.id),
        client.conversations.delete(made.id),
        client.conversations.update(made.id, metadata={}),
        client.conversations.items.list(made.id),
        client.conversations.items.create(made.id, items=[HI]),
        client.responses.create(model=SMALL, input="Hi", conversation=made.id),
    ):
        with pytest.raises(openai.NotFoundError):
            await ask


STREAMS = {
    SMALL: lambda: [stream_answer("Hello!"), stream_answer("Ada.")],
    CLAUDE: lambda: [Answer(tuple(anthropic_stream_chunks(text))) for text in ("Hello!", "Ada.")],
    NATIVE: lambda: [native_stream(11), native_stream(12)],
}


@pytest.mark.parametrize("model", STREAMS)
async def test_what_is_asked_and_answered_is_added_and_sent_the_next_time(
    gateway: RunningGateway, client: Any, model: str
) -> None:
    for upstream in (gateway.alpha, gateway.beta, gateway.gamma):
        upstream.answers = STREAMS[model]()
    made = await client.conversations.create(items=[HI])
    asked = {"model": model, "conversation": made.id, "stream": True}

    ends = []
    for text in ("Say hello.", "My name?"):
        events = [event async for event in await client.responses.create(**asked, input=text)]
        ends.append(events[-1].response)

    assert [end.conversation.id for end in ends] == [made.id, made.id]
    assert [end.to_dict()["store"] for end in ends] == [True, True]
    upstream = next(up for up in gateway.upstreams.by_name.values() if up.requests)
    sent = str(upstream.last.body)
    for text in ("My name is Ada.", "Say hello.", "Hello!", "My name?"):
        assert text in sent
    assert "conversation" not in upstream.last.body
    said = await said_in(client, made.id)
    assert said[:4] == ["My name is Ada.", "Say hello.", "Hello!", "My name?"]
    assert len(said) == 5


@pytest.mark.parametrize("model", [SMALL, CLAUDE, NATIVE])
async def test_a_result_of_a_tool_goes_to_the_call_in_the_conversation(
    gateway: RunningGateway, client: Any, model: str
) -> None:
    for name, answer in calls_weather().items():
        gateway.upstreams.by_name[name].answers.insert(0, answer)
    made = await client.conversations.create()
    asked: dict[str, Any] = {"model": model, "conversation": {"id": made.id}, "tools": [WEATHER]}
    first = await client.responses.create(**asked, input="Weather in Oslo?")
    (call,) = [item for item in first.output if item.type == "function_call"]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}

    second = await client.responses.create(**asked, input=[result])

    assert second.output_text == "Hello!"
    kinds = [item.type async for item in client.conversations.items.list(made.id, order="asc")]
    assert [kind for kind in kinds if kind != "reasoning"] == [
        *("message", "function_call", "function_call_output", "message"),
    ]
    assert CALL["id"] == call.call_id


async def test_items_are_added_listed_shown_and_deleted(client: Any) -> None:
    made = await client.conversations.create()
    given = [{"role": "user", "content": str(n)} for n in range(5)]
    added = await client.conversations.items.create(made.id, items=given)
    assert texts(added.data) == list("01234")
    assert (added.has_more, added.first_id) == (False, added.data[0].id)

    pages = client.conversations.items.list(made.id, limit=2)
    assert texts([item async for item in pages]) == list("43210")
    second = added.data[1]
    shown = await client.conversations.items.retrieve(second.id, conversation_id=made.id)
    assert (shown, shown.status, shown.content[0].type) == (second, "completed", "input_text")

    left = await client.conversations.items.delete(second.id, conversation_id=made.id)
    assert left.id == made.id
    assert await said_in(client, made.id) == list("0234")
    for ask in (
        client.conversations.items.retrieve(second.id, conversation_id=made.id),
        client.conversations.items.delete(second.id, conversation_id=made.id),
    ):
        with pytest.raises(openai.NotFoundError):
            await ask


async def test_an_item_of_an_answer_can_be_deleted_and_is_not_sent_any_more(
    gateway: RunningGateway, client: Any
) -> None:
    made = await client.conversations.create()
    told = await client.responses.create(model=SMALL, input="Hi", conversation=made.id)
    await client.conversations.items.delete(told.output[0].id, conversation_id=made.id)

    assert await said_in(client, made.id) == ["Hi"]
    assert (await client.responses.retrieve(told.id)).output == []
    await client.responses.create(model=SMALL, input="Again", conversation=made.id)
    roles = [message["role"] for message in gateway.alpha.last.body["messages"]]
    assert roles == ["user", "user"]


async def test_a_response_within_a_conversation_is_shown_and_not_gone_on_from(client: Any) -> None:
    made = await client.conversations.create()
    told = await client.responses.create(model=SMALL, input="Hi", conversation=made.id)
    assert (await client.responses.retrieve(told.id)).to_dict() == told.to_dict()
    assert texts((await client.responses.input_items.list(told.id)).data) == ["Hi"]
    with pytest.raises(openai.BadRequestError, match="part of a conversation"):
        await client.responses.create(model=SMALL, input="Hi", previous_response_id=told.id)


async def test_what_is_not_to_be_stored_is_not_added(client: Any) -> None:
    made = await client.conversations.create(items=[HI])
    await client.responses.create(model=SMALL, input="Hi", conversation=made.id, store=False)
    assert await said_in(client, made.id) == ["My name is Ada."]


async def test_the_tokens_of_the_whole_conversation_are_counted(client: Any) -> None:
    long = {"role": "user", "content": "Say hello. " * 100}
    made = await client.conversations.create(items=[long])
    whole = await client.responses.input_tokens.count(
        model=SMALL, input="Again.", conversation=made.id
    )
    assert whole.input_tokens > 200


BAD: dict[str, tuple[str, dict[str, Any]]] = {
    "two beginnings": (
        "/v1/responses",
        {"model": SMALL, "input": "Hi", "conversation": "conv_1", "previous_response_id": "resp_1"},
    ),
    "no name": ("/v1/responses", {"model": SMALL, "input": "Hi", "conversation": 3}),
    "no id": ("/v1/responses", {"model": SMALL, "input": "Hi", "conversation": {}}),
    "no item": (CONVERSATIONS, {"items": ["Hi"]}),
    "no content": (CONVERSATIONS, {"items": [{"role": "user"}]}),
    "many items": (CONVERSATIONS, {"items": [HI] * 21}),
    "metadata of another form": (CONVERSATIONS, {"metadata": {"a": 1}}),
    "long metadata": (CONVERSATIONS, {"metadata": {"a": "x" * 513}}),
    "much metadata": (CONVERSATIONS, {"metadata": {str(n): "" for n in range(17)}}),
}


@pytest.mark.parametrize(("path", "body"), BAD.values(), ids=BAD.keys())
async def test_what_is_malformed_is_refused(
    http: httpx2.AsyncClient, path: str, body: dict[str, Any]
) -> None:
    answer = await http.post(path, json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] in ("previous_response_id", *body)


async def test_no_other_team_sees_adds_to_or_deletes_a_conversation(
    gateway: RunningGateway, client: Any
) -> None:
    made = await client.conversations.create(items=[HI], metadata={"a": "b"})
    (item,) = (await client.conversations.items.list(made.id)).data
    async with sdk_of(gateway, neighbour(gateway)) as theirs:
        for ask in (
            theirs.conversations.retrieve(made.id),
            theirs.conversations.update(made.id, metadata={}),
            theirs.conversations.delete(made.id),
            theirs.conversations.items.list(made.id),
            theirs.conversations.items.create(made.id, items=[HI]),
            theirs.conversations.items.retrieve(item.id, conversation_id=made.id),
            theirs.conversations.items.delete(item.id, conversation_id=made.id),
            theirs.responses.create(model=SMALL, input="Hi", conversation=made.id),
        ):
            with pytest.raises(openai.NotFoundError):
                await ask
    assert await client.conversations.retrieve(made.id) == made
    assert await said_in(client, made.id) == ["My name is Ada."]


async def test_a_team_that_did_not_opt_in_has_no_conversations(gateway: RunningGateway) -> None:
    store = KeyStore(gateway.engine)
    store.create_team("opted-out")
    key = store.create_key("opted-out", "k").secret.get_secret_value()
    async with sdk_of(gateway, key) as client:
        for ask in (
            client.conversations.create(),
            client.conversations.retrieve("conv_1"),
            client.conversations.items.list("conv_1"),
        ):
            with pytest.raises(openai.NotFoundError, match="No response is stored here"):
                await ask
        with pytest.raises(openai.BadRequestError, match="no conversations are stored here"):
            await client.responses.create(model=SMALL, input="Hi", conversation="conv_1")


async def test_who_opts_out_has_its_conversations_erased(gateway: RunningGateway) -> None:
    key = neighbour(gateway)
    async with sdk_of(gateway, key) as client:
        made = await client.conversations.create(items=[HI])
    store = KeyStore(gateway.engine)
    store.update_team("neighbour", stores_responses=False)
    store.update_team("neighbour", stores_responses=True)
    with gateway.engine.connect() as connection:
        for table in (CONVERSATIONS_TABLE, STORED_RESPONSES):
            mine = select(table.c.id).where(table.c.team_id == "neighbour")
            assert connection.execute(mine).all() == []
    assert made.id


async def test_a_conversation_goes_as_a_whole_when_its_beginning_is_too_old(
    gateway: RunningGateway, client: Any
) -> None:
    made = await client.conversations.create(items=[HI])
    aged = update(CONVERSATIONS_TABLE).where(CONVERSATIONS_TABLE.c.id == made.id)
    with gateway.engine.begin() as connection:
        connection.execute(aged.values(created_at=datetime.now(UTC) - timedelta(days=31)))
    with pytest.raises(openai.NotFoundError):
        await client.conversations.retrieve(made.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.create(model=SMALL, input="Hi", conversation=made.id)


async def test_a_conversation_is_no_longer_than_a_request_may_be(
    client: Any, http: httpx2.AsyncClient
) -> None:
    long = {"role": "user", "content": "x" * 600_000}  # of a megabyte
    made = await client.conversations.create(items=[long])
    await client.conversations.items.create(made.id, items=[long])
    body = {"model": SMALL, "input": "Hi", "conversation": made.id}
    assert (await http.post("/v1/responses", json=body)).status_code == 413
