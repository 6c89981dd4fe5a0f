"""A report on routers as text, for a terminal."""

from collections.abc import Iterator, Sequence
from typing import Final

from router_models.evaluation.comparison import Difference
from router_models.evaluation.frontier import Interval
from router_models.evaluation.operating_point import AtWillingness, TaskDifference
from router_models.evaluation.predictions import Accuracy
from router_models.evaluation.report import Frontier, FrontierReport, Report
from router_models.evaluation.verdict import bounds, percent, points_of, verdict

NAME_WIDTH: Final = 32
MOST_TASKS: Final = 20


def render(report: Report, routers: Sequence[str]) -> Iterator[str]:
    """Yield the lines of the report, the verdict on each router last."""
    if report.frontier is not None:
        yield from _frontiers(report.frontier)
        for router in routers:
            yield from _differences(router, report.frontier.differences[router])
        for router in routers:
            yield from _tasks(router, report.frontier.tasks[router])
        yield from _at_willingness(report.frontier.at_willingness)
    yield from _predictions(report, routers)
    for router in routers:
        yield from ("", f"verdict on {router}")
        yield from (f"- {sentence}" for sentence in verdict(report, router))


def _frontiers(found: FrontierReport) -> Iterator[str]:
    best = found.best_single
    yield f"best single model: {best.model}, quality {best.quality.value:.4f}{_ends(best.quality)}"
    heads = ["quality", "$/1,000", "AUC own", "saved", "at 99 %", "nAIQ", "AUC common"]
    yield _line("", heads)
    for name, frontier in found.frontiers.items():
        yield _line(name, _figures(frontier, is_point=len(frontier.cost_usd) == 1))


def _figures(frontier: Frontier, *, is_point: bool) -> list[str]:
    figures = frontier.figures
    cells = [f"{figures.quality_first:.4f}", f"{figures.cost_first_usd * 1000:.3f}"]
    if is_point:
        # One model alone has no frontier to sum up.
        return cells + ["-"] * 5
    return [
        *cells,
        f"{figures.own_range_auc:.4f}",
        f"{figures.saved:.0%}",
        f"{figures.saved_at_99:.0%}",
        f"{figures.naiq:.3f}",
        f"{figures.common_auc:.4f}{_ends(frontier.common_auc)}",
    ]


def _differences(router: str, differences: Sequence[Difference]) -> Iterator[str]:
    yield from ("", f"{router} against ..., paired by query")
    heads = ["quality at its cost", "saved at its quality", "saved at 99 %", "quality, all costs"]
    yield _line("", heads, 24)
    for each in differences:
        over_all = "-" if each.mean_quality is None else _points(each.mean_quality)
        cells = [_points(each.quality), percent(each.saving), percent(each.saving_at_99), over_all]
        yield _line(each.reference, cells, 24)
    yield "points of quality, shares of the cost; [-, ...]: the quality is not always reached"


def _points(difference: Interval) -> str:
    return points_of(difference).replace(" points", "")


def _tasks(router: str, tasks: Sequence[TaskDifference]) -> Iterator[str]:
    if len(tasks) < 2:
        return
    yield from ("", f"{router} by task, beside the best single model")
    heads = ["queries", "quality", "$/1,000", "single", "$/1,000", "difference, points"]
    yield _line("", heads)
    for task in tasks[:MOST_TASKS]:
        cells = [
            f"{task.queries}",
            f"{task.quality:.4f}",
            f"{task.cost_usd * 1000:.3f}",
            f"{task.single_quality:.4f}",
            f"{task.single_cost_usd * 1000:.3f}",
            _points(task.difference),
        ]
        yield _line(task.task or "(no label)", cells)
    if len(tasks) > MOST_TASKS:
        yield f"and {len(tasks) - MOST_TASKS} more tasks: see --json"


def _at_willingness(found: Sequence[AtWillingness]) -> Iterator[str]:
    if not found:
        return
    yield from ("", "at the willingness to pay that was asked for")
    yield _line("", ["quality", "$/1,000", "utility", "the router's utility over it"])
    for each in found:
        over = ", ".join(f"{gain.value:+.4f}{_ends(gain)}" for gain in each.under.values())
        cells = [f"{each.quality:.4f}", f"{each.cost_usd * 1000:.3f}", f"{each.utility:.4f}", over]
        yield _line(each.name, cells)


def _predictions(report: Report, routers: Sequence[str]) -> Iterator[str]:
    yield from ("", f"predictions of the quality of {report.answers:,} answers")
    yield _line("", ["squared error", "ECE", "cost ratio", "error over each model's mean"], 13)
    for name, found in report.predictions.items():
        over = f"{found.over_means.value:+.4f}{_ends(found.over_means)}"
        yield _line(name, [*_accuracy(found.overall), over], 13)
    for router in routers:
        yield from ("", f"{router} by model")
        yield _line("", ["answers", "squared error", "ECE", "cost ratio"], 13)
        for model, accuracy in report.predictions[router].models.items():
            yield _line(model, [f"{accuracy.answers:,}", *_accuracy(accuracy)], 13)


def _accuracy(accuracy: Accuracy) -> list[str]:
    return [
        f"{accuracy.squared_error:.4f}",
        f"{accuracy.calibration_error:.3f}",
        f"{accuracy.cost_ratio:.2f}",
    ]


def _ends(figure: Interval) -> str:
    return bounds(figure, 1, 3)


def _line(name: str, cells: Sequence[str], width: int = 8) -> str:
    *narrow, last = cells
    columns = " ".join(f"{cell:>{width}}" for cell in narrow)
    return f"{name[:NAME_WIDTH]:{NAME_WIDTH}} {columns}  {last}".rstrip()
