from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine

from gateway.evaluation_log import graded_answers
from gateway.evaluation_log.evaluation_log import EvaluationLog
from gateway.evaluation_log.graded_answers import GradedAnswers
from gateway.evaluation_log.grades import GradeRecord
from gateway.settings.config import EvaluationLogSettings
from gateway.storage.database import create_database_engine
from router_models.encoders.request_shape import SUFFIX, WIDTH
from tests.fakes.schemas import with_schema
from tests.fakes.turns import START_UNIX_S, make_turn

SETTINGS = EvaluationLogSettings(retention_days=None)


@pytest.fixture
def engine(tmp_path: Path):
    engine = create_database_engine(f"sqlite:///{tmp_path / 'waypost.db'}")
    with_schema(engine)
    yield engine
    engine.dispose()


def grade(turn: int, score: float, **changes) -> GradeRecord:
    known = {"team_id": "default", "grader": "me", "source": "feedback", "comment": None}
    return GradeRecord(
        grade_id=f"g{turn}-{score}",
        answer_id=f"req_{turn:06}",
        score=score,
        created_at_unix_s=START_UNIX_S + turn,
        **(known | changes),
    )


async def fill(engine: Engine, tmp_path: Path, *records) -> None:
    log = EvaluationLog(engine, SETTINGS, tmp_path / "spool")
    for record in records:
        log.record_grade(record) if isinstance(record, GradeRecord) else log.record(record)
    log.start()
    await log.aclose()


def latest(engine: Engine, encoder_id: str = "static-cheap-1"):
    return GradedAnswers(engine, encoder_id)


async def test_reads_graded_answers_alone_in_order_of_time(engine, tmp_path):
    turns = [make_turn(n, served_model=f"m{n}") for n in range(4)]
    await fill(engine, tmp_path, *turns, grade(2, 0.25), grade(1, 0.5))
    found = latest(engine).read()
    assert [(one.model, one.score) for one in found] == [("m1", 0.5), ("m2", 0.25)]
    assert found[0].embedding.tolist() == [0.5, -1.0, 1.0]
    assert found[0].tokens == 50
    assert latest(engine).newest()[1] == "g2-0.25"


async def test_the_newest_of_no_grade_is_none(engine):
    assert latest(engine).newest() is None
    assert latest(engine).read() == []


async def test_another_team_s_grade_of_an_answer_does_not_count(engine, tmp_path):
    await fill(engine, tmp_path, make_turn(1), grade(1, 1.0, team_id="other"))
    assert latest(engine).read() == []


async def test_answers_to_queries_of_another_encoder_do_not_count(engine, tmp_path):
    await fill(engine, tmp_path, make_turn(1), grade(1, 1.0))
    assert latest(engine, "minilm-1").read() == []


async def test_the_query_s_text_alone_counts_whatever_was_sent_with_it(engine, tmp_path):
    vector = np.arange(3 + WIDTH, dtype=np.float32)
    turn = make_turn(1, encoder_id=f"static-cheap-1{SUFFIX}", query_embedding=vector)
    await fill(engine, tmp_path, turn, grade(1, 1.0))
    assert latest(engine).read()[0].embedding.tolist() == [0.0, 1.0, 2.0]


async def test_one_team_s_word_on_a_model_has_a_bound_and_others_are_heard(
    engine, tmp_path, monkeypatch
):
    monkeypatch.setattr(graded_answers, "MOST_OF_A_TEAM", 3)
    loud = [make_turn(n) for n in range(9)]
    quiet = make_turn(10, team_id="quiet")
    grades = [grade(n, 1.0) for n in range(9)] + [grade(10, 0.0, team_id="quiet")]
    await fill(engine, tmp_path, *loud, quiet, *grades)
    assert [one.score for one in latest(engine).read()] == [1.0] * 3 + [0.0]


async def test_the_work_has_a_bound(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(graded_answers, "MOST_GRADES", 4)
    turns = [make_turn(n) for n in range(9)]
    await fill(engine, tmp_path, *turns, *(grade(n, n / 10) for n in range(9)))
    assert [one.score for one in latest(engine).read()] == [0.5, 0.6, 0.7, 0.8]


async def test_a_team_that_grades_much_does_not_push_out_what_others_say(
    engine, tmp_path, monkeypatch
):
    monkeypatch.setattr(graded_answers, "MOST_GRADES", 6)
    quiet = [make_turn(n, team_id="quiet") for n in range(2)]
    loud = [make_turn(n) for n in range(10, 40)]
    said = [grade(n, 0.0, team_id="quiet") for n in range(2)]
    await fill(engine, tmp_path, *quiet, *loud, *said, *(grade(n, 1.0) for n in range(10, 40)))
    assert [one.score for one in latest(engine).read()] == [0.0] * 2 + [1.0] * 6


async def test_what_checks_and_signals_say_of_nearly_every_answer_does_not_count(engine, tmp_path):
    unasked = [grade(1, 0.7, source="check"), grade(1, 0.1, source="signal")]
    await fill(engine, tmp_path, make_turn(1), *unasked)
    assert latest(engine).newest() is None
    assert latest(engine).read() == []


async def test_an_answer_counts_as_much_as_its_grade_weighs(engine, tmp_path):
    judged = grade(1, 0.5, source="judge", weight=0.25, version="1")
    await fill(engine, tmp_path, make_turn(1), make_turn(2), judged, grade(2, 1.0))
    assert [one.weight for one in latest(engine).read()] == [0.25, 1.0]
