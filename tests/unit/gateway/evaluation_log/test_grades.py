import asyncio
import threading
from concurrent.futures import Executor, Future
from dataclasses import replace
from pathlib import Path
from sys import getsizeof

import pytest

from gateway.errors import DependencyUnavailable, InvalidRequest, NotFound, RateLimited
from gateway.evaluation_log import grades as grades_module
from gateway.evaluation_log.evaluation_log import EvaluationLog
from gateway.evaluation_log.grades import GradeBook, KnownAnswer, RecentAnswers
from gateway.settings.config import EvaluationLogSettings
from gateway.storage.database import create_database_engine
from router_models.verifiers.verifiers import parse_verifier
from tests.fakes.patience import PATIENCE_S
from tests.fakes.turns import make_turn

SETTINGS = EvaluationLogSettings(retention_days=None)


@pytest.fixture
def log(engine, tmp_path: Path) -> EvaluationLog:
    return EvaluationLog(engine, SETTINGS, tmp_path / "spool")


@pytest.fixture
def counted() -> list[tuple[KnownAnswer, float]]:
    return []


@pytest.fixture
def book(log, engine, counted) -> GradeBook:
    return GradeBook(log, engine, count=counting(counted), clock=lambda: 5.0)


def counting(counted: list[tuple[KnownAnswer, float]]):
    return lambda answer, grade: counted.append((answer, grade.score))


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
    book, engine, tmp_path, counted, answer_id
):
    other = EvaluationLog(engine, SETTINGS, tmp_path / "spool")
    other.record(make_turn(1))
    other.start()
    await other.aclose()

    assert await grade(book, answer_id, score=0.5)
    with pytest.raises(NotFound):
        await grade(book, answer_id, team_id="blue")
    assert counted == [(KnownAnswer("default", "small", "r-1", 0.5), 0.5)]


async def test_an_answer_takes_so_many_grades_and_no_more(monkeypatch, book, log):
    monkeypatch.setattr("gateway.evaluation_log.grades.MOST_GRADES", 2)
    for number in (1, 2):
        log.record(make_turn(number, answer="4"))
    for _ in range(2):
        await grade(book, "req_000001")

    with pytest.raises(RateLimited, match="2 grades"):
        await grade(book, "req_000001")
    with pytest.raises(RateLimited, match="2 grades"):
        await check(book, "req_000001")
    assert await grade(book, "req_000002")
    assert log.queue_depth == 5


async def test_an_answer_that_another_process_has_yet_to_write_is_waited_for(log, engine, tmp_path):
    writing = EvaluationLog(engine, SETTINGS, tmp_path / "spool")
    writing.record(make_turn(1))
    book = GradeBook(log, engine, counting([]), patience_s=1.0)

    grading = asyncio.create_task(grade(book, "req_000001"))
    await asyncio.sleep(0)
    writing.start()
    await writing.aclose()

    assert await grading


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

    counted: list[tuple[KnownAnswer, float]] = []
    assert await grade(GradeBook(log, broken, counting(counted)), "req_000009")
    assert counted == []


async def test_a_database_that_hangs_does_not_hold_a_grade_up(log, engine, monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(
        grades_module, "_stored_answer", lambda *arguments: released.wait(PATIENCE_S)
    )

    assert await grade(GradeBook(log, engine, counting([]), lookup_timeout_s=0.01), "req_000009")
    released.set()


def test_only_the_latest_answers_are_remembered():
    recent = RecentAnswers(max_answers=2)
    for number in range(5):
        recent.add(make_turn(number, answer_id=None if number == 4 else f"a{number}"))

    assert recent.find("req_000004") == KnownAnswer("default", "small", "r-1", 0.5)
    assert recent.find("req_000000") is None


def test_answers_are_remembered_up_to_a_number_of_bytes():
    text = "\N{GRINNING FACE}" * 1_000
    recent = RecentAnswers(max_text_bytes=3 * getsizeof(text))
    for number in range(9):
        recent.add(make_turn(number, answer=f"{text[1:]}{number}"))

    kept = [number for number in range(9) if recent.find(f"req_{number:06d}") is not None]
    assert kept == [6, 7, 8]
    assert recent.find("dec_000005") is recent.find("chatcmpl-000005") is None


def test_a_provider_that_gives_every_answer_the_same_id_makes_none_forgotten():
    recent = RecentAnswers(max_text_bytes=3 * getsizeof("42"))
    for number in range(9):
        recent.add(make_turn(number, answer="42", answer_id="same"))

    assert recent.find("req_000007") is not None
    assert recent.find("same") is recent.find("req_000008")


class NotedWork(Executor):
    """Does at once what it is given, and keeps what that was."""

    def __init__(self) -> None:
        self.order: list[str] = []

    def submit(self, function, /, *args, **kwargs):
        if function is parse_verifier:
            self.order.append(args[0]["reference"])
        done: Future[object] = Future()
        done.set_result(function(*args))
        return done


async def test_teams_take_turns_at_the_work_of_verifiers(book, log):
    work = NotedWork()
    shared = replace(book, checks=work)
    for number, team in enumerate(("blue", "red")):
        log.record(make_turn(number, team_id=team, answer="1"))

    def of(number: int, team: str, reference: int):
        table = {"kind": "numeric", "reference": str(reference)}
        answer_id = f"req_{number:06d}"
        return shared.verify_answer(answer_id, team_id=team, grader="me", verifier=table)

    await asyncio.gather(*(of(0, "blue", each) for each in range(1, 6)), of(1, "red", 9))

    assert work.order.index("9") <= 1
    assert len(work.order) == 6


NUMERIC = {"kind": "numeric", "reference": "42"}


async def check(book: GradeBook, answer_id: str = "req_000001", verifier=NUMERIC):
    return await book.verify_answer(answer_id, team_id="default", grader="me", verifier=verifier)


@pytest.mark.parametrize(("answer", "score"), [("It is 42.", 1.0), ("It is 41.", 0.0)])
async def test_an_answer_is_verified_and_the_verifier_kept(book, log, answer, score):
    log.record(make_turn(1, answer=answer))

    grade = await check(book)

    assert (grade.source, grade.score, grade.verifier) == ("verifier", score, NUMERIC)
    assert log.queue_depth == 2


async def test_an_answer_of_another_process_is_verified_from_the_database(book, engine, tmp_path):
    other = EvaluationLog(engine, SETTINGS, tmp_path / "spool")
    other.record(make_turn(1, answer="It is 42."))
    other.start()
    await other.aclose()

    assert (await check(book, "chatcmpl-000001")).score == 1.0


async def test_an_answer_whose_text_was_not_kept_cannot_be_verified(book, log):
    log.record(make_turn(1))

    with pytest.raises(InvalidRequest, match="was not kept"):
        await check(book)
    assert log.queue_depth == 1


async def test_no_team_can_verify_the_answers_of_another(book, log):
    log.record(make_turn(1, team_id="blue", answer="42"))

    with pytest.raises(NotFound):
        await check(book)


@pytest.mark.parametrize(
    ("verifier", "message"),
    [
        ({}, "kind"),
        ({"kind": "numeric"}, "reference: is missing"),
        ({"kind": "regex", "pattern": "("}, "pattern"),
        ({"kind": "exact", "reference": "x" * 40_000}, "exceeds"),
    ],
)
async def test_a_table_that_is_no_verifier_is_refused(book, log, verifier, message):
    log.record(make_turn(1, answer="42"))

    with pytest.raises(InvalidRequest, match=message):
        await check(book, verifier=verifier)


async def test_without_a_database_an_unknown_answer_is_not_verified(log, counted, tmp_path):
    broken = create_database_engine(f"sqlite:///{tmp_path / 'missing' / 'x.db'}")

    with pytest.raises(DependencyUnavailable, match="looked up"):
        await check(GradeBook(log, broken, count=counting(counted)), "req_000009")
    broken.dispose()
