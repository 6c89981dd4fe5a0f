"""Judges and second answers, with the gateway, its models and the judge on real sockets."""

import asyncio
from pathlib import Path

import pytest

from gateway.evaluation_log.log_export import DatabaseRows
from gateway.judging.grader import MAX_RUNNING
from router_models.evaluation.log_rows import read_log_rows
from tests.fakes.budgets import budget
from tests.fakes.gateway import LARGE, SMALL
from tests.fakes.judged_gateway import BIAS, INPUT_NUSD, JUDGE, OUTPUT_NUSD, judged
from tests.fakes.patience import PATIENCE_S
from tests.fakes.turns import until
from tests.fakes.upstream import ScriptedUpstream, error_answer, stream_answer

SECRETS = (b"Livingstone", b"Zanzibar", b"Tanganyika")


def held_bytes(data_dir: Path) -> bytes:
    """Read all that the gateway keeps: database, its write-ahead log, spool."""
    files = [file for file in data_dir.rglob("*") if file.is_file()]
    return b"".join(file.read_bytes() for file in files)


async def test_answers_are_judged_charged_exactly_and_no_text_is_kept(tmp_path) -> None:
    async with judged(tmp_path) as it:
        for number in range(4):
            await it.ask(number, model=SMALL if number else LARGE)
        await until(lambda: len(it.grades()) == 4)
        await until(lambda: len(it.turns(team_id="@judge")) == 4)
        scores = {grade.answer_id: grade.score for grade in it.grades()}
        mine = it.turns(team_id="default")
        by_model = {turn.served_model: scores[turn.request_id] for turn in mine}
        assert by_model == {SMALL: 0.75 + BIAS, LARGE: 0.25 + BIAS}
        assert {grade.grader for grade in it.grades()} == {JUDGE}
        assert {grade.version for grade in it.grades()} == {"rubric-1"}
        assert {(g.team_id, g.comment) for g in it.grades()} == {("default", None)}
        await until(lambda: it.charged_nusd("@judge") == it.judge.cost_nusd)
        assert it.charged_nusd("default") == 0
        assert sum(turn.cost_nusd for turn in it.turns(team_id="@judge")) == it.judge.cost_nusd
    kept = held_bytes(tmp_path)
    assert [secret for secret in SECRETS if secret in kept] == []
    assert b"rubric-1" in kept


async def test_a_streamed_answer_is_judged_too(tmp_path) -> None:
    async with judged(tmp_path) as it:
        it.gateway.alpha.answers = [stream_answer("In Zanzibar.")]
        async for _ in await it.ask(0, stream=True):
            pass
        await until(lambda: len(it.grades()) == 1)
        assert it.grades()[0].score == 0.75 + BIAS


async def test_where_a_judge_fails_no_fallback_judges_in_its_place(tmp_path) -> None:
    async with judged(tmp_path) as it:
        it.gateway.upstreams.by_name["delta"] = ScriptedUpstream(error_answer(500, "down"))
        await it.ask(0, model=SMALL)
        await until(lambda: len(it.turns(team_id="@judge")) == 1)
        assert it.gateway.beta.requests == []
        assert it.grades() == []


async def test_a_team_that_did_not_opt_in_is_read_by_no_judge(tmp_path) -> None:
    async with judged(tmp_path, opts_in=False, shadow={"share": 1.0}) as it:
        await asyncio.gather(*(it.ask(number, model="auto") for number in range(5)))
        await until(lambda: len(it.turns()) == 5)
        assert it.judge.waiting == 0
        assert it.gateway.beta.requests == []


async def test_at_the_cap_judges_are_asked_no_more_and_callers_do_not_notice(tmp_path) -> None:
    cap_usd = 0.0025  # room for the worst case of one verdict, and for what a few really cost
    async with judged(
        tmp_path, judge={"cap_usd_per_day": cap_usd, "max_completion_tokens": 100}
    ) as it:
        for number in range(12):
            await it.ask(number)
        await until(lambda: len(it.turns(team_id="default")) == 12)
        await until(lambda: len(it.grades()) == len(it.judge.usages))
        assert 1 <= len(it.judge.usages) < 12
        await until(lambda: it.charged_nusd("@judge") == it.judge.cost_nusd)
        assert it.judge.cost_nusd <= cap_usd * 1e9
        assert {turn.error for turn in it.turns(team_id="default")} == {None}


async def test_callers_do_not_wait_for_a_judge_that_hangs(tmp_path) -> None:
    async with judged(tmp_path) as it:
        it.judge.is_free.clear()
        await asyncio.gather(*(it.ask(number) for number in range(30)))
        await until(lambda: it.judge.waiting == MAX_RUNNING)
        async with asyncio.timeout(PATIENCE_S):
            await it.ask(30)
        assert (it.judge.waiting, it.grades()) == (MAX_RUNNING, [])
        it.judge.is_free.set()
        await until(lambda: len(it.grades()) >= MAX_RUNNING)


async def test_a_second_answer_is_compared_and_costs_the_caller_nothing(tmp_path) -> None:
    async with judged(tmp_path, shadow={"share": 1.0}) as it:
        budget(it.gateway.engine, 10_000_000, team_id="default")
        await until(
            lambda: bool(it.gateway.app.budgets.book.limits("default", "k", None, None).limits)
        )
        tool = {"type": "function", "function": {"name": "find", "parameters": {}}}
        answer = await it.ask(0, model="auto", tools=[tool], stream=False)
        assert answer.choices[0].message.content == "In Zanzibar."
        await until(lambda: len(it.grades()) == 2)
        await until(lambda: len(it.turns(route_reason="shadow")) == 1)
        (second,) = it.turns(route_reason="shadow")
        (first,) = it.turns(route_reason="router")
        scores = {grade.answer_id: grade.score for grade in it.grades()}
        assert scores == pytest.approx({first.request_id: 0.8, second.request_id: 0.3})
        assert (second.team_id, second.served_model, second.propensity) == ("default", LARGE, 1.0)
        assert second.query_embedding == first.query_embedding
        (asked,) = it.gateway.beta.requests
        assert asked.body["tools"] == [tool]
        await until(lambda: it.charged_nusd("@judge") == it.judge.cost_nusd)
        assert len(it.judge.usages) == 4
        assert it.charged_nusd("@shadow") == second.cost_nusd == 9 * INPUT_NUSD + 3 * OUTPUT_NUSD
        assert it.charged_nusd("default") == first.cost_nusd
    kept = held_bytes(tmp_path)
    assert [secret for secret in SECRETS if secret in kept] == []


async def test_routers_learn_from_second_answers_and_are_not_measured_on_them(tmp_path) -> None:
    async with judged(tmp_path, shadow={"share": 1.0}) as it:
        for number in range(20, 32):
            graded = len(it.grades())
            await it.ask(number, model="auto")
            await until(lambda graded=graded: len(it.grades()) == graded + 2)
        await until(lambda: len(it.turns(team_id="default")) == 24)
        batches = list(DatabaseRows(it.gateway.engine).iter_evaluations())
        rows = [row for batch in batches for row in batch]
        vector = rows[0].query_embedding
        assert vector is not None
        learned = read_log_rows(batches, len(vector), 100)
        held_out = {row.query_id for row in rows if row.split == "test"}
        assert 0 < len(held_out) < 12
        assert len(learned.query) == 24 - len(held_out)
        assert len(learned.split) == 12  # both answers of a question are of one query
        quality = {(row.model, row.score) for row in rows}
        assert quality == {(SMALL, 0.75 + BIAS), (LARGE, 0.25 + BIAS)}
