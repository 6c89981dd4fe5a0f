"""Conversations of the evaluation log as problems to replay."""

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import Engine, select

from budget.environments.conversation import Problem
from budget.environments.trace import TraceEnvironment, TurnSamples
from budget.errors import InvalidProblems
from gateway.evaluation_log.log_export import READ, UNASKED, grade_of
from gateway.problems.problem_files import RIGHT_SCORE
from migrations.tables import GRADES, TURNS
from router_models.encoders.request_shape import encoder_ids
from router_models.estimators.arrays import fit_width
from router_models.types import Encoder

CUT_OFF = "length"


def read_logged_problems(engine: Engine, encoder: Encoder) -> TraceEnvironment:
    """Read every conversation in which at least one turn was graded.

    Each turn has the one answer that it really got. Graded turns are decisive, the others are not:
    where only the last answer of a conversation is graded, that alone decides. An answer that was
    cut off counts as wrong, since nobody knows what more tokens would have made of it; so a log
    whose turns had tight budgets teaches little about generous ones. Texts are not needed.

    Raises:
        InvalidProblems: There is no such conversation whose turns this encoder embedded.
    """
    query = (
        select(*READ)
        .where(
            TURNS.c.conversation_id.is_not(None),
            TURNS.c.encoder_id.in_(encoder_ids(encoder.id)),
            TURNS.c.query_embedding.is_not(None),
            TURNS.c.completion_tokens.is_not(None),
        )
        .order_by(TURNS.c.team_id, TURNS.c.conversation_id, TURNS.c.turn_index, TURNS.c.started_at)
    )
    with engine.connect() as connection:
        turns = connection.execute(query).mappings().all()
        by_answer: dict[str, list[Mapping[Any, Any]]] = defaultdict(list)
        asked = select(GRADES).where(GRADES.c.source.not_in(UNASKED)).order_by(GRADES.c.created_at)
        for grade in connection.execute(asked).mappings():
            by_answer[grade["answer_id"]].append(grade)
    problems, samples = [], []
    for (_, name), group in itertools.groupby(
        turns, lambda turn: (turn["team_id"], turn["conversation_id"])
    ):
        conversation = list(group)
        grades = [grade_of(turn, by_answer) for turn in conversation]
        scores = [None if grade is None else grade.score for grade in grades]
        if any(score is not None for score in scores):
            problems.append(_problem(str(name), conversation, scores, encoder.dimension))
            samples.append(tuple(map(_sample, conversation, scores)))
    if not problems:
        raise InvalidProblems(
            f"the log has no conversation with a graded turn read by {encoder.id}: send "
            "`X-Waypost-Conversation-Id` with every turn and grades to /v1/feedback"
        )
    return TraceEnvironment(tuple(problems), tuple(samples))


def _problem(
    name: str,
    turns: Sequence[Mapping[Any, Any]],
    scores: Sequence[float | None],
    dimension: int,
) -> Problem:
    vectors = [np.frombuffer(turn["query_embedding"], "<f4") for turn in turns]
    return Problem(
        name,
        tuple(turn["query_text"] or "" for turn in turns),
        np.stack([fit_width(vector, dimension) for vector in vectors]).astype(np.float32),
        tuple(score is not None for score in scores),
    )


def _sample(turn: Mapping[Any, Any], score: float | None) -> TurnSamples:
    is_right = (score or 0.0) >= RIGHT_SCORE and turn["finish_reason"] != CUT_OFF
    return TurnSamples(np.array([[turn["completion_tokens"]]], np.int32), np.array([[is_right]]))
