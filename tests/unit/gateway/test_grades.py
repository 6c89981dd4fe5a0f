import threading
from pathlib import Path

import pytest

from gateway import grades as grades_module
from gateway.config import EvaluationLogSettings
from gateway.database import create_database_engine
from gateway.errors import InvalidRequest, NotFound
from gateway.evaluation_log import EvaluationLog
from gateway.grades import GradeBook, RecentAnswers
from tests.fakes.turns import make_turn

SETTINGS = EvaluationLogSettings(retention_days=None)


@pytest.fixture
def log(engine, tmp_path: Path) -> EvaluationLog:
    return EvaluationLog(engine, SETTINGS, tmp_path / "spool")


@pytest.fixture
def book(log, engine) -> GradeBook:
    return GradeBook(log, engine, clock=lambda: 5.0)


async def grade(book: GradeBook, answer_id: str, team_id: str = "default", score: float = 1.0):
    return await book.record_grade(answer_id, team_id=team_id, grader="me", score=score)


@pytest.mark.parametrize("answer_id", ["req_000001", "dec_000001", "chatcmpl-000001"])
async def test_an_answer_can_be_graded_before_it_is_in_the_database(book, log, answer_id):
    log.record(make_turn(1))

    taken = await grade(book, answer_id, score=0.25)

    assert (taken.answer_id, taken.score, taken.source) == (answer_id, 0.25, "feedback")
    assert taken.created_at_unix_s == 5.0
    assert log.queue_depth == 2


@pytest.mark.parametrize("answer_id", ["req_000001", "dec_000001", "chatcmpl-000001"])
async def test_an_answer_of_another_process_is_found_in_the_database(
    book, engine, tmp_path, answer_id
):
    other = EvaluationLog(engine, SETTINGS, tmp_path / "spool")
    other.record(make_turn(1))
    other.start()
    await other.aclose()

    assert await grade(book, answer_id)
    with pytest.raises(NotFound):
        await grade(book, answer_id, team_id="blue")


async def test_no_team_can_grade_the_answers_of_another(book, log):
    log.record(make_turn(1, team_id="blue"))

    with pytest.raises(NotFound, match="req_000001"):
        await grade(book, "req_000001")
    assert log.queue_depth == 1


async def test_an_answer_that_never_was_is_not_found(book):
    with pytest.raises(NotFound):
        await grade(book, "nothing")


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan"), float("inf")])
async def test_a_score_outside_0_to_1_is_refused(book, score):
    with pytest.raises(InvalidRequest, match="score"):
        await grade(book, "req_000001", score=score)


async def test_a_long_comment_is_refused(book):
    with pytest.raises(InvalidRequest, match="comment"):
        await book.record_grade("a", team_id="t", grader="g", score=1, comment="x" * 5000)


async def test_without_a_database_a_grade_is_taken_unseen(log, tmp_path):
    (tmp_path / "file").write_text("")
    broken = create_database_engine(f"sqlite:///{tmp_path / 'file' / 'waypost.db'}")

    assert await grade(GradeBook(log, broken), "req_000009")


async def test_a_database_that_hangs_does_not_hold_a_grade_up(log, engine, monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(grades_module, "_is_team_answer", lambda *arguments: released.wait(20))

    assert await grade(GradeBook(log, engine, lookup_timeout_s=0.01), "req_000009")
    released.set()


def test_only_the_latest_answers_are_remembered():
    recent = RecentAnswers(max_answers=2)
    for number in range(5):
        recent.add(make_turn(number, answer_id=None if number == 4 else f"a{number}"))

    assert recent.team_of("req_000004") == "default"
    assert recent.team_of("req_000000") is None
