"""Private prompts from the log: answers a verifier graded, of teams that opted in."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from sqlalchemy import Engine, select, true, union_all

from gateway.evaluation_log.grades import ANSWER_IDS
from migrations.tables import GRADES, TEAMS, TURNS

MOST_GRADES: Final = 50_000


def private_prompts(
    engine: Engine, team_ids: Sequence[str] | None = None, most: int = MOST_GRADES
) -> list[tuple[str, Mapping[str, Any]]]:
    """Read the distinct prompts whose answers were verified.

    A prompt that was verified several times has its latest verifier. Answers and scores are not
    read: whoever learns makes answers of its own.

    Args:
        engine: The database of the log.
        team_ids: Only these teams'; None means all that opted in. One that did not, or took it
            back, is never read.
        most: So many of the latest grades are read.

    Returns:
        Tables with `query_id`, `messages`, `verifier` and `task`, the latest first, each with the
        words that tell where it stands: what `gateway.problems.calibration.read_json_lines` reads
        of a file.
    """
    is_chosen = true() if team_ids is None else TURNS.c.team_id.in_(team_ids)
    graded = union_all(
        *(
            select(TURNS.c.request_id, GRADES.c.verifier, GRADES.c.created_at, GRADES.c.id)
            .join(GRADES, (GRADES.c.answer_id == column) & (GRADES.c.team_id == TURNS.c.team_id))
            .join(TEAMS, TEAMS.c.id == TURNS.c.team_id)
            .where(TEAMS.c.trains_reasoner, TURNS.c.messages.is_not(None))
            .where(GRADES.c.source == "verifier", GRADES.c.verifier.is_not(None))
            .where(is_chosen)
            for column in ANSWER_IDS
        )
    ).subquery()
    latest = (
        select(TURNS.c.request_id, TURNS.c.messages, TURNS.c.metadata, graded.c.verifier)
        .join(graded, graded.c.request_id == TURNS.c.request_id)
        .order_by(graded.c.created_at.desc(), graded.c.id)
        .limit(most)
    )
    prompts: dict[str, tuple[str, Mapping[str, Any]]] = {}
    with engine.connect() as connection:
        for request_id, messages, labels, verifier in connection.execute(latest):
            query_id = hashlib.sha256(orjson.dumps(messages)).hexdigest()[:24]
            table = {
                "query_id": query_id,
                "messages": messages,
                "verifier": verifier,
                "task": labels.get("task", ""),
            }
            prompts.setdefault(query_id, (f"turn {request_id}", table))
    return list(prompts.values())
