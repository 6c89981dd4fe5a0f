"""Reads the evaluation log back as what `waypost train` learns from: one row per graded answer."""

import csv
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import orjson
from sqlalchemy import Engine, RowMapping, Select, and_, exists, or_, select

from budget.ledger.amounts import NUSD_PER_USD
from gateway.evaluation_log.grades import ANSWER_IDS, GradeSource
from gateway.evaluation_log.judged_answers import (
    Qualities,
    corrected,
    measure_judges,
    read_judged,
)
from migrations.tables import GRADES, TURNS
from router_models.encoders.request_shape import encoder_ids, text_part
from router_models.types import Float32

BATCH_ROWS = 1000
TRUST: Final[Sequence[tuple[GradeSource, ...]]] = (
    ("verifier",),
    ("feedback",),
    ("judge",),
    ("signal", "check"),
)
"""Sources of grades, the most reliable first; of an answer's grades only the best ones count."""
ASKED: Final = tuple(source for sources in TRUST[:-1] for source in sources)
UNASKED: Final = TRUST[-1]
"""Sources that grade nearly every turn, and see only how an answer looks or was taken."""
UNASKED_WEIGHT: Final = 0.01
"""Of a row that has no other grades, whatever was found. A failed check is surer of itself than a
passed one; by that weight a model's mean would be that of its failures. At 0.01 such rows took .003
of utility from a router at most where that was measured, at 1 up to .06 (see
`docs/decisions/learning.md`)."""
READ = tuple(c for c in TURNS.columns if c.name not in {"messages", "answer"})
"""Whole prompts and answers are long, and nobody's but the reasoner's (`reasoning_prompts`)."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows to read.

    Attributes:
        since: Started at or after this time.
        until: Started before this time.
        team_ids: Only these teams'; None means all.
        encoder_id: Only rows with this encoder's embeddings, of texts or of whole requests.
        is_whole: Ungraded, failed and unembedded turns too.
        with_checks: Turns too that have no other grades than those of `UNASKED` sources.
    """

    since: datetime | None = None
    until: datetime | None = None
    team_ids: Sequence[str] | None = None
    encoder_id: str | None = None
    is_whole: bool = False
    with_checks: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationRow:
    """One (query, model, quality, cost) row; the fields are the exported columns.

    Attributes:
        query_id: Hash of the embedding and its encoder: equal queries have equal ids. The same
            text with other tools is another query.
        query_embedding: float32 of the encoder's dimension.
        text: The query itself, only where the team opted in.
        task: What the caller put in ``metadata.task``.
        model: What answered.
        chosen_model: What `propensity` is of; differs from `model` after a fallback.
        score: Mean of the graders' latest grades from the most reliable source, by weight; 0 to 1.
        score_weight: How much that says of this answer, 0 to 1.
        split: train (70 %), val (10 %) or test (20 %), by the text's part of the embedding.
    """

    query_id: str
    query_embedding: Float32 | None
    encoder_id: str | None
    text: str | None
    task: str | None
    model: str | None
    score: float | None
    score_source: str | None
    score_weight: float | None
    cost_usd: float | None
    prompt_tokens: int | None
    completion_tokens: int | None
    chosen_model: str | None
    propensity: float
    route_reason: str
    router_version: str | None
    candidates: str
    request_id: str
    split: str
    created_at: datetime


class CountedGrade(NamedTuple):
    """What the grades of an answer come to.

    Attributes:
        source: Of the heaviest grade that counts.
        weight: Of that grade; `UNASKED_WEIGHT` where nobody was asked.
    """

    score: float
    source: str
    weight: float


COLUMNS = tuple(column.name for column in fields(EvaluationRow))


@dataclass(slots=True, eq=False)
class DatabaseRows:
    """The evaluation log as rows to learn from; judges are measured once, when rows are first read.

    Attributes:
        judges: How far their scores can be trusted; None until then.
    """

    engine: Engine
    judges: Qualities | None = field(default=None, init=False)

    def iter_evaluations(
        self, selection: Selection | None = None, batch_rows: int = BATCH_ROWS
    ) -> Iterator[list[EvaluationRow]]:
        """Yield the rows in order of time, a batch at a time.

        Each batch is a query of its own that goes on where the last one ended, so that a long
        export neither fills the memory nor holds a transaction open. Scores of judges are corrected
        by what trusted graders say of the answers that they graded too.
        """
        query = _query(selection or Selection()).limit(batch_rows)
        if self.judges is None:
            self.judges = measure_judges(read_judged(self.engine))
        judges = self.judges
        after: RowMapping | None = None
        while True:
            with self.engine.connect() as connection:
                page = query if after is None else query.where(_follows(after))
                turns = connection.execute(page).mappings().all()
                if not turns:
                    return
                ids = {turn[column.key] for turn in turns for column in ANSWER_IDS}
                grades = connection.execute(
                    select(GRADES)
                    .where(GRADES.c.answer_id.in_(ids - {None}))
                    .order_by(GRADES.c.created_at)
                ).mappings()
                by_answer: dict[str, list[Mapping[Any, Any]]] = defaultdict(list)
                for grade in grades:
                    by_answer[grade["answer_id"]].append(corrected(grade, judges))
            yield [_evaluation(turn, by_answer) for turn in turns]
            after = turns[-1]

    def iter_latest(self, rows: int, selection: Selection) -> Iterator[list[EvaluationRow]]:
        """Yield the latest `rows` of the selection, oldest first, and those of the same moment."""
        times = _query(selection).with_only_columns(TURNS.c.started_at).order_by(None)
        nth = times.order_by(TURNS.c.started_at.desc()).offset(rows - 1).limit(1)
        with self.engine.connect() as connection:
            since = connection.execute(nth).scalar()
        yield from self.iter_evaluations(replace(selection, since=since or selection.since))


def write_csv(batches: Iterable[Sequence[EvaluationRow]], file: Path) -> int:
    """Write rows as CSV, embeddings as JSON lists; returns how many."""
    written = 0
    with file.open("w", encoding="utf-8", newline="") as output:
        writer = csv.writer(output)
        writer.writerow(COLUMNS)
        for batch in batches:
            writer.writerows([_cell(getattr(row, name)) for name in COLUMNS] for row in batch)
            written += len(batch)
    return written


def split_of(query_id: str) -> str:
    """Put a query into train (70 %), val (10 %) or test (20 %), for good."""
    share = int(hashlib.sha256(query_id.encode()).hexdigest()[:8], 16) / 2**32
    if share < 0.7:
        return "train"
    return "val" if share < 0.8 else "test"


def _query(selection: Selection) -> Select[Any]:
    query = select(*READ).order_by(TURNS.c.started_at, TURNS.c.request_id)
    if selection.since is not None:
        query = query.where(TURNS.c.started_at >= selection.since)
    if selection.until is not None:
        query = query.where(TURNS.c.started_at < selection.until)
    if selection.team_ids is not None:
        query = query.where(TURNS.c.team_id.in_(selection.team_ids))
    if selection.encoder_id is not None:
        query = query.where(TURNS.c.encoder_id.in_(encoder_ids(selection.encoder_id)))
    if selection.is_whole:
        return query
    is_graded = exists().where(
        GRADES.c.answer_id.in_(ANSWER_IDS), GRADES.c.team_id == TURNS.c.team_id
    )
    if not selection.with_checks:
        is_graded = is_graded.where(GRADES.c.source.not_in(UNASKED))
    return query.where(
        TURNS.c.served_model.is_not(None),
        TURNS.c.query_embedding.is_not(None),
        TURNS.c.cost_nusd.is_not(None),
        is_graded,
    )


def _follows(last: Mapping[Any, Any]) -> Any:
    return or_(
        TURNS.c.started_at > last["started_at"],
        and_(TURNS.c.started_at == last["started_at"], TURNS.c.request_id > last["request_id"]),
    )


def _evaluation(
    turn: Mapping[Any, Any], by_answer: Mapping[str, Sequence[Mapping[Any, Any]]]
) -> EvaluationRow:
    raw: bytes | None = turn["query_embedding"]
    encoder_id = str(turn["encoder_id"])
    if raw is None:
        query_id = of_text = _query_id("", turn["request_id"].encode())
    else:
        query_id, of_text = _query_id(encoder_id, raw), _query_id(*text_part(encoder_id, raw))
    score, source, weight = grade_of(turn, by_answer) or (None, None, None)
    cost_nusd = turn["cost_nusd"]
    return EvaluationRow(
        query_id=query_id,
        query_embedding=None if raw is None else np.frombuffer(raw, "<f4"),
        encoder_id=turn["encoder_id"],
        text=turn["query_text"],
        task=turn["metadata"].get("task"),
        model=turn["served_model"],
        score=score,
        score_source=source,
        score_weight=weight,
        cost_usd=None if cost_nusd is None else cost_nusd / NUSD_PER_USD,
        prompt_tokens=turn["prompt_tokens"],
        completion_tokens=turn["completion_tokens"],
        chosen_model=turn["chosen_model"],
        propensity=turn["propensity"],
        route_reason=turn["route_reason"],
        router_version=turn["router_version"],
        candidates=orjson.dumps(turn["candidates"]).decode(),
        request_id=turn["request_id"],
        split=split_of(of_text),
        created_at=turn["started_at"],
    )


def _query_id(encoder_id: str, embedding: bytes) -> str:
    return hashlib.sha256(encoder_id.encode() + embedding).hexdigest()[:24]


def grade_of(
    turn: Mapping[Any, Any], by_answer: Mapping[str, Sequence[Mapping[Any, Any]]]
) -> CountedGrade | None:
    """Average the latest grade of each grader, by weight, of the most reliable sources there are.

    Args:
        turn: A row of the log.
        by_answer: Grades by the id that they name, oldest first.
    """
    grades = [
        grade
        for column in ANSWER_IDS
        for grade in by_answer.get(turn[column.key] or "", ())
        if grade["team_id"] == turn["team_id"]
    ]
    for sources in TRUST:
        latest = {
            (grade["source"], grade["grader"]): grade
            for grade in grades
            if grade["source"] in sources
        }
        total = sum(grade["weight"] for grade in latest.values())
        if total > 0:
            score = sum(grade["score"] * grade["weight"] for grade in latest.values()) / total
            heaviest = max(latest.values(), key=itemgetter("weight"))
            weight = UNASKED_WEIGHT if sources == UNASKED else heaviest["weight"]
            return CountedGrade(score, heaviest["source"], weight)
    return None


def _cell(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    return value.isoformat() if isinstance(value, datetime) else value
