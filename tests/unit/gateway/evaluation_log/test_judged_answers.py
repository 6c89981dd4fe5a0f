"""Judges are measured on the log's answers, and corrected before routers learn from them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from sqlalchemy import Engine

from gateway.cli import cli
from gateway.evaluation_log.evaluation_log import EvaluationLog
from gateway.evaluation_log.grades import GradeRecord
from gateway.evaluation_log.judged_answers import (
    LEAST_WEIGHT,
    measure_judges,
    model_means,
    read_judged,
)
from gateway.evaluation_log.log_export import DatabaseRows
from gateway.settings.config import EvaluationLogSettings
from gateway.storage.database import create_database_engine
from router_models.evaluation.judges import Correction
from router_models.evaluation.log_rows import read_log_rows
from tests.fakes.schemas import with_schema
from tests.fakes.turns import START_UNIX_S, make_turn

JUDGE = ("arbiter", "rubric-1")
BIAS = 0.2
N_ANSWERS, N_TRUSTED = 120, 60


@pytest.fixture
def engine(tmp_path: Path):
    engine = create_database_engine(f"sqlite:///{tmp_path / 'waypost.db'}")
    with_schema(engine)
    yield engine
    engine.dispose()


def grade(number: int, answer_id: str, score: float, source="judge", **changes) -> GradeRecord:
    known: dict[str, Any] = {
        "team_id": "default",
        "grader": "arbiter",
        "comment": None,
        "version": "rubric-1",
    }
    known |= {"weight": 0.5} if source == "judge" else {"grader": "me", "version": None}
    return GradeRecord(
        grade_id=f"{source}{number}",
        answer_id=answer_id,
        score=score,
        source=source,
        created_at_unix_s=START_UNIX_S + number,
        **(known | changes),
    )


async def fill(engine: Engine, tmp_path: Path, *records) -> None:
    log = EvaluationLog(engine, EvaluationLogSettings(retention_days=None), tmp_path / "spool")
    for record in records:
        log.record_grade(record) if isinstance(record, GradeRecord) else log.record(record)
    log.start()
    await log.aclose()


def answered(number: int):
    vector = np.array([number, 1.0, 0.0], np.float32)
    return make_turn(number, query_embedding=vector, answer_id=f"chatcmpl-{number}")


@pytest.fixture
async def truth(engine: Engine, tmp_path: Path) -> list[float]:
    """Qualities of answers whose judge is too kind; of the first ones a verifier says so too."""
    qualities = [0.1 + 0.7 * (number * 7 % 10) / 9 for number in range(N_ANSWERS)]
    records = []
    for number, quality in enumerate(qualities):
        records += [answered(number), grade(number, f"req_{number:06d}", quality + BIAS)]
        if number < N_TRUSTED:
            ids = (f"req_{number:06d}", f"dec_{number:06d}", f"chatcmpl-{number}")
            records.append(grade(number, ids[number % 3], quality, source="verifier"))
    await fill(engine, tmp_path, *records)
    return qualities


async def test_a_judge_is_held_against_trusted_grades_by_whichever_id(engine, truth) -> None:
    answers = read_judged(engine)
    quality = measure_judges(answers)[JUDGE]
    assert (len(answers), quality.pairs) == (N_ANSWERS, N_TRUSTED)
    assert quality.bias == pytest.approx(BIAS)
    assert quality.correlation == pytest.approx(1.0)
    assert quality.weight > 0.8


async def test_routers_learn_from_corrected_scores_with_the_measured_weight(engine, truth) -> None:
    rows = [row for batch in DatabaseRows(engine).iter_evaluations() for row in batch]
    judged = [row for row in rows if row.score_source == "judge"]
    assert len(judged) == N_ANSWERS - N_TRUSTED
    errors = [row.score - truth[int(row.request_id[4:])] for row in judged]
    assert np.abs(errors).max() < BIAS / 2
    assert abs(np.mean(errors)) < BIAS / 4
    assert [row.score_weight for row in judged] == pytest.approx([0.875] * len(judged), abs=0.01)


async def test_means_of_models_are_without_the_judge_s_bias(engine, truth) -> None:
    count, mean = model_means(read_judged(engine), JUDGE)["small"]
    assert count == N_ANSWERS
    assert mean is not None
    assert mean.low <= np.mean(truth) <= mean.high
    assert mean.mean == pytest.approx(np.mean(truth), abs=0.01)


async def test_a_trusted_grade_of_another_team_says_nothing(engine, tmp_path) -> None:
    stranger = grade(0, "req_000000", 0.0, source="verifier", team_id="red")
    await fill(engine, tmp_path, answered(0), grade(0, "req_000000", 0.9), stranger)
    (answer,) = read_judged(engine)
    assert answer.trusted is None


async def test_an_unmeasured_judge_counts_as_it_says(engine, tmp_path) -> None:
    await fill(engine, tmp_path, answered(0), grade(0, "req_000000", 0.9))
    ((row,),) = DatabaseRows(engine).iter_evaluations()
    assert row.score == pytest.approx(0.9)
    assert row.score_weight == pytest.approx(0.5)


async def test_nothing_is_learned_from_a_judge_that_knows_nothing(engine, tmp_path) -> None:
    records = []
    for number in range(250):
        records += [answered(number), grade(number, f"req_{number:06d}", number * 7 % 10 / 9)]
        if number < 200:
            known = float(number * 13 % 4 > 1)
            records.append(grade(number, f"req_{number:06d}", known, source="verifier"))
    await fill(engine, tmp_path, *records)
    assert measure_judges(read_judged(engine))[JUDGE].weight < LEAST_WEIGHT
    rows = [row for batch in DatabaseRows(engine).iter_evaluations() for row in batch]
    assert {row.score_source for row in rows} == {"verifier", None}
    assert len(read_log_rows([rows], 3, 1000).query) == 200


async def test_callers_count_where_no_verifier_does(engine, tmp_path) -> None:
    await fill(
        engine,
        tmp_path,
        answered(0),
        answered(1),
        *(grade(number, f"req_{number:06d}", 0.9) for number in (0, 1)),
        *(grade(number, f"req_{number:06d}", 0.4, source="feedback") for number in (0, 1)),
        grade(1, "req_000001", 0.1, source="verifier"),
    )
    assert [answer.trusted for answer in read_judged(engine)] == [0.4, 0.1]


async def test_the_command_shows_judges_and_models(truth, tmp_path) -> None:
    file = tmp_path / "waypost.toml"
    file.write_text(f'data_dir = "{tmp_path}"\n')
    shown = CliRunner().invoke(cli, ["judges", "--config", str(file)]).output
    assert "arbiter (rubric-1)" in shown
    assert "60 answers have a trusted grade too; weight 0.88" in shown
    assert "bias +0.200" in shown
    assert "small                       120 answers, mean quality 0.4" in shown

    printed = CliRunner().invoke(cli, ["judges", "--config", str(file), "--json"]).stdout
    (judge,) = json.loads(printed)
    assert (judge["judge"], judge["prompt"], judge["pairs"]) == ("arbiter", "rubric-1", 60)
    assert judge["bias"] == pytest.approx(BIAS, abs=0.01)
    (small,) = judge["models"]
    assert (small["model"], small["answers"]) == ("small", 120)
    assert small["quality"]["low"] < small["quality"]["mean"] < small["quality"]["high"]


def test_the_command_says_where_there_is_no_judge(engine, tmp_path) -> None:
    file = tmp_path / "waypost.toml"
    file.write_text(f'data_dir = "{tmp_path}"\n')
    shown = CliRunner().invoke(cli, ["judges", "--config", str(file)]).output
    assert shown == "No answer was graded by a judge.\n"


async def test_judges_are_measured_once_for_all_that_is_read_in_one_look(engine, tmp_path) -> None:
    await fill(engine, tmp_path, answered(0), grade(0, "req_000000", 0.9))
    rows = DatabaseRows(engine)
    ((before,),) = rows.iter_evaluations()
    assert rows.judges is not None
    rows.judges = {JUDGE: replace(rows.judges[JUDGE], correction=Correction(0.1, 0.0))}
    ((after,),) = rows.iter_evaluations()
    assert before.score == pytest.approx(0.9)
    assert after.score == pytest.approx(0.1)
