from typing import cast

import numpy as np
import pytest

from budget.errors import InvalidProblems
from gateway.evaluation_log.evaluation_log import EvaluationLog
from gateway.evaluation_log.grades import GradeBook
from gateway.problems.log_problems import read_logged_problems
from gateway.settings.config import EvaluationLogSettings
from gateway.storage.database import create_database_engine
from gateway.types import Usage
from router_models.artifacts.sealed_file import RequestEncoder
from router_models.encoders.request_shape import WIDTH
from router_models.types import Encoder
from tests.fakes.artifacts import EncoderIdentity
from tests.fakes.schemas import with_schema
from tests.fakes.turns import make_turn

ENCODER = cast("Encoder", EncoderIdentity(dimension=3))  # nothing is encoded


async def logged(folder, turns, scores, source="feedback"):
    """Log turns of several conversations; grade those that have a score."""
    engine = create_database_engine(f"sqlite:///{folder}/waypost.db")
    with_schema(engine)
    log = EvaluationLog(engine, EvaluationLogSettings(), folder / "spool")
    log.start()
    book = GradeBook(log, engine, count=lambda answer, grade: None)
    for turn, score in zip(turns, scores, strict=True):
        log.record(turn)
        if score is not None:
            await book.record_grade(
                turn.request_id, team_id="default", grader="t", score=score, source=source
            )
    await log.aclose()
    return engine


def turn(number, conversation, index, tokens, **changes):
    usage = Usage(100, tokens)
    return make_turn(number, conversation_id=conversation, turn_index=index, usage=usage, **changes)


async def test_conversations_become_problems_in_the_order_of_their_turns(tmp_path):
    turns = [turn(1, "b", 0, 30), turn(2, "a", 1, 20), turn(3, "a", 0, 10)]
    engine = await logged(tmp_path, turns, [1.0, 1.0, 0.0])
    environment = read_logged_problems(engine, ENCODER)
    assert [problem.problem_id for problem in environment.problems] == ["a", "b"]
    assert [int(sample.tokens[0, 0]) for sample in environment.samples[0]] == [10, 20]
    assert [bool(sample.is_right[0, 0]) for sample in environment.samples[0]] == [False, True]
    np.testing.assert_array_equal(environment.problems[0].embeddings[0], [0.5, -1.0, 3.0])


async def test_later_turns_count_by_the_text_of_their_query(tmp_path):
    whole = np.concatenate([[0.5, -1.0, 2.0], np.ones(WIDTH)]).astype(np.float32)
    later = {"query_embedding": whole, "encoder_id": RequestEncoder.of(ENCODER).id}
    turns = [turn(1, "a", 0, 30), turn(2, "a", 1, 20, **later)]
    engine = await logged(tmp_path, turns, [1.0, 1.0])
    (problem,) = read_logged_problems(engine, ENCODER).problems
    np.testing.assert_array_equal(problem.embeddings, [[0.5, -1.0, 1.0], [0.5, -1.0, 2.0]])


async def test_turns_without_a_grade_are_not_decisive(tmp_path):
    turns = [turn(1, "a", 0, 30), turn(2, "a", 1, 20), turn(3, "ungraded", 0, 20)]
    engine = await logged(tmp_path, turns, [None, 1.0, None])
    environment = read_logged_problems(engine, ENCODER)
    assert [problem.is_decisive for problem in environment.problems] == [(False, True)]


async def test_checks_of_an_answer_s_form_decide_nothing(tmp_path):
    engine = await logged(tmp_path, [turn(1, "a", 0, 30)], [0.7], source="check")
    with pytest.raises(InvalidProblems):
        read_logged_problems(engine, ENCODER)


async def test_an_answer_that_was_cut_off_counts_as_wrong(tmp_path):
    turns = [turn(1, "a", 0, 30, finish_reason="length")]
    engine = await logged(tmp_path, turns, [1.0])
    assert not read_logged_problems(engine, ENCODER).samples[0][0].is_right.any()


async def test_says_what_to_send_where_no_conversation_was_graded(tmp_path):
    engine = await logged(tmp_path, [turn(1, "a", 0, 30, encoder_id="minilm-1")], [1.0])
    with pytest.raises(InvalidProblems, match="static-cheap-1"):
        read_logged_problems(engine, ENCODER)
