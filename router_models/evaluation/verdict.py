"""A report in sentences: nothing is called better or worse unless its interval says so."""

from collections.abc import Iterator
from math import isfinite, isnan

from router_models.evaluation.comparison import Difference, Saving, is_above, is_below
from router_models.evaluation.frontier import Interval
from router_models.evaluation.predictions import Accuracy
from router_models.evaluation.report import BestSingle, FrontierReport, Report

ENOUGH_QUERIES, LEAST_QUERIES = 100, 20
"""Below the first, bootstrap intervals are too narrow; below the second, they are of no use."""


def verdict(report: Report, router: str) -> Iterator[str]:
    """Yield what can be said of one of the report's routers, a sentence or two each."""
    if isnan(report.predictions[router].over_means.low):
        yield "Without draws there are no intervals, and without intervals no verdict."
        return
    queries = report.queries if report.frontier is None else report.frontier.queries
    if queries < LEAST_QUERIES:
        yield f"A verdict needs at least {LEAST_QUERIES} queries; these are {queries}."
        return
    if queries < ENOUGH_QUERIES:
        yield f"With only {queries} queries the intervals are narrower than they should be."
    if report.frontier is None:
        yield (
            "The models did not answer the same queries, so nothing can be said here about what "
            "choosing by this router would give. If the answers are those of a gateway that "
            "explored (routing.exploration), `waypost frontier` estimates it from the log, where "
            "the probability of each choice is recorded."
        )
    else:
        yield from _frontier(report.frontier, router)
    found = report.predictions[router]
    yield _prediction(found.over_means, "each model's mean")
    if report.frontier is None:
        yield from (_prediction(error, name) for name, error in found.over.items())
    yield _calibration(found.overall)


def _frontier(found: FrontierReport, router: str) -> Iterator[str]:
    yield from _rivals(found.best_single)
    for difference in found.differences[router]:
        if difference.mean_quality is None:
            yield _over_model(difference, found.best_single.model)
        else:
            yield _over_router(difference.reference, difference.mean_quality)
    yield str(found.fixed_choice[router])
    naiq = found.frontiers[router].naiq
    yield (
        "Of what an oracle would gain over the best random mix of single models, it keeps "
        f"{100 * naiq.value:.0f} %{bounds(naiq, 100)}."
    )


def _rivals(best: BestSingle) -> Iterator[str]:
    if best.rivals:
        yield (
            f"Which single model is best is not clear: {best.model} is best in "
            f"{100 * best.is_best:.0f} % of the draws; not clearly worse: {', '.join(best.rivals)}."
        )


def _over_model(difference: Difference, model: str) -> str:
    name, gain = f"the best single model ({model})", difference.quality
    points = points_of(gain)
    if is_above(gain):
        said = f"Better than {name} at its price: {points}."
    elif is_below(gain):
        said = f"Worse than {name} at its price: {points}."
    else:
        said = f"At the price of {name} no difference in quality is clear: {points}."
    return f"{said} {_saving(difference)}"


def _saving(difference: Difference) -> str:
    full, almost = difference.saving, difference.saving_at_99
    if is_above(full.share):
        return f"At equal quality it saves {percent(full)} of the cost."
    if is_below(full.share) and full.reached > 0.975:
        return f"At equal quality it costs {percent(full, -1)} more."
    if is_above(almost.share):
        return f"At 99 % of its quality it saves {percent(almost)} of the cost."
    return (
        "No saving at equal quality is clear: that quality is reached in "
        f"{100 * full.reached:.0f} % of the draws."
    )


def _over_router(name: str, gain: Interval) -> str:
    points = f"{points_of(gain)} at equal cost, on average over all costs"
    if is_above(gain):
        return f"Better than {name}: {points}."
    if is_below(gain):
        return f"Worse than {name}: {points}."
    return f"Against {name} the difference is not clear: {points}."


def _prediction(error: Interval, name: str) -> str:
    figures = f"squared error {error.value:+.4f}{bounds(error, 1, 4)}"
    if is_below(error):
        return f"It predicts quality better than {name}: {figures}."
    if is_above(error):
        return f"It predicts quality worse than {name}: {figures}."
    return f"Whether it predicts quality better than {name} is not clear: {figures}."


def _calibration(overall: Accuracy) -> str:
    said = (
        f"Predicted and actual quality differ by {overall.calibration_error:.3f} on average (ECE)"
    )
    if isnan(overall.cost_ratio):
        return f"{said}."
    return f"{said}; predicted cost is {100 * overall.cost_ratio:.0f} % of the actual."


def points_of(difference: Interval) -> str:
    """Render a difference of quality in hundredths."""
    return f"{100 * difference.value:+.1f} points{bounds(difference, 100, 1)}"


def percent(saving: Saving, sign: int = 1) -> str:
    """Render a share of a cost."""
    share = saving.share
    if not isfinite(share.value):
        return f"not reached{bounds(share, 100)}"
    if sign < 0:
        share = Interval(-share.value, -share.high, -share.low)
    return f"{100 * share.value:.0f} %{bounds(share, 100)}"


def bounds(figure: Interval, scale: float, digits: int = 0) -> str:
    """Render the ends of an interval, "-" for one that is infinite; nothing without draws."""
    if isnan(figure.low):
        return ""
    low, high = (
        f"{scale * end:.{digits}f}" if isfinite(end) else "-" for end in (figure.low, figure.high)
    )
    return f" [{low}, {high}]"
