"""Asks models prompts whose answers can be verified, and so learns what each is good at."""

import asyncio
import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import httpx2

from router_models.verifiers.verifiers import (
    InvalidVerifier,
    NotVerifiable,
    VerifierSpec,
    parse_verifier,
    verify,
)

COST_HEADER = "x-waypost-cost-usd"
ATTEMPTS = 3
MAX_WAIT_S = 30.0
# Trying again helps with these: too fast, or not there for the moment.
PASSING_STATUSES = frozenset({429, 502, 503, 504})
# These would meet every further prompt as well.
FATAL_STATUSES = frozenset({401, 403, 404})
Z_95 = 1.96


class CalibrationError(Exception):
    """Calibration cannot go on; the message says what to correct."""


class AnswerFailed(Exception):
    """One prompt got no answer; the others go on, and a later run asks it again."""


@dataclass(frozen=True, slots=True)
class CalibrationPrompt:
    """A query with the means to check its answer."""

    query_id: str
    text: str
    task: str
    verifier: VerifierSpec


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """What a model answered and what that took."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    latency_s: float


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
            CalibrationError: Nor will there be to any other.
        """
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


@dataclass(frozen=True, slots=True)
class GatewayAsker:
    """Asks through a running gateway: the path callers use, with its tokens and its cost.

    Args:
        http: Has the gateway's ``/v1`` as base URL and sends the key.
        clock: Seconds, for latencies.
        sleep: Waits between attempts.
    """

    http: httpx2.AsyncClient
    clock: Callable[[], float]
    sleep: Callable[[float], Any] = asyncio.sleep

    async def ask(self, model: str, text: str) -> GivenAnswer:
        """Return the answer after up to three attempts."""
        body = {"model": model, "messages": [{"role": "user", "content": text}]}
        problem = ""
        for attempt in range(ATTEMPTS):
            started_at = self.clock()
            try:
                response = await self.http.post("chat/completions", json=body)
            except httpx2.TransportError as error:
                problem = f"{type(error).__name__}: {error}"
                await self.sleep(2.0**attempt)
                continue
            if response.is_success:
                return _given(response, self.clock() - started_at)
            problem = f"{response.status_code}: {_message(response)}"
            if response.status_code in FATAL_STATUSES:
                raise CalibrationError(f"{model}: the gateway refused the request: {problem}")
            if response.status_code not in PASSING_STATUSES:
                break
            await self.sleep(_wait_s(response, attempt))
        raise AnswerFailed(problem)


@dataclass(slots=True)
class Progress:
    """How far a calibration is; rows are added as answers come."""

    total: int
    rows: list[CalibrationRow] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    spent_usd: float = 0.0
    is_over_budget: bool = False

    @property
    def done(self) -> int:
        """Prompts asked, answered or not."""
        return len(self.rows) + len(self.failures)


async def calibrate(
    asker: Asker,
    pairs: Sequence[tuple[str, CalibrationPrompt]],
    *,
    split_of: Callable[[str], str],
    concurrency: int = 4,
    max_cost_usd: float | None = None,
    on_progress: Callable[[Progress], None],
) -> Progress:
    """Ask every (model, prompt) pair and score the answers.

    Past `max_cost_usd` nothing new is asked; the calls under way, at most `concurrency`, end.

    Raises:
        CalibrationError: The gateway refuses every call.
    """
    progress, waiting = Progress(len(pairs)), iter(pairs)

    async def work() -> None:
        for model, prompt in waiting:
            if max_cost_usd is not None and progress.spent_usd >= max_cost_usd:
                progress.is_over_budget = True
                return
            try:
                given = await asker.ask(model, prompt.text)
                progress.spent_usd += given.cost_usd
                progress.rows.append(score(model, prompt, given, split_of(prompt.text)))
            except (AnswerFailed, NotVerifiable) as error:
                progress.failures.append(f"{model}, {prompt.query_id}: {error}")
            on_progress(progress)

    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(concurrency):
                workers.create_task(work())
    except* CalibrationError as refusals:
        raise CalibrationError(str(refusals.exceptions[0])) from refusals
    return progress


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


def _given(response: httpx2.Response, latency_s: float) -> GivenAnswer:
    cost = response.headers.get(COST_HEADER)
    if cost is None:
        raise CalibrationError(
            f"{response.url} sends no {COST_HEADER} header: --url must be a Waypost gateway's /v1"
        )
    try:
        body = response.json()
        usage = body.get("usage") or {}
        return GivenAnswer(
            text=body["choices"][0]["message"]["content"] or "",
            prompt_tokens=int(usage.get("prompt_tokens", 0)),
            completion_tokens=int(usage.get("completion_tokens", 0)),
            cost_usd=float(cost),
            latency_s=latency_s,
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise AnswerFailed(f"not a chat completion: {response.text[:200]}") from error


def _message(response: httpx2.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200]


def _wait_s(response: httpx2.Response, attempt: int) -> float:
    asked = response.headers.get("retry-after", "")
    return min(float(asked) if asked.isdigit() else 2.0**attempt, MAX_WAIT_S)


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
