"""Asks models prompts whose answers can be verified, and so learns what each is good at."""

import asyncio
import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from router_models.verifiers.verifiers import (
    InvalidVerifier,
    NotVerifiable,
    VerifierSpec,
    parse_verifier,
    verify,
)

Z_95 = 1.96
MOST_IN_VAIN = 5
"""Prompts in a row without an answer after which a model is asked nothing further."""


class CalibrationError(Exception):
    """Calibration cannot go on; the message says what to correct."""


class AnswerFailed(Exception):
    """One prompt got no answer; the others go on, and a later run asks it again."""


class ModelUnusable(Exception):
    """No prompt will get an answer of this model; the other models go on."""


class CapReached(Exception):
    """A further answer of this model might cost more than is left."""


@dataclass(frozen=True, slots=True)
class CalibrationPrompt:
    """A query with the means to check its answer."""

    query_id: str
    text: str
    task: str
    verifier: VerifierSpec


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """What a model answered and what that took.

    Attributes:
        answer_id: By which it can be graded; None where it has none.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    latency_s: float
    answer_id: str | None = None


@dataclass(frozen=True, slots=True)
class CalibrationRow:
    """One evaluation, in the long form that ``waypost train`` reads."""

    query_id: str
    text: str
    task: str
    model: str
    score: float
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    latency_s: float
    split: str
    answer: str


class Asker(Protocol):
    """Puts one query to one model."""

    async def ask(self, model: str, text: str) -> GivenAnswer:
        """Return the answer.

        Raises:
            AnswerFailed: No answer to this prompt.
            ModelUnusable: Nor will there be to any other of this model.
            CapReached: It might cost more than is left.
            CalibrationError: Nobody will answer anything.
        """
        ...

    async def report(self, given: GivenAnswer, score: float) -> None:
        """Tell the gateway how good an answer was; never raises for one that is not taken."""
        ...


def parse_prompts(tables: Iterable[tuple[str, Mapping[str, Any]]]) -> list[CalibrationPrompt]:
    """Read prompts from tables, each with the words that tell a reader where it stands.

    Raises:
        CalibrationError: A field is missing or wrong, or two prompts share an id.
    """
    prompts: dict[str, CalibrationPrompt] = {}
    for where, table in tables:
        fields = [table.get(name) for name in ("query_id", "text")]
        if not all(isinstance(value, str) and value for value in fields):
            raise CalibrationError(f"{where}: `query_id` and `text` must be non-empty texts")
        query_id, text = map(str, fields)
        if query_id in prompts:
            raise CalibrationError(f"{where}: query_id {query_id!r} is there twice")
        try:
            spec = parse_verifier(_table(table.get("verifier")))
        except InvalidVerifier as error:
            raise CalibrationError(f"{where}: verifier: {error}") from error
        prompts[query_id] = CalibrationPrompt(query_id, text, str(table.get("task") or ""), spec)
    if not prompts:
        raise CalibrationError("the file holds no prompt")
    return list(prompts.values())


def read_json_lines(file: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """Read a JSON object per line, with ``file:line`` for each.

    Raises:
        CalibrationError: The file cannot be read, or a line is not an object.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{file}: cannot be read: {error}") from error
    tables = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            tables.append((f"{file}:{number}", _object(line, f"{file}:{number}")))
    return tables


@dataclass(slots=True)
class Progress:
    """How far a calibration is; rows are added as answers come.

    Attributes:
        total: Answers wanted at most; fewer where the next ones would tell little.
        failures: Prompts without an answer, each with the reason.
        gave_up: Why no further prompt is put to a model, by model.
        over_budget: Models of which a further answer might cost too much.
    """

    total: int
    rows: list[CalibrationRow] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    gave_up: dict[str, str] = field(default_factory=dict)
    over_budget: set[str] = field(default_factory=set)

    @property
    def done(self) -> int:
        """Prompts asked, answered or not."""
        return len(self.rows) + len(self.failures)


class Chooser(Protocol):
    """Says what a model is asked next."""

    def most(self) -> int:
        """Return how many answers are wanted at most."""
        ...

    def next(self, answers: Mapping[int, CalibrationRow], free: NDArray[np.bool_]) -> Sequence[int]:
        """Return places of the next prompts, none where the next ones would tell little.

        Args:
            answers: Given so far, by the place of the prompt.
            free: Which prompts have not been asked.
        """
        ...


@dataclass(slots=True, eq=False)
class Course:
    """What one model is asked, a batch after the other.

    Attributes:
        answers: Given so far, by the place of the prompt; those of earlier runs too.
    """

    model: str
    prompts: Sequence[CalibrationPrompt]
    chooser: Chooser
    answers: dict[int, CalibrationRow] = field(default_factory=dict)
    _free: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self._free = np.ones(len(self.prompts), bool)
        self._free[list(self.answers)] = False

    def left(self) -> int:
        """Return how many answers are wanted at most."""
        return max(min(self.chooser.most(), len(self.prompts)) - len(self.answers), 0)

    def next(self) -> list[int]:
        """Return places of the prompts to ask next; they count as asked from now on."""
        places = list(self.chooser.next(self.answers, self._free))[: self.left()]
        self._free[places] = False
        return places


async def calibrate(
    asker: Asker,
    courses: Sequence[Course],
    *,
    split_of: Callable[[str], str],
    concurrency: int = 4,
    on_progress: Callable[[Progress], None],
) -> Progress:
    """Put each model through its course and score the answers; what ails one stops no other.

    Raises:
        CalibrationError: The gateway refuses every call.
    """
    progress = Progress(sum(course.left() for course in courses))
    run = _Run(asker, split_of, on_progress, progress, asyncio.Semaphore(concurrency))
    try:
        async with asyncio.TaskGroup() as group:
            for course in courses:
                group.create_task(run.follow(course))
    except* CalibrationError as refusals:
        raise CalibrationError(str(_first(refusals))) from refusals
    return progress


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    asker: Asker
    split_of: Callable[[str], str]
    on_progress: Callable[[Progress], None]
    progress: Progress
    free: asyncio.Semaphore

    async def follow(self, course: Course) -> None:
        in_vain = 0
        while not self._has_ended(course.model):
            places = course.next()
            if not places:
                return
            # The first answer tells what a call really takes; until then one is asked at a time.
            head = [] if course.answers else places[:1]
            got = [await self._ask(course, place) for place in head]
            async with asyncio.TaskGroup() as batch:
                rest = [
                    batch.create_task(self._ask(course, place)) for place in places[len(head) :]
                ]
            got += [task.result() for task in rest]
            in_vain = 0 if any(got) else in_vain + len(places)
            if in_vain >= MOST_IN_VAIN and not self._has_ended(course.model):
                self.progress.gave_up[course.model] = self._last_failure(course.model)

    def _last_failure(self, model: str) -> str:
        failures = reversed(self.progress.failures)
        return next((one for one in failures if one.startswith(f"{model}, ")), "no answer")

    def _has_ended(self, model: str) -> bool:
        return model in self.progress.gave_up or model in self.progress.over_budget

    async def _ask(self, course: Course, place: int) -> bool:
        """Ask one prompt; return whether there is an answer with a score."""
        model, prompt, progress = course.model, course.prompts[place], self.progress
        row = None
        try:
            async with self.free:
                if self._has_ended(model):
                    return False
                given = await self.asker.ask(model, prompt.text)
                row = score(model, prompt, given, self.split_of(prompt.text))
                await self.asker.report(given, row.score)
        except CapReached:
            progress.over_budget.add(model)
        except ModelUnusable as error:
            progress.gave_up[model] = str(error)
        except (AnswerFailed, NotVerifiable) as error:
            progress.failures.append(f"{model}, {prompt.query_id}: {error}")
            self.on_progress(progress)
        if row is None:
            return False
        course.answers[place] = row
        progress.rows.append(row)
        self.on_progress(progress)
        return True


def _first(errors: BaseExceptionGroup[Any]) -> BaseException:
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def score(model: str, prompt: CalibrationPrompt, given: GivenAnswer, split: str) -> CalibrationRow:
    """Verify an answer and put everything known about it into a row.

    Raises:
        NotVerifiable: The answer is beyond what the verifier can check.
    """
    return CalibrationRow(
        query_id=prompt.query_id,
        text=prompt.text,
        task=prompt.task,
        model=model,
        score=verify(prompt.verifier, given.text),
        prompt_tokens=given.prompt_tokens,
        completion_tokens=given.completion_tokens,
        cost_usd=given.cost_usd,
        latency_s=given.latency_s,
        split=split,
        answer=given.text,
    )


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """What one model showed.

    Attributes:
        interval: 95 % bounds of `quality` (Wilson's, exact enough for right or wrong).
    """

    model: str
    answers: int
    quality: float
    interval: tuple[float, float]
    cost_usd_per_1000: float
    median_latency_s: float


def summarise(rows: Sequence[CalibrationRow]) -> list[ModelSummary]:
    """Sum up each model, the best first."""
    by_model: dict[str, list[CalibrationRow]] = {}
    for row in rows:
        by_model.setdefault(row.model, []).append(row)
    summaries = [
        ModelSummary(
            model=model,
            answers=len(own),
            quality=statistics.fmean(row.score for row in own),
            interval=wilson_interval(sum(row.score for row in own), len(own)),
            cost_usd_per_1000=1000 * statistics.fmean(row.cost_usd for row in own),
            median_latency_s=statistics.median(row.latency_s for row in own),
        )
        for model, own in by_model.items()
    ]
    return sorted(summaries, key=lambda summary: -summary.quality)


def wilson_interval(successes: float, trials: int) -> tuple[float, float]:
    """Bound a proportion with 95 % confidence (Wilson 1927), inside [0, 1] even for few trials."""
    share, z2 = successes / trials, Z_95**2
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    spread = share * (1 - share) / trials + z2 / (4 * trials**2)
    half = Z_95 / (1 + z2 / trials) * math.sqrt(max(spread, 0.0))
    return max(0.0, centre - half), min(1.0, centre + half)


def oracle_quality(rows: Sequence[CalibrationRow]) -> float | None:
    """Quality if each query went to its best model; None without a query that all answered."""
    models = {row.model for row in rows}
    by_query: dict[str, dict[str, float]] = {}
    for row in rows:
        by_query.setdefault(row.query_id, {})[row.model] = row.score
    best = [max(scores.values()) for scores in by_query.values() if len(scores) == len(models)]
    return statistics.fmean(best) if best else None


def _object(line: str, where: str) -> Mapping[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise CalibrationError(f"{where}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise CalibrationError(f"{where}: must be a JSON object")
    return value


def _table(value: Any) -> Any:
    """Parquet files carry the verifier as JSON text."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError as error:
            raise InvalidVerifier(f"not JSON: {error}") from error
    return value
