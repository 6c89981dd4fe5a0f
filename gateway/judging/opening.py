"""Makes the grader that the settings of judges and second answers ask for."""

import random
from collections.abc import Callable, Mapping, Sequence

from gateway.budgets.definitions import BudgetDefinition
from gateway.judging.background import (
    JUDGE,
    SHADOW,
    BackgroundCalls,
    BackgroundCounts,
    Completes,
    RowLog,
    cap_of,
)
from gateway.judging.grader import JudgeGrader
from gateway.judging.judge import Judge, JudgeLog
from gateway.judging.shadow import Predicts, Shadow
from gateway.settings.base import ConfigurationError
from gateway.settings.grading import GradingSettings
from gateway.types import HostedModel


def caps_of(settings: GradingSettings) -> Sequence[BudgetDefinition]:
    """Return what judges and second answers may cost; nothing where both are off."""
    if not settings.judge.models:
        return ()
    return (
        cap_of(JUDGE, settings.judge.cap_usd_per_day),
        cap_of(SHADOW, settings.shadow.cap_usd_per_day),
    )


def judge_graders(
    settings: GradingSettings,
    *,
    serving: Callable[[RowLog], Completes],
    log: RowLog,
    routing: Predicts,
    models: Mapping[str, HostedModel],
    counts: BackgroundCounts,
    rng: random.Random,
) -> Sequence[JudgeGrader]:
    """Make the grader; none where no model judges.

    Raises:
        ConfigurationError: A judge is no model of the pool.
    """
    if not settings.judge.models:
        return ()
    for name in settings.judge.models:
        if name not in models:
            known = ", ".join(models)
            raise ConfigurationError(f"grading.judge.models: no model {name!r}; known: {known}")
    judge = Judge(
        BackgroundCalls(serving, JUDGE, counts),
        JudgeLog(log.record),
        models,
        settings.judge,
        counts,
    )
    share = settings.shadow.share
    shadow = None
    if share:
        calls = BackgroundCalls(serving, SHADOW, counts)
        shadow = Shadow(calls, log, routing, models, settings.shadow, rng)
    return (JudgeGrader(judge, settings.judge.share, shadow, share, counts, rng),)
