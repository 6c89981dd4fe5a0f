"""Answers that judges graded, beside what trusted graders say of the same ones.

So judges are measured on the log's own answers, their scores are corrected before routers learn
from them, and a judge that changes loses its weight (`router_models.evaluation.judges`).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Engine, RowMapping, and_, select

from gateway.evaluation_log.grades import ANSWER_IDS, GradeSource
from migrations.tables import GRADES, TURNS
from router_models.evaluation.judges import (
    PRIOR_WEIGHT,
    Estimate,
    JudgeQuality,
    estimate_mean,
    measure_judge,
)

TRUSTED: Final[Sequence[GradeSource]] = ("verifier", "feedback")
"""Sources that judges are held against, the better one first."""
MAX_READ: Final = 50_000
IDS_AT_ONCE: Final = 500
LEAST_WEIGHT: Final = 0.1
"""A judge that explains less of what trusted graders say is not learned from. Its grades would
count little each, and be so many that together they hide what people say."""

Prompted = tuple[str, str]
"""A judge and the version of its prompt: another prompt makes another judge."""
Qualities = Mapping[Prompted, JudgeQuality]


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """One answer that a judge graded; `trusted` is None where nobody else did."""

    judge: Prompted
    model: str
    score: float
    trusted: float | None


def read_judged(engine: Engine, most: int = MAX_READ) -> list[JudgedAnswer]:
    """Return the answers that were judged last, oldest first."""
    query = (
        select(
            GRADES.c.grader,
            GRADES.c.version,
            GRADES.c.score,
            TURNS.c.served_model,
            TURNS.c.team_id,
            *ANSWER_IDS,
        )
        .join(
            TURNS,
            and_(TURNS.c.request_id == GRADES.c.answer_id, TURNS.c.team_id == GRADES.c.team_id),
        )
        .where(GRADES.c.source == "judge")
        .order_by(GRADES.c.created_at.desc(), GRADES.c.id)
        .limit(most)
    )
    with engine.connect() as connection:
        judged = connection.execute(query).mappings().all()[::-1]
        trusted = _trusted(connection, judged)
    return [
        JudgedAnswer(
            (row["grader"], row["version"] or ""),
            row["served_model"] or "",
            row["score"],
            _best(trusted, row),
        )
        for row in judged
    ]


def measure_judges(answers: Iterable[JudgedAnswer]) -> Qualities:
    """Measure every judge that graded one of the answers, which come oldest first."""
    pairs: dict[Prompted, list[tuple[float, float]]] = defaultdict(list)
    for answer in answers:
        known = pairs[answer.judge]
        if answer.trusted is not None:
            known.append((answer.score, answer.trusted))
    return {
        judge: measure_judge([score for score, _ in known], [trusted for _, trusted in known])
        for judge, known in pairs.items()
    }


def model_means(
    answers: Sequence[JudgedAnswer], judge: Prompted
) -> dict[str, tuple[int, Estimate | None]]:
    """Estimate each model's mean quality over what `judge` graded, and count these answers."""
    by_model: dict[str, list[JudgedAnswer]] = defaultdict(list)
    for answer in answers:
        if answer.judge == judge:
            by_model[answer.model].append(answer)
    found = {}
    for model, given in sorted(by_model.items()):
        pairs = [(each.trusted, each.score) for each in given if each.trusted is not None]
        trusted, judged = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        alone = [each.score for each in given if each.trusted is None]
        found[model] = len(given), estimate_mean(trusted, judged, alone)
    return found


def corrected(grade: Mapping[Any, Any], qualities: Qualities) -> Mapping[Any, Any]:
    """Return a grade as it counts: a judge's by what it was found to be, others as they are.

    The weight that it was given with counts in full for a judge that nothing is known of, and not
    at all for one that was found to know nothing.
    """
    if grade["source"] != "judge":
        return grade
    quality = qualities.get((grade["grader"], grade["version"] or ""))
    if quality is None:
        return grade
    weight = min(grade["weight"] * quality.weight / PRIOR_WEIGHT, 1.0)
    if quality.weight < LEAST_WEIGHT:
        weight = 0.0
    return {**grade, "score": quality.correction(grade["score"]), "weight": weight}


def _trusted(
    connection: Connection, judged: Sequence[RowMapping]
) -> Mapping[tuple[str, str], Mapping[str, Sequence[float]]]:
    """Read the trusted grades of these answers, by team and id and then by source."""
    found: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    ids = sorted({answer_id for row in judged for answer_id in _ids(row)})
    for start in range(0, len(ids), IDS_AT_ONCE):
        query = select(GRADES.c.answer_id, GRADES.c.team_id, GRADES.c.source, GRADES.c.score).where(
            GRADES.c.answer_id.in_(ids[start : start + IDS_AT_ONCE]), GRADES.c.source.in_(TRUSTED)
        )
        for answer_id, team_id, source, score in connection.execute(query):
            found[team_id, answer_id][source].append(score)
    return found


def _best(
    trusted: Mapping[tuple[str, str], Mapping[str, Sequence[float]]], row: RowMapping
) -> float | None:
    """Average the grades of the better source that graded the answer."""
    for source in TRUSTED:
        scores = [
            score
            for answer_id in _ids(row)
            for score in trusted.get((row["team_id"], answer_id), {}).get(source, ())
        ]
        if scores:
            return sum(scores) / len(scores)
    return None


def _ids(row: RowMapping) -> Iterator[str]:
    return filter(None, (row["request_id"], row["decision_id"], row["answer_id"]))
