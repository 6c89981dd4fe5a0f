"""From answers of a real gateway to grades that nobody gave: checks and signals, end to end."""

import csv
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from openai import AsyncOpenAI
from sqlalchemy import select

from gateway.access.keys import KeyStore
from gateway.cli import cli
from migrations.tables import GRADES
from tests.fakes.exchanges import WEATHER
from tests.fakes.gateway import CLAUDE, SMALL, RunningGateway, running_gateway
from tests.fakes.patience import PATIENCE_S
from tests.fakes.scrape import scrape
from tests.fakes.turns import until
from tests.fakes.upstream import (
    Answer,
    anthropic_event,
    anthropic_message,
    anthropic_stream_chunks,
    completion,
    json_answer,
    stream_answer,
)

SECRET = "zanzibar"
"""In every text that callers or models write here, and in nothing that the gateway does."""
QUESTION = f"What is the tallest building of {SECRET}?"
Rows = list[dict[str, Any]]


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with running_gateway(tmp_path, grading={"checks": True, "signals": True}) as gateway:
        yield gateway


@pytest.fixture
async def client(gateway: RunningGateway) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0, timeout=PATIENCE_S
    ) as client:
        yield client


def grades(gateway: RunningGateway) -> Rows:
    with gateway.engine.connect() as connection:
        return [dict(row) for row in connection.execute(select(GRADES)).mappings()]


async def graded(gateway: RunningGateway, *names: str) -> Rows:
    """Return the grades by these graders, once each has given one."""
    await until(lambda: set(names) <= {row["grader"] for row in grades(gateway)})
    return [row for row in grades(gateway) if row["grader"] in names]


def asked(*messages: tuple[str, str], **more: Any) -> dict[str, Any]:
    told = [{"role": role, "content": content} for role, content in messages]
    return {"model": SMALL, "messages": told or [{"role": "user", "content": QUESTION}], **more}


def exported(gateway: RunningGateway, *options: str) -> Rows:
    """Export the log as an operator does."""
    folder = gateway.settings.data_dir
    config, out = folder / "waypost.toml", folder / "log.csv"
    config.write_text(f'data_dir = "{folder}"\n')
    told = ["log", "export", "--config", str(config), "--out", str(out), *options]
    result = CliRunner().invoke(cli, told)
    assert result.exit_code == 0, result.output
    with out.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


async def test_answers_that_fail_checks_are_graded_in_the_database_and_in_the_export(
    gateway, client
):
    schema = {"type": "object", "properties": {"m": {"type": "number"}}, "required": ["m"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "height", "schema": schema}}
    call = {"id": "c", "type": "function", "function": {"name": "wind", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    calling = {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    gateway.alpha.answers = [
        json_answer(completion("")),
        json_answer(completion('{"feet": 7}')),
        json_answer(completion() | calling),
        stream_answer("I'm sorry, but I can't help with that."),
        json_answer(completion("The House of Wonders.")),
    ]

    await client.chat.completions.create(**asked())
    await client.chat.completions.create(**asked(response_format=wanted))
    await client.chat.completions.create(**asked(tools=[WEATHER]))
    stream = await client.chat.completions.create(**asked(stream=True))
    assert [event async for event in stream]
    await client.chat.completions.create(**asked())

    await until(lambda: len({row["answer_id"] for row in grades(gateway)}) == 5)
    found = await graded(gateway, "empty", "json_schema", "unknown_tool", "refusal", "form")
    assert {row["source"] for row in found} == {"check"}
    assert {row["version"] for row in found} == {"1"}
    weights = {row["grader"]: row["weight"] for row in found}
    assert weights["form"] < weights["refusal"] < weights["empty"] <= 1

    rows = exported(gateway, "--with-checks")
    scores = [float(row["score"]) for row in rows]
    assert [row["score_source"] for row in rows] == ["check"] * 5
    assert [score < 0.2 for score in scores] == [True, True, True, True, False]
    assert exported(gateway) == []


async def test_a_caller_s_grade_counts_and_not_the_checks(gateway, client):
    gateway.alpha.answers = [json_answer(completion(""))]
    answer = await client.chat.completions.create(**asked())
    await graded(gateway, "empty")
    async with gateway.caller() as http:
        await http.post("/v1/feedback", json={"id": answer.id, "score": 0.9})
    await until(lambda: len(grades(gateway)) == 2)

    (row,) = exported(gateway)
    assert (float(row["score"]), row["score_source"], float(row["score_weight"])) == (
        0.9,
        "feedback",
        1.0,
    )


async def test_the_next_request_of_a_conversation_grades_the_answer_before_it(gateway, client):
    gateway.alpha.answers = [stream_answer(f"The tower of {SECRET}."), json_answer(completion())]
    stream = await client.chat.completions.create(**asked(stream=True))
    said = "".join([event.choices[0].delta.content or "" async for event in stream])
    (first,) = await gateway.turns(1)
    history = (("user", QUESTION), ("assistant", said), ("user", "No, that's wrong."))

    await client.chat.completions.create(**asked(*history))

    (row,) = await graded(gateway, "corrected")
    assert (row["answer_id"], row["source"]) == (first.request_id, "signal")
    assert row["score"] < 0.2


async def test_messages_are_graded_too_whole_and_streamed(gateway):
    """Of an upstream that speaks the same wire, and so passes as it is."""
    said = [{"role": "user", "content": QUESTION}]
    body = {"model": CLAUDE, "max_tokens": 100, "messages": said}
    call = {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": SECRET}}
    opening = anthropic_stream_chunks()[:1]
    events = [
        *opening,
        anthropic_event("content_block_start", index=0, content_block=call | {"input": {}}),
        anthropic_event(
            "content_block_delta",
            index=0,
            delta={"type": "input_json_delta", "partial_json": f'{{"city": "{SECRET}"}}'},
        ),
        anthropic_event("content_block_stop", index=0),
        *anthropic_stream_chunks()[-2:],
    ]
    gateway.gamma.answers = [
        Answer(events),
        json_answer(anthropic_message("I'm sorry, but I can't help with that.")),
    ]
    tool = {"name": "weather", "input_schema": WEATHER["function"]["parameters"]}
    failed = {
        "type": "tool_result",
        "tool_use_id": "t1",
        "content": f"There is no {SECRET}.",
        "is_error": True,
    }
    async with gateway.caller() as http:
        first = await http.post("/v1/messages", json={**body, "stream": True, "tools": [tool]})
        assert first.status_code == 200
        (turn,) = await gateway.turns(1)
        history = [
            *said,
            {"role": "assistant", "content": [call]},
            {"role": "user", "content": [failed]},
        ]
        second = await http.post(
            "/v1/messages", json={**body, "messages": history, "tools": [tool]}
        )
        assert second.status_code == 200

    rows = {row["grader"]: row for row in await graded(gateway, "tool_error", "refusal")}
    assert rows["tool_error"]["answer_id"] == turn.request_id
    assert rows["refusal"]["answer_id"] != turn.request_id


async def test_no_byte_of_text_is_stored_for_a_team_that_did_not_opt_in(gateway, client, tmp_path):
    gateway.alpha.answers = [json_answer(completion(f"In {SECRET}: {SECRET}. " * 30))]
    answer = await client.chat.completions.create(**asked())
    text = answer.choices[0].message.content
    more = (("user", QUESTION), ("assistant", text), ("user", f"Thanks! {SECRET} it is."))
    await client.chat.completions.create(**asked(*more))
    await graded(gateway, "loop", "thanked")

    stored = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert b"thanked" in stored
    assert SECRET.encode() not in stored


async def test_a_team_s_next_turns_grade_no_other_team_s_answers(gateway, client):
    keys = KeyStore(gateway.engine)
    keys.create_team("spy")
    secret = keys.create_key("spy", "spy").secret.get_secret_value()
    gateway.alpha.answers = [json_answer(completion("The tower."))]
    await client.chat.completions.create(**asked())
    history = (("user", QUESTION), ("assistant", "The tower."), ("user", "No, that's wrong."))

    async with gateway.caller(secret) as http:
        assert (await http.post("/v1/chat/completions", json=asked(*history))).is_success
    await client.chat.completions.create(**asked(*history))

    rows = await graded(gateway, "corrected")
    assert [row["team_id"] for row in rows] == ["default"]


async def test_by_default_nothing_grades_and_the_service_has_nobody_to_hand_answers_to(tmp_path):
    async with running_gateway(tmp_path) as gateway:
        gateway.alpha.answers = [json_answer(completion(""))]
        async with gateway.caller() as http:
            asked_http = await http.post("/v1/chat/completions", json=asked())
        await gateway.turn(asked_http.headers["x-request-id"])

        assert gateway.app.grading is None
        assert grades(gateway) == []


async def test_metrics_count_the_grades_and_say_which_check_gave_them(gateway, client):
    gateway.alpha.answers = [json_answer(completion(""))]
    await client.chat.completions.create(**asked())
    await graded(gateway, "empty")

    page = await scrape(gateway)

    labels = {"source": "check", "grader": "empty"}
    assert page.sum("waypost_grading_grades_total", **labels) == 1
    assert page.sum("waypost_grading_offered_total") == 1
    assert page.sum("waypost_grading_dropped_total") == 0
