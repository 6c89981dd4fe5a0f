"""What a request had in hand is freed when it ends, however it ends.

Python's collector may come to a circle of objects minutes later, and a body has many megabytes.
"""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.chat.turn import Turn
from gateway.errors import GatewayError
from gateway.evaluation_log.grades import KnownAnswer
from gateway.providers.base import UpstreamCall
from gateway.providers.exchange import HttpFailure
from gateway.wire import ChatRequest
from tests.fakes.gateway import CLAUDE, LARGE, SMALL, RunningGateway, running_gateway
from tests.fakes.turns import until
from tests.fakes.upstream import JSON, Answer, completion, error_answer, json_answer, stream_chunks

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("attacks on leftovers"),  # one gateway
]

CHAT = "/v1/chat/completions"
SILENCE_S = 0.2
"""How long the gateway waits for its upstreams."""
LOOKS = 200
IN_HAND = (Turn, ChatRequest, UpstreamCall, GatewayError, HttpFailure)
USER = {"role": "user", "content": "Say hello."}
ERROR_EVENT = b'data: {"error":{"message":"No","code":500}}\n\n'
BEGUN = tuple(stream_chunks()[:2])
FAULTS = {
    "hangs": Answer(stalls_at_once=True),
    "breaks off": Answer(headers=JSON, announced_length=9, cuts_off=True),
    "fails": error_answer(500, "No"),
    "refuses": error_answer(400, "No"),
    "refuses the key": error_answer(401, "No"),
    "has enough of calls": error_answer(429, "No"),
    "answers nonsense": json_answer({"choices": 1}),
    "answers something else": Answer((b"<html>",), headers=JSON),
    "has its stream fail at once": Answer((ERROR_EVENT,)),
    "has its stream fail": Answer((*BEGUN, ERROR_EVENT)),
    "breaks off its stream": Answer(BEGUN, cuts_off=True),
    "falls silent": Answer(BEGUN, stalls=True),
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def hurried(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    """A gateway that tries twice, and waits for nobody."""
    waits = dict.fromkeys(("first_byte_timeout_s", "idle_timeout_s", "deadline_s"), SILENCE_S)
    limits = {"max_retries": 1, **waits}
    server = {"port": 0, "admin_port": 0, "max_body_bytes": 1_000_000, "abandoned_json_s": 0}
    folder = tmp_path_factory.mktemp("hurried")
    async with running_gateway(folder, limits=limits, server=server) as running:
        yield running


@pytest.fixture
def gateway(hurried: RunningGateway) -> RunningGateway:
    hurried.upstreams.reset()
    hurried.beta.answers = [json_answer(completion())]
    return hurried


@pytest_asyncio.fixture(loop_scope="session")
async def patient(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    """A gateway that has time on a busy machine."""
    async with running_gateway(tmp_path) as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def without_collector() -> Iterator[None]:
    """Nothing is freed but what nothing leads to; what was there before is not looked at.

    pytest keeps what is logged, and with it the errors that are named there.
    """
    logging.disable()
    gc.disable()
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
    gc.enable()
    logging.disable(logging.NOTSET)


async def left() -> list[str]:
    """Name what a request had in hand and is still there, a while after the answer."""
    for _ in range(LOOKS):
        found = [type(one).__name__ for one in gc.get_objects() if isinstance(one, IN_HAND)]
        if not found:
            break
        await asyncio.sleep(0.01)
    return found


async def post(gateway: RunningGateway, path: str, **fields: Any) -> None:
    async with gateway.caller() as http:
        await http.post(path, **fields)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("model", [SMALL, "auto"], ids=["alone", "before another model"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_nothing_is_left_of_a_call_whose_upstream(gateway, fault, model, stream) -> None:
    gateway.alpha.answers = [FAULTS[fault]]
    await post(gateway, CHAT, json={"model": model, "messages": [USER], "stream": stream})
    assert await left() == []


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_nothing_is_left_of_a_message_that_failed(gateway, stream) -> None:
    gateway.gamma.answers = [Answer((b"event: error\ndata: {}\n\n",), 529)]
    asked = {"model": CLAUDE, "max_tokens": 9, "messages": [USER], "stream": stream}
    await post(gateway, "/v1/messages", json=asked)
    assert await left() == []


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/route", "/v1/feedback"])
@pytest.mark.parametrize("body", [b"{", b'{"model":"invented","messages":[]}', b" " * 2_000_000])
async def test_nothing_is_left_of_a_request_that_was_refused(gateway, path, body) -> None:
    await post(gateway, path, content=body, headers={"content-type": "application/json"})
    assert await left() == []


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_nothing_is_left_of_a_call_whose_caller_left(gateway, stream) -> None:
    gateway.alpha.answers = [Answer(stalls_at_once=True)]
    asked = {"model": SMALL, "messages": [USER], "stream": stream}
    call = asyncio.create_task(post(gateway, CHAT, json=asked))
    await gateway.alpha.next_request()
    call.cancel()
    await asyncio.wait([call])
    assert await left() == []


def objects(gateway: RunningGateway) -> int:
    """Count what cannot be freed, but for what upstreams saw and what is known of answers.

    The gateway remembers answers up to a number of bytes, so that they can be graded.
    """
    gateway.upstreams.reset()
    gc.collect()
    return sum(not isinstance(one, KnownAnswer) for one in gc.get_objects())


async def calls_of_whom_a_tenth_leaves(gateway: RunningGateway, tens: int) -> None:
    """Ask by tens at once; one of ten leaves amid its answer, the others take it whole."""
    gateway.alpha.answers = [Answer(tuple(stream_chunks()))]
    gateway.beta.answers = [Answer(BEGUN, stalls=True)]
    asked = {"messages": [USER], "stream": True}

    async def leave(http: Any) -> None:
        async with http.stream("POST", CHAT, json={"model": LARGE, **asked}) as answer:
            await anext(answer.aiter_raw())

    async with gateway.caller() as http:
        for _ in range(tens):
            staying = (http.post(CHAT, json={"model": SMALL, **asked}) for _ in range(9))
            answers, _ = await asyncio.gather(asyncio.gather(*staying), leave(http))
            assert {answer.status_code for answer in answers} == {200}


async def test_memory_stays_as_it_is_where_a_tenth_of_callers_leaves(patient) -> None:
    await calls_of_whom_a_tenth_leaves(patient, 30)
    assert await left() == []
    before = objects(patient)
    await calls_of_whom_a_tenth_leaves(patient, 30)
    assert await left() == []
    # Half an object for a call; rows are written and connections closed a while after the answer.
    await until(lambda: objects(patient) - before < 150, poll_s=0.1)
