"""Grades of past answers: who found them how good, 0 to 1."""

import asyncio
import json
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from sys import getsizeof
from typing import Any, Literal, Protocol, TypeVar, TypeVarTuple
from weakref import WeakValueDictionary

from sqlalchemy import Engine, or_, select
from sqlalchemy.exc import SQLAlchemyError

from gateway.errors import DependencyUnavailable, InvalidRequest, NotFound, RateLimited
from gateway.storage.database import is_row_fault
from gateway.types import TurnRecord
from migrations.tables import TURNS
from router_models.verifiers.verifiers import InvalidVerifier, NotVerifiable, parse_verifier, verify

Given = TypeVarTuple("Given")
Made = TypeVar("Made")

GradeSource = Literal["verifier", "feedback", "judge", "signal", "check"]
"""What a grade rests on: a known result, a caller's opinion, a model's opinion, what the caller did
next, a check of the answer's form."""
MAX_COMMENT_CHARS = 4000
MAX_VERIFIER_CHARS = 32_768
MAX_TEXT_BYTES = 16 * 1024 * 1024
"""Of the latest answers; the texts of 2,000 can take 262 MB. An older one is in the database."""
IDS_PER_ANSWER = 3
MOST_GRADES = 100
"""Of an answer under one of its ids: grades cost their caller nothing, and rows of the database."""
COUNTED_ANSWERS = 10_000
NO_TEXT = (
    "The text of this answer was not kept, so it cannot be verified: the team must let a reasoner "
    "learn from its answers (`waypost teams update TEAM --train-reasoner`) before it asks, and "
    "prompt and answer must be plain text of a moderate length. Send a `score` instead."
)
ANSWER_IDS = (TURNS.c.request_id, TURNS.c.decision_id, TURNS.c.answer_id)
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
        verifier: What the answer was checked by; a reasoner learns from it.
        weight: How much the grade says of this answer: 0 (nothing) to 1.
        version: Of the check or prompt that it comes from.
    """

    grade_id: str
    answer_id: str
    team_id: str
    grader: str
    source: GradeSource
    score: float
    comment: str | None
    created_at_unix_s: float
    verifier: Mapping[str, Any] | None = None
    weight: float = 1.0
    version: str | None = None


@dataclass(frozen=True, slots=True)
class KnownAnswer:
    """What a grade of an answer is held against.

    Attributes:
        model: That served; empty where none did.
        quality: That the router predicted for it; None where it did not.
        text: Kept only where the team lets a reasoner learn from it.
    """

    team_id: str
    model: str
    router_version: str | None
    quality: float | None
    text: str | None = None

    @property
    def n_bytes(self) -> int:
        """What its text takes in memory."""
        return 0 if self.text is None else getsizeof(self.text)


class RecentAnswers:
    """The latest answers by each of their ids; bounded, oldest out first.

    A caller often grades an answer before its row is in the database.

    Args:
        max_answers: How many are remembered.
        max_text_bytes: How much memory their texts take.
    """

    def __init__(self, max_answers: int = 2_000, max_text_bytes: int = MAX_TEXT_BYTES) -> None:
        self._answers: OrderedDict[str, KnownAnswer] = OrderedDict()
        self._max_entries = IDS_PER_ANSWER * max_answers
        self._max_bytes = IDS_PER_ANSWER * max_text_bytes
        self._bytes = 0

    def add(self, turn: TurnRecord) -> None:
        """Remember the answer under each of its ids."""
        expected = turn.expected
        answer = KnownAnswer(
            turn.team_id,
            turn.served_model or "",
            turn.router_version,
            None if expected is None else expected.quality,
            turn.answer,
        )
        n_bytes = answer.n_bytes
        for name in (turn.request_id, turn.decision_id, turn.answer_id):
            if name is not None:
                self._bytes += n_bytes - self._forgotten(name)
                self._answers[name] = answer
        while len(self._answers) > self._max_entries or self._bytes > self._max_bytes:
            self._bytes -= self._answers.popitem(last=False)[1].n_bytes

    def _forgotten(self, name: str) -> int:
        """Forget what has this id, and return its bytes: a provider may give one id twice."""
        before = self._answers.pop(name, None)
        return 0 if before is None else before.n_bytes

    def find(self, answer_id: str) -> KnownAnswer | None:
        """Return the answer; None if it is not among the latest."""
        return self._answers.get(answer_id)


class GradeLog(Protocol):
    """Where grades go; `gateway.evaluation_log.evaluation_log.EvaluationLog` is one."""

    recent: RecentAnswers

    def record_grade(self, grade: GradeRecord) -> None:
        """Queue `grade`; never blocks, never raises."""
        ...


def _one_thread() -> Executor:
    return ThreadPoolExecutor(1, "verifier")


@dataclass(frozen=True, slots=True)
class GradeBook:
    """Takes grades from callers, each for its own team's answers only.

    Attributes:
        count: Told of each grade whose answer is known.
        checks: Runs verifiers, one after the other; other work off the event loop never waits
            behind a costly one, and teams take turns.
        patience_s: An answer that is not found is looked for once more after so long: another
            process may have given it and not written its row yet.
    """

    log: GradeLog
    engine: Engine
    count: Callable[[KnownAnswer, GradeRecord], None]
    clock: Callable[[], float] = time.time
    lookup_timeout_s: float = 2.0
    patience_s: float = 0.0
    checks: Executor = field(default_factory=_one_thread)
    _turns: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)
    _given: OrderedDict[tuple[str, str], int] = field(default_factory=OrderedDict)

    async def record_grade(
        self,
        answer_id: str,
        *,
        team_id: str,
        grader: str,
        score: float,
        source: GradeSource = "feedback",
        comment: str | None = None,
        verifier: Mapping[str, Any] | None = None,
    ) -> GradeRecord:
        """Queue a grade of the answer with the request, decision or answer id `answer_id`.

        While the database cannot be asked the grade is taken unseen: an export counts it only if
        the answer exists and is the team's.

        Raises:
            InvalidRequest: The score is not in [0, 1], or the comment is too long.
            NotFound: The team has no such answer.
            RateLimited: It has more grades than it needs.
        """
        if not 0.0 <= score <= 1.0:
            raise InvalidRequest("score must be a number from 0 to 1", param="score")
        if comment is not None and len(comment) > MAX_COMMENT_CHARS:
            raise InvalidRequest(
                f"comment may have {MAX_COMMENT_CHARS} characters", param="comment"
            )
        answer, may_grade = await self._find(answer_id, team_id)
        if not may_grade:
            raise _no_answer(answer_id)
        self._refuse_more(team_id, answer_id)
        self._add_to_count(team_id, answer_id)
        grade = GradeRecord(
            grade_id=secrets.token_hex(16),
            answer_id=answer_id,
            team_id=team_id,
            grader=grader,
            source=source,
            score=score,
            comment=comment,
            created_at_unix_s=self.clock(),
            verifier=verifier,
        )
        self.log.record_grade(grade)
        if answer is not None:
            self.count(answer, grade)
        return grade

    def _refuse_more(self, team_id: str, answer_id: str) -> None:
        if self._given.get((team_id, answer_id), 0) >= MOST_GRADES:
            raise RateLimited(f"an answer takes {MOST_GRADES} grades")

    def _add_to_count(self, team_id: str, answer_id: str) -> None:
        """Count a grade of an answer; the answer that was graded longest ago is forgotten."""
        self._given[team_id, answer_id] = self._given.pop((team_id, answer_id), 0) + 1
        if len(self._given) > COUNTED_ANSWERS:
            self._given.popitem(last=False)

    async def _check(self, team_id: str, function: Callable[[*Given], Made], *args: *Given) -> Made:
        """Run a verifier's work once it is the team's turn: no team waits for two of another."""
        turn = self._turns.setdefault(team_id, asyncio.Lock())
        async with turn:
            return await asyncio.get_running_loop().run_in_executor(self.checks, function, *args)

    async def verify_answer(
        self,
        answer_id: str,
        *,
        team_id: str,
        grader: str,
        verifier: Mapping[str, Any],
        comment: str | None = None,
    ) -> GradeRecord:
        """Check the kept answer, and queue what comes of it as a grade.

        Args:
            answer_id: Request, decision or answer id.
            team_id: The grader's team.
            grader: Who says what is right.
            verifier: A table as `router_models.verifiers.verifiers.parse_verifier` reads it.
            comment: On the answer.

        Raises:
            InvalidRequest: The table is no verifier, the answer's text was not kept, or it is
                beyond what the verifier can check.
            NotFound: The team has no such answer.
            RateLimited: It has more grades than it needs.
            DependencyUnavailable: The database has to be asked and is down.
        """
        if len(json.dumps(verifier)) > MAX_VERIFIER_CHARS:
            raise InvalidRequest(f"verifier: exceeds {MAX_VERIFIER_CHARS} characters of JSON")
        try:
            spec = await self._check(team_id, parse_verifier, verifier)
        except InvalidVerifier as error:
            raise InvalidRequest(f"verifier: {error}", param="verifier") from error
        answer, may_grade = await self._find(answer_id, team_id)
        if answer is None and may_grade:
            raise DependencyUnavailable("The answer cannot be looked up now. Try again soon.")
        if answer is None:
            raise _no_answer(answer_id)
        self._refuse_more(team_id, answer_id)
        if answer.text is None:
            raise InvalidRequest(NO_TEXT, param="verifier")
        try:
            score = await self._check(team_id, verify, spec, answer.text)
        except NotVerifiable as error:
            raise InvalidRequest(f"verifier: {error}", param="verifier") from error
        return await self.record_grade(
            answer_id,
            team_id=team_id,
            grader=grader,
            score=score,
            source="verifier",
            comment=comment,
            verifier=verifier,
        )

    async def _find(self, answer_id: str, team_id: str) -> tuple[KnownAnswer | None, bool]:
        """Return the answer where it can be looked up, and whether it may be graded."""
        recent = self.log.recent.find(answer_id)
        if recent is not None and recent.team_id == team_id:
            return recent, True
        try:
            stored = await self._look_up(answer_id, team_id)
            if stored is None and self.patience_s > 0:
                await asyncio.sleep(self.patience_s)
                stored = await self._look_up(answer_id, team_id)
        except (SQLAlchemyError, TimeoutError) as error:
            if is_row_fault(error):  # an id that no database can hold is the id of nothing
                return None, False
            logger.warning(
                "a grade is accepted without looking up its answer: %s", type(error).__name__
            )
            return None, True
        return stored, stored is not None

    async def _look_up(self, answer_id: str, team_id: str) -> KnownAnswer | None:
        async with asyncio.timeout(self.lookup_timeout_s):
            return await asyncio.to_thread(_stored_answer, self.engine, answer_id, team_id)


def _no_answer(answer_id: str) -> NotFound:
    return NotFound(
        f"this team has no answer {answer_id!r}; send the id of an answer or of its request",
        param="id",
    )


def _stored_answer(engine: Engine, answer_id: str, team_id: str) -> KnownAnswer | None:
    query = (
        select(TURNS.c.served_model, TURNS.c.router_version, TURNS.c.candidates, TURNS.c.answer)
        .where(or_(*(column == answer_id for column in ANSWER_IDS)))
        .where(TURNS.c.team_id == team_id)
        .limit(1)
    )
    with engine.connect() as connection:
        found = connection.execute(query).first()
    if found is None:
        return None
    served, router_version, candidates, text = found
    qualities = [each["quality"] for each in candidates if each["model"] == served]
    quality = next(iter(qualities), None)
    return KnownAnswer(team_id, served or "", router_version, quality, text)
