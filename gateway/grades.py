"""Grades of past answers: who found them how good, 0 to 1."""

import asyncio
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from sqlalchemy import Engine, or_, select
from sqlalchemy.exc import SQLAlchemyError

from gateway.errors import InvalidRequest, NotFound
from gateway.types import TurnRecord
from migrations.tables import Turn

GradeSource = Literal["verifier", "judge", "feedback"]
"""What a grade rests on, most reliable first: a check, a model's opinion, a caller's opinion."""
MAX_COMMENT_CHARS = 4000
ANSWER_IDS = (Turn.request_id, Turn.decision_id, Turn.answer_id)
"""What callers may call an answer by; the last one was made by the provider."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GradeRecord:
    """One grade of one answer.

    Attributes:
        grade_id: Unique; a grade that is replayed from the spool is stored once.
        answer_id: Request, decision or answer id of the graded turn.
        team_id: The grader's team; the grade counts only if the turn is that team's.
        grader: Who graded: a key's id, a verifier's name.
        score: 0 (useless) to 1 (perfect).
    """

    grade_id: str
    answer_id: str
    team_id: str
    grader: str
    source: GradeSource
    score: float
    comment: str | None
    created_at_unix_s: float


class RecentAnswers:
    """Which team got which of the latest answers; bounded, oldest out first.

    A caller often grades an answer before its row is in the database.
    """

    def __init__(self, max_answers: int = 2_000) -> None:
        self._teams: OrderedDict[str, str] = OrderedDict()
        self._max_entries = 3 * max_answers

    def add(self, turn: TurnRecord) -> None:
        """Remember the answer under each of its ids."""
        teams = self._teams
        teams[turn.request_id] = teams[turn.decision_id] = turn.team_id
        if turn.answer_id is not None:
            teams[turn.answer_id] = turn.team_id
        while len(teams) > self._max_entries:
            teams.popitem(last=False)

    def team_of(self, answer_id: str) -> str | None:
        """Return the team that got the answer; None if it is not among the latest."""
        return self._teams.get(answer_id)


class GradeLog(Protocol):
    """Where grades go; `gateway.evaluation_log.EvaluationLog` is one."""

    recent: RecentAnswers

    def record_grade(self, grade: GradeRecord) -> None:
        """Queue `grade`; never blocks, never raises."""
        ...


@dataclass(frozen=True, slots=True)
class GradeBook:
    """Takes grades from callers, each for its own team's answers only."""

    log: GradeLog
    engine: Engine
    clock: Callable[[], float] = time.time
    lookup_timeout_s: float = 2.0

    async def record_grade(
        self,
        answer_id: str,
        *,
        team_id: str,
        grader: str,
        score: float,
        source: GradeSource = "feedback",
        comment: str | None = None,
    ) -> GradeRecord:
        """Queue a grade of the answer with the request, decision or answer id `answer_id`.

        While the database cannot be asked the grade is taken unseen: an export counts it only if
        the answer exists and is the team's.

        Raises:
            InvalidRequest: The score is not in [0, 1], or the comment is too long.
            NotFound: The team has no such answer.
        """
        if not 0.0 <= score <= 1.0:
            raise InvalidRequest("score must be a number from 0 to 1", param="score")
        if comment is not None and len(comment) > MAX_COMMENT_CHARS:
            raise InvalidRequest(
                f"comment may have {MAX_COMMENT_CHARS} characters", param="comment"
            )
        if not await self._may_grade(answer_id, team_id):
            raise NotFound(f"no answer {answer_id!r} of this team", param="id")
        grade = GradeRecord(
            grade_id=secrets.token_hex(16),
            answer_id=answer_id,
            team_id=team_id,
            grader=grader,
            source=source,
            score=score,
            comment=comment,
            created_at_unix_s=self.clock(),
        )
        self.log.record_grade(grade)
        return grade

    async def _may_grade(self, answer_id: str, team_id: str) -> bool:
        if self.log.recent.team_of(answer_id) == team_id:
            return True
        try:
            async with asyncio.timeout(self.lookup_timeout_s):
                return await asyncio.to_thread(_is_team_answer, self.engine, answer_id, team_id)
        except (SQLAlchemyError, TimeoutError) as error:
            logger.warning("grade of %s taken unseen: %s", answer_id, type(error).__name__)
            return True


def _is_team_answer(engine: Engine, answer_id: str, team_id: str) -> bool:
    query = (
        select(Turn.request_id)
        .where(or_(*(column == answer_id for column in ANSWER_IDS)))
        .where(Turn.team_id == team_id)
        .limit(1)
    )
    with engine.connect() as connection:
        return connection.execute(query).first() is not None
