"""Callers and upstreams of bad will can neither stall nor poison the grades of others."""

import asyncio
import resource
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import select

from gateway.access.keys import KeyStore
from migrations.tables import GRADES
from tests.fakes.gateway import SMALL, RunningGateway, running_gateway
from tests.fakes.turns import until
from tests.fakes.upstream import Answer, completion, event, json_answer

CHAT = "/v1/chat/completions"
LONGEST_STEP_S = 0.25
"""Of CPU time between two turns of the event loop, with what threads do meanwhile."""
MOST_CHILDREN_S = 3.0
"""Of CPU time of all processes that evaluated schemas; 20 costly questions take 10 s."""
USER = {"role": "user", "content": "Say hello."}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with running_gateway(tmp_path, grading={"checks": True, "signals": True}) as gateway:
        yield gateway


@pytest.fixture
async def neighbour(gateway: RunningGateway) -> AsyncIterator[httpx2.AsyncClient]:
    """A caller of another team."""
    store = KeyStore(gateway.engine)
    store.create_team("neighbour")
    secret = store.create_key("neighbour", "quiet").secret.get_secret_value()
    async with gateway.caller(secret) as http:
        yield http


@contextmanager
def stepping() -> Iterator[list[float]]:
    """Measure the CPU time between two turns of the event loop."""
    steps: list[float] = [0.0]

    async def tick() -> None:
        while True:
            began_s = time.process_time()
            await asyncio.sleep(0.001)
            steps.append(time.process_time() - began_s)

    ticking = asyncio.create_task(tick())
    try:
        yield steps
    finally:
        ticking.cancel()


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": SMALL, "messages": [USER], **fields}


def graders(gateway: RunningGateway, team_id: str) -> list[str]:
    with gateway.engine.connect() as connection:
        of_team = select(GRADES.c.grader).where(GRADES.c.team_id == team_id)
        return list(connection.scalars(of_team.order_by(GRADES.c.created_at)))


def children_s() -> float:
    """Return the CPU time of the processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def doubling(levels: int) -> dict[str, Any]:
    """Return a schema that takes twice as long with every level."""
    parts: dict[str, Any] = {"a0": {"type": "object"}}
    for n in range(1, levels):
        parts[f"a{n}"] = {"allOf": [{"$ref": f"#/$defs/a{n - 1}"}] * 2}
    return {"$defs": parts, "$ref": f"#/$defs/a{levels - 1}"}


async def test_a_schema_that_takes_hours_holds_up_no_other_team_s_grades(gateway, neighbour):
    gateway.alpha.answers = [json_answer(completion("{}"))]
    hours = {"type": "json_schema", "json_schema": {"name": "x", "schema": doubling(40)}}
    never = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"not": {}}}}

    desk, before_s = gateway.app.grading, children_s()
    assert desk is not None

    async with gateway.caller() as attacker:
        asked = [attacker.post(CHAT, json=chat(response_format=hours)) for _ in range(20)]
        assert all(answer.is_success for answer in await asyncio.gather(*asked))
        assert (await neighbour.post(CHAT, json=chat(response_format=never))).is_success
        await until(lambda: "json_schema" in graders(gateway, "neighbour"))
        await until(lambda: not desk.memory.held)

    assert children_s() - before_s < MOST_CHILDREN_S


ANSWERS = {
    "one word for ever": completion("ha" * 500_000),
    "deep JSON": completion("[" * 100_000),
    "a long number": completion("9" * 900_000),
    "lines": completion("\n" * 900_000),
    "marks": completion("a" + "\u0315\u0300" * 400_000),
    "refusals": completion("I'm sorry, but I can't " * 40_000),
    "tool calls": completion()
    | {
        "choices": [
            {
                "index": 0,
                "message": {
                    "content": None,
                    "tool_calls": [
                        {"id": f"{n}", "function": {"name": f"f{n}", "arguments": "[" * 900}}
                        for n in range(1_000)
                    ],
                },
                "finish_reason": "tool_calls",
            }
        ]
    },
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_no_answer_of_an_upstream_stalls_the_loop(gateway, answer):
    gateway.alpha.answers = [json_answer(answer), json_answer(completion("."))]
    tool = {"type": "function", "function": {"name": "g", "parameters": {"type": "object"}}}
    asking = chat(tools=[tool], response_format={"type": "json_object"})
    desk = gateway.app.grading
    assert desk is not None
    async with gateway.caller() as http:
        with stepping() as steps:
            assert (await http.post(CHAT, json=asking)).is_success
            await until(lambda: not desk.memory.held)
    await until(lambda: bool(graders(gateway, "default")))

    assert max(steps) < LONGEST_STEP_S
    assert desk.counters.failed == 0


async def test_no_history_of_a_caller_stalls_the_loop(gateway):
    gateway.alpha.answers = [json_answer(completion())]
    function = {"name": "f", "arguments": '{"x": "' + "y" * 2_000 + '"}'}
    calls = [{"id": f"{n}", "type": "function", "function": function} for n in range(200)]
    called = {"role": "assistant", "content": "no " * 50_000, "tool_calls": calls}
    results = [
        {"role": "tool", "tool_call_id": f"{n}", "content": "error " * 100} for n in range(60)
    ]
    desk = gateway.app.grading
    assert desk is not None
    async with gateway.caller() as http:
        with stepping() as steps:
            answer = await http.post(CHAT, json=chat(messages=[USER, called, *results]))
            assert answer.is_success
            await until(lambda: not desk.memory.held)

    assert max(steps) < LONGEST_STEP_S
    assert desk.counters.failed == 0


async def test_events_that_join_to_other_json_break_no_grader(gateway):
    said = {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]}
    odd = b'data: {"a": 1},[1],7,{"choices": 3}\n\n'
    gateway.alpha.answers = [Answer([event(said), odd, b"data: [DONE]\n\n"])]
    async with gateway.caller() as http:
        await http.post(CHAT, json=chat(stream=True))
        gateway.alpha.answers = [json_answer(completion())]
        await http.post(CHAT, json=chat())
    await until(lambda: len(graders(gateway, "default")) >= 1)

    desk = gateway.app.grading
    assert desk is not None
    assert desk.counters.failed == 0


async def test_a_team_that_floods_the_desk_takes_half_of_it_at_most(gateway, neighbour):
    gateway.alpha.answers = [json_answer(completion())]
    desk = gateway.app.grading
    assert desk is not None
    hold = desk.memory.hold("default")
    hold.grow(desk.memory.limit_per_owner)
    async with gateway.caller() as attacker:
        assert (await attacker.post(CHAT, json=chat())).is_success
        assert (await neighbour.post(CHAT, json=chat())).is_success
    await until(lambda: graders(gateway, "neighbour") == ["form"])

    assert graders(gateway, "default") == []
    assert desk.counters.dropped == 1
    hold.__exit__(None, None, None)
