"""What only a real socket shows of a stream: when bytes move, who waits, and who has left."""

import asyncio
from collections.abc import AsyncIterator, Callable

import orjson
import pytest

from gateway.types import CLIENT_LEFT
from tests.fakes.gateway import LARGE, SMALL, RunningGateway, SteppedUpstream, running_gateway
from tests.fakes.patience import PATIENCE_S
from tests.fakes.upstream import (
    Answer,
    chunk,
    completion,
    error_answer,
    json_answer,
    stream_answer,
    stream_chunks,
    usage_chunk,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHAT = "/v1/chat/completions"
BODY = {"model": "auto", "messages": [{"role": "user", "content": "Say hello."}]}
STREAM = BODY | {"stream": True}
DONE = b"data: [DONE]\n\n"
QUIET_TURNS = 300
SERVER = {"port": 0, "admin_port": 0}


@pytest.fixture
def stepped(gateway: RunningGateway) -> SteppedUpstream:
    """An upstream of the preferred model that does what the test says."""
    upstream = SteppedUpstream()
    gateway.upstreams.by_name["alpha"] = upstream
    return upstream


async def read_until(body: AsyncIterator[bytes], ending: bytes) -> bytes:
    """Read until what was read ends in `ending`."""
    received = b""
    while not received.endswith(ending):
        received += await anext(body)
    return received


async def test_an_event_arrives_before_the_provider_sends_the_next_one(http, stepped):
    events = stream_chunks("Hello!")[:-2]

    stepped.send(events[0])
    async with http.stream("POST", CHAT, json=STREAM) as response:
        body = response.aiter_raw()
        received = [await read_until(body, events[0])]
        for event in events[1:]:
            stepped.send(event)
            received.append(await read_until(body, event))
        stepped.send(DONE)
        rest = await read_until(body, DONE)

    assert received == events
    assert rest == DONE


async def test_an_event_that_arrives_in_pieces_is_forwarded_whole(http, stepped):
    first, second, *_, last = stream_chunks("Hello!")[:-2]

    stepped.send(first)
    async with http.stream("POST", CHAT, json=STREAM) as response:
        body = response.aiter_raw()
        await read_until(body, first)
        stepped.send(second[:20])
        stepped.send(second[20:-1])
        stepped.send(second[-1:] + last)
        received = await read_until(body, last)
        stepped.send(DONE)
        await read_until(body, DONE)

    assert received == second + last


async def test_the_answer_begins_only_with_the_first_event(http, stepped):
    asking = asyncio.create_task(http.post(CHAT, json=STREAM))
    await stepped.has_begun.wait()

    stepped.send(b": still thinking\n\n")
    await settled(lambda: stepped.sent_bytes)
    assert not asking.done()
    for event in stream_chunks("Hi"):
        stepped.send(event)
    stepped.end()
    response = await asking

    assert response.status_code == 200
    assert response.content.startswith(b": still thinking\n\n")
    assert response.content.endswith(DONE)


async def test_a_caller_that_leaves_amid_a_stream_cancels_the_call_upstream(gateway, http, stepped):
    first, second, *_ = stream_chunks("Hello!")

    stepped.send(first)
    async with http.stream("POST", CHAT, json=STREAM) as response:
        body = response.aiter_raw()
        await read_until(body, first)
        stepped.send(second)
        await read_until(body, second)
    await asyncio.wait_for(stepped.client_has_left.wait(), PATIENCE_S)

    row = await gateway.turn(response.headers["x-request-id"])
    assert row.error == CLIENT_LEFT
    assert row.is_estimated is True
    assert 0 < row.completion_tokens < 10
    assert row.prompt_tokens > 0
    assert row.cost_nusd > 0
    assert row.finish_reason is None
    assert row.first_byte_s is not None


async def test_a_caller_that_leaves_before_the_first_event_cancels_the_call_upstream(
    gateway, http, stepped
):
    asking = asyncio.create_task(http.post(CHAT, json=STREAM | {"metadata": {"job": "early"}}))
    await stepped.has_begun.wait()

    asking.cancel()
    await asyncio.wait_for(stepped.client_has_left.wait(), PATIENCE_S)

    row = await gateway.labelled_turn("early")
    assert row.error == CLIENT_LEFT
    assert row.served_model == SMALL


async def test_a_call_whose_caller_left_is_cancelled_after_the_time_that_the_settings_give(
    tmp_path,
):
    server = SERVER | {"abandoned_json_s": 0.01}
    async with running_gateway(tmp_path, server=server) as gateway, gateway.caller() as http:
        gateway.alpha.answers = [Answer(stalls_at_once=True)]
        asking = asyncio.create_task(http.post(CHAT, json=BODY | {"metadata": {"job": "json"}}))
        received = await gateway.alpha.next_request()

        asking.cancel()
        await asyncio.wait_for(received.has_disconnected.wait(), PATIENCE_S)

        row = await gateway.labelled_turn("json")
    assert row.error == CLIENT_LEFT
    assert row.is_stream is False
    assert row.prompt_tokens > 0
    assert row.is_estimated is True


async def test_a_call_whose_caller_left_goes_on_until_its_cost_is_known(gateway, http, stepped):
    asking = asyncio.create_task(http.post(CHAT, json=BODY | {"metadata": {"job": "left"}}))
    await stepped.has_begun.wait()
    asking.cancel()
    await asyncio.wait([asking])
    stepped.send(orjson.dumps(completion()))
    stepped.end()

    row = await gateway.labelled_turn("left")
    assert row.error is None
    assert (row.prompt_tokens, row.completion_tokens, row.is_estimated) == (9, 3, False)


async def test_a_provider_that_is_cut_off_ends_the_stream_in_an_error_and_without_done(
    gateway, http
):
    events = stream_chunks("Hello!")[:4]
    gateway.alpha.answers = [Answer(tuple(events), cuts_off=True)]

    response = await http.post(CHAT, json=STREAM)

    begun = b"".join(events)
    assert response.content.startswith(begun)
    ending = response.content[len(begun) :]
    assert orjson.loads(ending.removeprefix(b"data: "))["error"]["code"] == "provider_cut_off"
    assert b"[DONE]" not in response.content


async def test_a_stream_that_ends_without_a_finish_reason_was_cut_off(gateway, http):
    gateway.alpha.answers = [Answer(tuple(stream_chunks("Hello!")[:4]))]

    response = await http.post(CHAT, json=STREAM)

    assert b'"provider_cut_off"' in response.content
    assert b"[DONE]" not in response.content


async def test_the_next_model_answers_where_the_first_is_down(gateway, http):
    gateway.alpha.answers = [error_answer(500, "oh no")]
    gateway.beta.answers = [stream_answer("Hello!")]

    response = await http.post(CHAT, json=STREAM)

    assert response.headers["x-waypost-model"] == LARGE
    assert response.content.endswith(DONE)


async def test_the_next_model_answers_json_where_the_first_is_cut_off(gateway, http):
    gateway.alpha.answers = [Answer((b'{"id":',), announced_length=100, cuts_off=True)]
    gateway.beta.answers = [json_answer(completion("From the other."))]

    response = await http.post(CHAT, json=BODY)

    assert response.json()["choices"][0]["message"]["content"] == "From the other."
    assert response.headers["x-waypost-model"] == LARGE


@pytest.mark.parametrize(
    "failure",
    [Answer(cuts_off=True), Answer((b'data: {"error":{"message":"full"}}\n\n',)), Answer()],
    ids=["cut_off", "error_event", "empty"],
)
async def test_the_next_model_answers_where_the_first_fails_before_its_first_event(
    gateway, http, failure
):
    gateway.alpha.answers = [failure]
    gateway.beta.answers = [stream_answer("Hello!")]

    response = await http.post(CHAT, json=STREAM)

    assert response.headers["x-waypost-model"] == LARGE
    assert b"error" not in response.content


async def test_no_other_model_is_called_once_the_answer_has_begun(gateway, http):
    gateway.alpha.answers = [Answer((stream_chunks()[0],), cuts_off=True)]
    gateway.beta.answers = [stream_answer("Hello!")]

    response = await http.post(CHAT, json=STREAM)

    assert response.headers["x-waypost-model"] == SMALL
    assert b'"provider_cut_off"' in response.content
    assert gateway.beta.requests == []


async def test_a_named_model_is_not_replaced_by_another(gateway, http):
    gateway.alpha.answers = [error_answer(500, "oh no")]
    gateway.beta.answers = [stream_answer("Hello!")]

    response = await http.post(CHAT, json=STREAM | {"model": SMALL})

    assert response.status_code == 503
    assert gateway.beta.requests == []


async def test_says_503_where_every_model_is_down(gateway, http):
    gateway.alpha.answers = gateway.beta.answers = [error_answer(500, "oh no")]

    response = await http.post(CHAT, json=STREAM)

    assert response.status_code == 503
    assert response.json()["error"]["code"] == "provider_unavailable"
    assert len(gateway.beta.requests) == 1


async def test_a_provider_that_stalls_amid_a_stream_ends_it_in_an_error(tmp_path):
    limits = {"idle_timeout_s": 0.05}
    async with running_gateway(tmp_path, limits=limits) as gateway, gateway.caller() as http:
        gateway.alpha.answers = [Answer(tuple(stream_chunks("Hi")[:2]), stalls=True)]

        response = await http.post(CHAT, json=STREAM)

    assert b'"provider_timeout"' in response.content
    assert b"[DONE]" not in response.content


async def test_a_caller_that_reads_slowly_holds_the_provider_up_and_loses_nothing(
    gateway, http, stepped
):
    event = chunk({"content": "x" * 64_000})
    events = 1024

    stepped.send(event)
    async with http.stream("POST", CHAT, json=STREAM) as response:
        for _ in range(events - 1):
            stepped.send(event)
        stepped.send(chunk({}, "stop") + usage_chunk() + DONE)
        stepped.end()
        waiting_bytes = await settled(lambda: stepped.sent_bytes)
        received_bytes = 0
        async for part in response.aiter_raw():
            received_bytes += len(part)

    assert waiting_bytes < 32 * 1024 * 1024 < events * len(event)
    assert received_bytes == events * len(event) + len(chunk({}, "stop") + DONE)


async def settled(read: Callable[[], int]) -> int:
    """Return a figure once nothing that the event loop can do changes it any more."""
    figure, quiet = read(), 0
    while quiet < QUIET_TURNS:
        await asyncio.sleep(0)
        quiet = quiet + 1 if read() == figure else 0
        figure = read()
    return figure


@pytest.mark.parametrize("request_body", [BODY, STREAM], ids=["json", "stream"])
async def test_callers_that_leave_at_any_moment_leave_nothing_behind(tmp_path, request_body):
    limits = {"max_concurrency": 2, "queue_timeout_s": PATIENCE_S}
    server = SERVER | {"abandoned_json_s": 0}
    async with (
        running_gateway(tmp_path, limits=limits, server=server) as gateway,
        gateway.caller() as http,
    ):
        answer = stream_answer("Hi") if "stream" in request_body else json_answer(completion())
        gateway.alpha.answers = gateway.beta.answers = [answer]
        await http.post(CHAT, json=request_body)
        for turns in range(60):
            asking = asyncio.create_task(http.post(CHAT, json=request_body))
            for _ in range(turns):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait([asking])
        await settled(lambda: len(asyncio.all_tasks()))

        answers = await asyncio.gather(*(http.post(CHAT, json=request_body) for _ in range(4)))
        rows = [await gateway.turn(response.headers["x-request-id"]) for response in answers]

    assert {response.headers["x-waypost-model"] for response in answers} == {SMALL}
    assert [row.error for row in rows] == [None] * 4
