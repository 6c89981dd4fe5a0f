"""Has the answers of a service graded, by the judges too that the same service asks."""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from gateway.budgets.definitions import BudgetDefinition
from gateway.chat.service import ChatService
from gateway.evaluation_log.evaluation_log import EvaluationLog
from gateway.grading.opening import open_grading
from gateway.judging.background import (
    JUDGE,
    SHADOW,
    BackgroundCalls,
    BackgroundCounts,
    RowLog,
    cap_of,
)
from gateway.judging.grader import JudgeGrader
from gateway.judging.judge import Judge, JudgeLog
from gateway.judging.shadow import Shadow
from gateway.settings.base import ConfigurationError
from gateway.settings.grading import GradingSettings


def caps_of(settings: GradingSettings) -> Sequence[BudgetDefinition]:
    """Return what judges and second answers may cost; nothing where both are off."""
    if not settings.judge.models:
        return ()
    return (
        cap_of(JUDGE, settings.judge.cap_usd_per_day),
        cap_of(SHADOW, settings.shadow.cap_usd_per_day),
    )


@asynccontextmanager
async def open_graded(
    ungraded: ChatService, settings: GradingSettings, log: EvaluationLog
) -> AsyncIterator[ChatService]:
    """Return the service with graders that look at its answers, but not at those of judges.

    Raises:
        ConfigurationError: A judge is no model of the pool.
    """
    counts = BackgroundCounts()
    for family in counts.families:
        ungraded.metrics.registry.register(family)
    judges = judge_graders(ungraded, settings, log, counts, random.Random())  # noqa: S311
    async with open_grading(settings, log, judges) as grading:
        yield replace(ungraded, grading=grading)


def judge_graders(
    ungraded: ChatService,
    settings: GradingSettings,
    log: RowLog,
    counts: BackgroundCounts,
    rng: random.Random,
) -> Sequence[JudgeGrader]:
    """Make the grader; none where no model judges.

    Args:
        rng: Draws which answers are judged.

    Raises:
        ConfigurationError: A judge is no model of the pool.
    """
    routing, models = ungraded.routing, ungraded.routing.models
    for name in settings.judge.models:
        if name not in models:
            known = ", ".join(models)
            raise ConfigurationError(f"grading.judge.models: no model {name!r}; known: {known}")
    if not settings.judge.models:
        return ()

    def serving(row_log: RowLog) -> ChatService:
        return replace(ungraded, log=row_log, deadline_s=settings.judge.timeout_s)

    calls = BackgroundCalls(serving, JUDGE, counts)
    judge = Judge(calls, JudgeLog(log.record), models, settings.judge, counts)
    share = settings.shadow.share
    shadow = None
    if share:
        calls = BackgroundCalls(serving, SHADOW, counts)
        shadow = Shadow(calls, log, routing, models, settings.shadow, rng)
    return (JudgeGrader(judge, settings.judge.share, shadow, share, counts, rng),)
