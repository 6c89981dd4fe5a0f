import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.problems.calibration import (
    AnswerFailed,
    CalibrationError,
    CalibrationPrompt,
    CalibrationRow,
    Course,
    GivenAnswer,
    ModelUnusable,
    Progress,
    calibrate,
    oracle_quality,
    parse_prompts,
    read_json_lines,
    summarise,
    wilson_interval,
)
from gateway.problems.choosing import EveryPrompt
from gateway.problems.gateway_asker import Spending
from router_models.verifiers.verifiers import parse_verifier

PROMPT: dict[str, Any] = {
    "query_id": "q1",
    "text": "What is 6 * 7?",
    "task": "maths",
    "verifier": {"kind": "numeric", "reference": 42},
}


def prompt(name: str, reference: int = 42) -> CalibrationPrompt:
    spec = parse_verifier({"kind": "numeric", "reference": reference})
    return CalibrationPrompt(name, f"text of {name}", "maths", spec)


def row(model: str, query: str, score: float, cost: float = 0.001) -> CalibrationRow:
    return CalibrationRow(query, query, "t", model, score, 1, 1, cost, 0.5, "train", "")


class FakeAsker:
    """Gives the scripted answer to each model."""

    def __init__(self, answers: dict[str, str | Exception]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, str]] = []
        self.told: list[float] = []

    async def ask(self, model: str, text: str) -> GivenAnswer:
        self.asked.append((model, text))
        answer = self.answers[model]
        if isinstance(answer, Exception):
            raise answer
        return GivenAnswer(answer, 10, 2, 0.01, 0.5)

    async def report(self, given: GivenAnswer, score: float) -> None:
        self.told.append(score)


def course(model: str, *names: str) -> Course:
    prompts = [prompt(name) for name in names]
    return Course(model, prompts, EveryPrompt(len(prompts)))


async def run(asker: FakeAsker, *courses: Course, **options: Any) -> tuple[Progress, list[int]]:
    steps: list[int] = []
    progress = await calibrate(
        asker,
        courses,
        split_of=lambda text: "train",
        on_progress=lambda progress: steps.append(progress.done),
        **options,
    )
    return progress, steps


async def test_scores_every_model_on_every_prompt() -> None:
    asker = FakeAsker({"good": "42", "bad": "41"})
    progress, steps = await run(asker, course("good", "q1"), course("bad", "q1"))
    assert {(r.model, r.score, r.split) for r in progress.rows} == {
        ("good", 1.0, "train"),
        ("bad", 0.0, "train"),
    }
    assert steps == [1, 2]
    assert sorted(asker.told) == [0.0, 1.0]


async def test_a_prompt_without_an_answer_does_not_stop_the_others() -> None:
    asker = FakeAsker({"down": AnswerFailed("503: down"), "good": "42"})
    progress, steps = await run(asker, course("down", "q1"), course("good", "q1"))
    assert progress.failures == ["down, q1: 503: down"]
    assert [r.model for r in progress.rows] == ["good"]
    assert steps == [1, 2]


async def test_an_answer_that_cannot_be_checked_is_a_failure_and_no_wrong_answer() -> None:
    verifier = parse_verifier({"kind": "json_schema", "schema": True})
    asker = FakeAsker({"deep": "[" * 40_000 + "]" * 40_000})
    deep = [replace(prompt("q1"), verifier=verifier)]
    progress, _ = await run(asker, Course("deep", deep, EveryPrompt(1)))
    assert progress.rows == []
    assert "deep, q1: the JSON cannot be read" in progress.failures[0]


async def test_a_refusal_of_all_calls_stops_at_once() -> None:
    asker = FakeAsker({"secret": CalibrationError("401: no")})
    with pytest.raises(CalibrationError, match="401: no"):
        await run(asker, course("secret", *(f"q{i}" for i in range(9))), concurrency=1)
    assert len(asker.asked) == 1


@pytest.mark.parametrize("error", [ModelUnusable("404: gone"), AnswerFailed("503: down")])
async def test_a_model_that_answers_nothing_is_left_and_the_others_go_on(error: Exception) -> None:
    asker = FakeAsker({"dead": error, "good": "42"})
    names = [f"q{i}" for i in range(30)]
    progress, _ = await run(asker, course("dead", *names), course("good", *names))
    assert len([model for model, _ in asker.asked if model == "dead"]) <= 5
    assert [row.model for row in progress.rows] == ["good"] * 30
    assert str(error) in progress.gave_up["dead"]


async def test_what_was_answered_in_an_earlier_run_is_not_asked_again() -> None:
    asker = FakeAsker({"good": "42"})
    whole = course("good", "q0", "q1", "q2")
    whole = replace(whole, answers={1: row("good", "q1", 1.0)})
    progress, _ = await run(asker, whole)
    assert sorted(asker.asked) == [("good", "text of q0"), ("good", "text of q2")]
    assert (progress.total, sorted(whole.answers)) == (2, [0, 1, 2])


class Spender(FakeAsker):
    """Holds the worst case of each answer while it is given, as a gateway's asker does."""

    def __init__(self, spending: Spending, worst_usd: float, cost_usd: float) -> None:
        super().__init__({})
        self.spending, self.worst_usd, self.cost_usd = spending, worst_usd, cost_usd
        self.peak_usd = 0.0
        self.under_way = 0

    async def ask(self, model: str, text: str) -> GivenAnswer:
        await self.spending.hold(self.worst_usd)
        self.under_way += 1
        might_cost = self.spending.spent_usd + self.under_way * self.worst_usd
        self.peak_usd = max(self.peak_usd, might_cost)
        await asyncio.sleep(0)
        self.under_way -= 1
        self.spending.settle(self.worst_usd, self.cost_usd)
        return GivenAnswer("42", 10, 2, self.cost_usd, 0.5)


@given(st.floats(0.0, 1.0), st.floats(0.01, 0.3), st.floats(0.0, 1.0), st.integers(1, 8))
async def test_no_call_is_made_that_might_exceed_the_cap(
    cap_usd: float, worst_usd: float, share: float, concurrency: int
) -> None:
    spending = Spending(cap_usd)
    asker = Spender(spending, worst_usd, share * worst_usd)
    courses = [course(model, *(f"q{i}" for i in range(7))) for model in ("a", "b")]
    progress, _ = await run(asker, *courses, concurrency=concurrency)
    assert spending.spent_usd <= cap_usd + 1e-9
    assert asker.peak_usd <= cap_usd + 1e-9
    if len(progress.rows) < 14:
        assert progress.over_budget
        assert spending.spent_usd + worst_usd > cap_usd


def test_reads_prompts_from_lines(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(json.dumps(PROMPT) + "\n\n" + json.dumps(PROMPT | {"query_id": "q2"}))
    assert [p.query_id for p in parse_prompts(read_json_lines(file))] == ["q1", "q2"]


def test_a_verifier_may_be_json_text_as_parquet_has_it() -> None:
    table = PROMPT | {"verifier": json.dumps(PROMPT["verifier"])}
    assert parse_prompts([("row 0", table)])[0].verifier == parse_verifier(PROMPT["verifier"])


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ([], "holds no prompt"),
        ([{}], "row 0: `query_id` and `text` must be non-empty texts"),
        ([PROMPT | {"text": 3}], "must be non-empty texts"),
        ([PROMPT, PROMPT], "row 1: query_id 'q1' is there twice"),
        ([PROMPT | {"verifier": {"kind": "numeric"}}], "row 0: verifier: reference: is missing"),
        ([PROMPT | {"verifier": "{"}], "row 0: verifier: not JSON"),
        ([PROMPT | {"verifier": None}], "row 0: verifier: verifier: must be an object"),
    ],
)
def test_a_wrong_prompt_is_refused_with_its_place(tables: Any, message: str) -> None:
    with pytest.raises(CalibrationError) as refusal:
        parse_prompts([(f"row {i}", table) for i, table in enumerate(tables)])
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "message"), [(b"{", ":1: not JSON"), (b"3", ":1: must be a JSON object")]
)
def test_a_wrong_line_is_refused_with_its_number(
    tmp_path: Path, content: bytes, message: str
) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_bytes(content)
    with pytest.raises(CalibrationError, match=message):
        read_json_lines(file)


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="cannot be read"):
        read_json_lines(tmp_path / "absent.jsonl")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CalibrationError, match="cannot be read"):
        read_json_lines(tmp_path / "binary")


def test_sums_up_the_best_model_first() -> None:
    rows = [row("a", "q1", 0.0), row("a", "q2", 1.0), row("b", "q1", 1.0), row("b", "q2", 1.0)]
    best, second = summarise(rows)
    assert (best.model, best.quality, best.answers) == ("b", 1.0, 2)
    assert second.quality == 0.5
    assert second.cost_usd_per_1000 == pytest.approx(1.0)
    assert second.interval[0] < 0.5 < second.interval[1]


def test_the_oracle_takes_the_best_model_of_queries_that_all_answered() -> None:
    rows = [row("a", "q1", 0.0), row("b", "q1", 1.0), row("a", "q2", 0.0)]
    assert oracle_quality(rows) == 1.0
    assert oracle_quality([row("a", "q1", 1.0), row("b", "q2", 1.0)]) is None


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_share_and_stays_a_probability(counts: tuple[int, int]) -> None:
    low, high = wilson_interval(*counts)
    assert 0.0 <= low <= counts[0] / counts[1] + 1e-12
    assert counts[0] / counts[1] - 1e-12 <= high <= 1.0


def test_the_interval_is_wilsons() -> None:
    assert wilson_interval(15, 20) == pytest.approx((0.5313, 0.8881), abs=1e-4)
