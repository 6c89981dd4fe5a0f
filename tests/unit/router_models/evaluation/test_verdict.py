from dataclasses import replace

import numpy as np
import pytest

from router_models.evaluation.comparison import Difference, Saving
from router_models.evaluation.frontier import Interval
from router_models.evaluation.report import Report
from router_models.evaluation.verdict import verdict
from tests.fakes.evaluations import made_up
from tests.fakes.reports import report

WHOLE = report()
CLEAR, UNCLEAR = Interval(0.019, 0.004, 0.032), Interval(0.001, -0.01, 0.02)
NEVER = Saving(Interval(-np.inf, -np.inf, -np.inf), 0.0)


def worse(interval: Interval) -> Interval:
    return Interval(-interval.value, -interval.high, -interval.low)


def model(quality: Interval, saving: Saving = NEVER, saving_at_99: Saving = NEVER) -> Difference:
    return Difference("best single", quality, saving, saving_at_99, None)


def router(mean_quality: Interval) -> Difference:
    return Difference("TF-IDF + ridge", UNCLEAR, NEVER, NEVER, mean_quality)


def said(*differences: Difference, whole: Report = WHOLE) -> list[str]:
    assert whole.frontier is not None
    found = replace(whole.frontier, differences={"knows": differences})
    return list(verdict(replace(whole, frontier=found), "knows"))


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (
            model(CLEAR),
            "Better than the best single model (dear) at its price: +1.9 points [0.4, 3",
        ),
        (model(worse(CLEAR)), "Worse than the best single model (dear) at its price: -1.9 points"),
        (model(UNCLEAR), "no difference in quality is clear: +0.1 points [-1.0, 2.0]"),
        (router(CLEAR), "Better than TF-IDF + ridge: +1.9 points [0.4, 3.2] at equal cost"),
        (router(worse(CLEAR)), "Worse than TF-IDF + ridge: -1.9 points [-3.2, -0.4]"),
        (router(UNCLEAR), "Against TF-IDF + ridge the difference is not clear: +0.1 points"),
    ],
)
def test_better_and_worse_are_said_only_of_intervals_without_0(difference, words):
    assert words in said(difference)[0]


SAVES = Saving(Interval(0.31, 0.22, 0.4), 1.0)
COSTS = Saving(Interval(-0.31, -0.4, -0.22), 1.0)
MAYBE = Saving(Interval(0.31, -np.inf, 0.4), 0.8)


@pytest.mark.parametrize(
    ("saving", "almost", "words"),
    [
        (SAVES, SAVES, "At equal quality it saves 31 % [22, 40] of the cost."),
        (COSTS, COSTS, "At equal quality it costs 31 % [22, 40] more."),
        (MAYBE, SAVES, "At 99 % of its quality it saves 31 % [22, 40] of the cost."),
        (MAYBE, MAYBE, "No saving at equal quality is clear: that quality is reached in 80 %"),
        (NEVER, NEVER, "No saving at equal quality is clear: that quality is reached in 0 %"),
    ],
)
def test_a_saving_is_said_only_where_its_interval_is_above_0(saving, almost, words):
    assert words in said(model(UNCLEAR, saving, almost))[0]


def test_says_how_much_of_the_oracles_gain_is_kept():
    assert any("of the draws" not in line and "keeps 1" in line for line in said())


@pytest.mark.parametrize(
    ("over_means", "words"),
    [
        (worse(CLEAR), "It predicts quality better than each model's mean: squared error -0.0190"),
        (CLEAR, "It predicts quality worse than each model's mean: squared error +0.0190"),
        (UNCLEAR, "is not clear: squared error +0.0010 [-0.0100, 0.0200]"),
    ],
)
def test_says_how_good_the_predictions_are(over_means, words):
    found = {"knows": replace(WHOLE.predictions["knows"], over_means=over_means)}
    assert words in said(whole=replace(WHOLE, predictions=found))[-2]


def test_says_how_far_predictions_are_from_answers_on_average():
    assert said()[-1].startswith("Predicted and actual quality differ by 0.000 on average (ECE)")


def test_says_nothing_of_the_cost_of_answers_that_were_free():
    truth = made_up(300)
    assert list(verdict(report(replace(truth, cost_usd=0 * truth.cost_usd)), "knows"))[-1] == (
        "Predicted and actual quality differ by 0.000 on average (ECE)."
    )


def test_warns_of_few_queries():
    lines = list(verdict(report(made_up(60)), "knows"))
    assert lines[0] == "With only 60 queries the intervals are narrower than they should be."


def test_there_is_no_verdict_on_a_handful_of_queries():
    (only,) = verdict(report(made_up(10)), "knows")
    assert only == "A verdict needs at least 20 queries; these are 10."


def test_a_rounding_error_is_no_difference():
    tiny = Interval(1e-16, 1e-16, 1e-16)
    assert "no difference in quality is clear" in said(model(tiny))[0]
    assert "the difference is not clear" in said(router(worse(tiny)))[0]


def test_does_not_name_a_best_single_model_that_is_not_clearly_best():
    assert WHOLE.frontier is not None
    best = replace(WHOLE.frontier.best_single, is_best=0.6, rivals=("coder",))
    whole = replace(WHOLE, frontier=replace(WHOLE.frontier, best_single=best))
    assert said(whole=whole)[0] == (
        "Which single model is best is not clear: dear is best in 60 % of the draws; "
        "not clearly worse: coder."
    )


def test_says_in_money_whether_one_model_is_enough():
    worth = [each for each in verdict(report(), "knows") if "USD per 1,000 turns" in each]
    assert len(worth) == 1
    assert worth[0].endswith("to callers who pay 0.02 USD per unit of quality.")


def test_without_draws_there_is_no_verdict():
    (only,) = verdict(report(draws=0), "knows")
    assert only == "Without draws there are no intervals, and without intervals no verdict."


def test_without_complete_rows_names_the_command_that_needs_none():
    first, second, third, _ = verdict(report(made_up(200, share_answered=0.0)), "knows")
    assert "`waypost frontier`" in first
    assert second.startswith("It predicts quality better than each model's mean")
    assert third.startswith("It predicts quality better than guesses")
