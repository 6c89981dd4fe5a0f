"""The latest graded answers: what is believed of models before any router was trained."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

import numpy as np
from sqlalchemy import Connection, Engine, RowMapping, Select, or_, select

from gateway.evaluation_log.grades import ANSWER_IDS
from gateway.evaluation_log.judged_answers import corrected, measure_judges, read_judged
from gateway.evaluation_log.log_export import ASKED, grade_of
from migrations.tables import GRADES, TURNS
from router_models.encoders.request_shape import encoder_ids, text_part
from router_models.types import Float32

MOST_GRADES: Final = 5_000
"""Of the latest; so the work has a bound, and what is older is forgotten."""

LOUD_SHARE: Final = 0.25
"""Of these; a team with more is passed over when the others are read once more, so that nobody can
push out what others say."""

ROUNDS: Final = 4

MOST_OF_A_TEAM: Final = 200
"""Answers of one model: what one team says of a model counts for no more, however much it says."""

IDS_AT_ONCE: Final = 300


class GradedAnswer(NamedTuple):
    """One answer and how good it was.

    Attributes:
        embedding: Of the text of the query.
        weight: How many grades this one counts for, from 0 to 1.
        tokens: That the model wrote; None where nobody counted them.
    """

    model: str
    embedding: Float32
    score: float
    weight: float
    tokens: int | None


@dataclass(frozen=True, slots=True)
class GradedAnswers:
    """Reads from the newest grade backwards, so that ungraded turns cost nothing.

    Attributes:
        encoder_id: Answers to queries that another encoder embedded are left out.
    """

    engine: Engine
    encoder_id: str

    def newest(self) -> tuple[datetime, str] | None:
        """Say when the newest grade was given, and its id; None where there is none."""
        with self.engine.connect() as connection:
            found = _newest(connection, 1)
        return (found[0]["created_at"], found[0]["id"]) if found else None

    def read(self) -> list[GradedAnswer]:
        """Return the latest graded answers, in order of time; equal logs give equal answers."""
        judges = measure_judges(read_judged(self.engine, MOST_GRADES))
        with self.engine.connect() as connection:
            by_answer: dict[str, list[Mapping[Any, Any]]] = defaultdict(list)
            for grade in _latest(connection):
                by_answer[grade["answer_id"]].append(corrected(grade, judges))
            turns: dict[str, RowMapping] = {}
            names = list(by_answer)
            for start in range(0, len(names), IDS_AT_ONCE):
                ids = names[start : start + IDS_AT_ONCE]
                found = connection.execute(_turns(ids, self.encoder_id)).mappings()
                turns |= {turn["request_id"]: turn for turn in found}
        latest_first = sorted(turns.values(), key=_age, reverse=True)
        return list(_counted(latest_first, by_answer))[::-1]


def _newest(
    connection: Connection, most: int, without: Collection[str] = ()
) -> Sequence[RowMapping]:
    """Return the newest grades, newest first, of all teams but some.

    Checks and signals grade nearly every turn and say little, so they do not count here. Each
    source is read by itself, since an index has the grades of a source in order of time.
    """
    found: list[RowMapping] = []
    for source in ASKED:
        query = select(GRADES).where(GRADES.c.source == source, GRADES.c.team_id.not_in(without))
        newest = query.order_by(GRADES.c.created_at.desc(), GRADES.c.id.desc()).limit(most)
        found += connection.execute(newest).mappings()
    return sorted(found, key=_given, reverse=True)[:most]


def _given(grade: RowMapping) -> tuple[datetime, str]:
    return grade["created_at"], grade["id"]


def _latest(connection: Connection) -> list[RowMapping]:
    """Return the latest grades, oldest first; those of teams that grade less reach further back."""
    found: dict[str, RowMapping] = {}
    loud: set[str] = set()
    for _ in range(ROUNDS):
        grades = _newest(connection, MOST_GRADES, loud)
        found |= {grade["id"]: grade for grade in grades}
        counts = Counter(grade["team_id"] for grade in grades)
        louder = {team for team, count in counts.items() if count > LOUD_SHARE * MOST_GRADES}
        if len(grades) < MOST_GRADES or not louder:
            break
        loud |= louder
    return sorted(found.values(), key=_given)


def _age(turn: Mapping[Any, Any]) -> tuple[datetime, str]:
    return turn["started_at"], turn["request_id"]


def _turns(ids: Sequence[str], encoder_id: str) -> Select[Any]:
    columns = ("team_id", "started_at", "served_model", "encoder_id", "query_embedding")
    return select(
        *ANSWER_IDS, *(TURNS.c[name] for name in columns), TURNS.c.completion_tokens
    ).where(
        or_(*(column.in_(ids) for column in ANSWER_IDS)),
        TURNS.c.encoder_id.in_(encoder_ids(encoder_id)),
        TURNS.c.served_model.is_not(None),
        TURNS.c.query_embedding.is_not(None),
    )


def _counted(
    turns: Sequence[RowMapping], by_answer: Mapping[str, Sequence[Mapping[Any, Any]]]
) -> Iterator[GradedAnswer]:
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for turn in turns:
        grade = grade_of(turn, by_answer)
        said = turn["team_id"], turn["served_model"]
        if grade is None or counts[said] >= MOST_OF_A_TEAM:
            continue
        counts[said] += 1
        raw = text_part(str(turn["encoder_id"]), turn["query_embedding"])[1]
        yield GradedAnswer(
            turn["served_model"],
            np.frombuffer(raw, "<f4"),
            grade.score,
            grade.weight,
            turn["completion_tokens"],
        )
