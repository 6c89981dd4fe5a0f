"""Which of a file's metrics is the grade, and what it says between 0 and 1."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.imports.records import Answer, InvalidImport, Verdict, shown

FAILED_JUDGE: Final = -1
"""What many judges write where they could not judge; FastChat's does."""


@dataclass(frozen=True, slots=True)
class Scale:
    """The grades of the worst and the best answer; the worst is the higher one where errors count.

    Attributes:
        is_given: Somebody said so.
    """

    worst: float = 0.0
    best: float = 1.0
    is_given: bool = False


def parse_scale(text: str) -> Scale:
    """Read ``1:10``.

    Raises:
        InvalidImport: It is no two different finite numbers.
    """
    try:
        worst, best = map(float, text.split(":"))
    except ValueError:
        worst = best = math.nan
    if not (math.isfinite(worst) and math.isfinite(best)) or worst == best:
        raise InvalidImport(f"--scale {text}: must be WORST:BEST, two numbers, such as 1:10")
    return Scale(worst, best, is_given=True)


def choose(answers: Iterable[Answer], wanted: Sequence[str]) -> dict[str, str]:
    """Say for each task which metric is its grade.

    A metric is wanted by its name or by a part of it: `strict-match` names
    ``exact_match,strict-match``.

    Args:
        answers: Of all files.
        wanted: What ``--metric`` named; empty where every task has one metric.

    Raises:
        InvalidImport: A task has several, or none of those wanted; the message lists them.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for answer in answers:
        found[answer.task].update(answer.grades)
    named = {metric for metrics in found.values() for metric in metrics}
    unknown = [one for one in wanted if not any(_is_named(metric, one) for metric in named)]
    if unknown:
        raise InvalidImport(f"--metric {unknown[0]}: no task has it\n{_listed(found)}")
    chosen = {
        task: [m for m in metrics if not wanted or any(_is_named(m, one) for one in wanted)]
        for task, metrics in found.items()
    }
    open_tasks = {task: found[task] for task, metrics in chosen.items() if len(metrics) != 1}
    if open_tasks:
        raise InvalidImport(
            "which metric is the grade? Say it with --metric, once for each of these tasks\n"
            + _listed(open_tasks)
        )
    return {task: metrics[0] for task, metrics in chosen.items()}


def refuse_mixtures(answers: Iterable[Answer], metrics: Mapping[str, str]) -> None:
    """Complain where a metric is a verdict in one answer and a number in another.

    Raises:
        InvalidImport: It is, so that nobody knows what the scale is of.
    """
    known: dict[str, bool] = {}
    for answer in answers:
        value = answer.grades.get(metrics[answer.task])
        is_verdict = isinstance(value, bool | Verdict)
        if not is_verdict and (not isinstance(value, int | float) or _is_failed(value)):
            continue
        if known.setdefault(answer.task, is_verdict) != is_verdict:
            raise InvalidImport(
                f"{answer.place}: metric {metrics[answer.task]!r} is a verdict (true, false or a "
                "letter) in some answers and a number in others; import them apart"
            )


def _is_failed(value: float) -> bool:
    return math.isnan(value) or value == FAILED_JUDGE


def _is_named(metric: str, wanted: str) -> bool:
    return wanted in (metric, *metric.split(","))


def _listed(found: Mapping[str, set[str]]) -> str:
    return "\n".join(f"  {task}: {' | '.join(sorted(m))}" for task, m in sorted(found.items()))


def score_of(answer: Answer, metric: str, scale: Scale) -> float | None:
    """Return the grade between 0 and 1; None where there is none, or a judge failed.

    Raises:
        InvalidImport: The grade is no number, not within the scale, or counts errors.
    """
    value = answer.grades.get(metric)
    if value is None:
        return None
    if isinstance(value, bool | Verdict):
        return float(value)
    if not isinstance(value, int | float):
        raise InvalidImport(
            f"{answer.place}: metric {metric!r} must be a number, not {shown(value)}; "
            "choose another with --metric"
        )
    low, high = sorted((scale.worst, scale.best))
    if math.isnan(value) or (_is_failed(value) and low > FAILED_JUDGE):
        return None
    if metric in answer.lower_is_better and scale.worst < scale.best:
        raise InvalidImport(
            f"{answer.place}: of {metric!r} less is better; say what the worst and the best answer "
            "get, such as --scale 1:0"
        )
    if not low <= value <= high:
        remedy = "correct it" if scale.is_given else "say the range with --scale, such as 1:10"
        raise InvalidImport(
            f"{answer.place}: metric {metric!r} is {value}, not within {low:g} to "
            f"{high:g}; {remedy}"
        )
    return (value - scale.worst) / (scale.best - scale.worst)
