"""An evaluation log with something to learn in it, as a gateway would have written it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Engine

from gateway.candidate_records import CandidateRecord
from gateway.evaluation_log.evaluation_log import EvaluationLog
from gateway.evaluation_log.grades import GradeRecord
from gateway.settings.config import EvaluationLogSettings
from gateway.types import TurnRecord, Usage
from router_models.types import Evaluations
from tests.fakes.turns import START_UNIX_S, make_turn

SETTINGS = EvaluationLogSettings(retention_days=None, queue_rows=100_000)


def records(
    truth: Evaluations,
    *,
    answers: int = 1,
    names: Mapping[str, str] | None = None,
    prefix: str = "",
    team_id: str = "default",
    seed: int = 0,
) -> Iterator[TurnRecord | GradeRecord]:
    """Let `answers` models, drawn evenly, answer each query; grade every answer.

    `names` are what this gateway calls models.
    """
    rng = np.random.default_rng(seed)
    called = [(names or {}).get(model, model) for model in truth.models]
    odds = 1.0 / len(called)
    candidates = tuple(
        CandidateRecord(name, 0.5, 0.001, 0.45, odds, is_eligible=True, verdict="ok")
        for name in called
    )
    for query, embedding in enumerate(truth.embeddings):
        for model in rng.permutation(len(called))[:answers]:
            at = f"{prefix}{query}_{model}"
            yield make_turn(
                request_id=f"req_{at}",
                decision_id=f"dec_{at}",
                answer_id=f"chatcmpl-{at}",
                started_at_unix_s=START_UNIX_S + query,
                team_id=team_id,
                chosen_model=called[model],
                served_model=called[model],
                query_embedding=embedding,
                candidates=candidates,
                propensity=odds,
                cost_nusd=round(float(truth.cost_usd[query, model]) * 1e9),
                **_usage(truth, query, model),
            )
            yield GradeRecord(
                grade_id=f"grade_{at}",
                answer_id=f"req_{at}",
                team_id=team_id,
                grader="check",
                source="verifier",
                score=float(truth.quality[query, model]),
                comment=None,
                created_at_unix_s=START_UNIX_S + query,
            )


def _usage(truth: Evaluations, query: int, model: int) -> dict[str, Any]:
    """Say what an answer used, where it is known."""
    if truth.tokens is None:
        return {}
    prompt, completion = truth.tokens.prompt[query, model], truth.tokens.completion[query, model]
    return {"usage": Usage(int(prompt), int(completion))}


async def fill(engine: Engine, folder: Path, rows: Iterator[TurnRecord | GradeRecord]) -> None:
    """Write rows the way a gateway does."""
    log = EvaluationLog(engine, SETTINGS, folder / "spool")
    for row in rows:
        log.record_grade(row) if isinstance(row, GradeRecord) else log.record(row)
    log.start()
    await log.aclose()
