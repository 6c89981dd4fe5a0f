from dataclasses import replace
from datetime import UTC, datetime
from typing import cast

import numpy as np
import pytest

from router_models.artifacts.artifact import dump, load
from router_models.artifacts.registry import ModelRegistry
from router_models.artifacts.router import Router
from router_models.estimators.guard import Guard, GuardedEstimator
from router_models.estimators.kmeans import KMeansEstimator
from router_models.evaluation.acceptance import (
    AcceptanceCriteria,
    decide,
    find_invalid_predictions,
    gather_evidence,
)
from router_models.evaluation.held_out import HeldOut
from router_models.evaluation.off_policy import LoggedChoices
from router_models.training.kmeans import fit_kmeans
from router_models.training.settings import KMeansSettings
from router_models.types import Estimator, Evaluations
from tests.fakes.artifacts import EncoderIdentity, guarded_kmeans
from tests.fakes.evaluations import DIMENSION, MODELS, made_up

ENCODER = EncoderIdentity(dimension=DIMENSION)
PRICES = np.geomspace(1.0, 100.0, 5)
BAR = AcceptanceCriteria()


def packed(estimator: KMeansEstimator | GuardedEstimator, registry=None) -> Router:
    now = datetime(2026, 11, 3, tzinfo=UTC)
    data = dump(estimator, ENCODER, created_at=now, training={}, provenance={}, registry=registry)
    return load(data, ENCODER)


def fitted(rows: Evaluations) -> Router:
    return packed(fit_kmeans(rows, KMeansSettings(n_clusters=8), 0))


def shuffled(rows: Evaluations) -> Evaluations:
    """The same answers to other queries."""
    order = np.random.default_rng(0).permutation(len(rows.quality))
    return replace(rows, quality=rows.quality[order], cost_usd=rows.cost_usd[order])


def kmeans_of(router: Router) -> KMeansEstimator:
    assert isinstance(router.estimator, KMeansEstimator)
    return router.estimator


def knowing(models: tuple[str, ...]) -> Router:
    """The good router as if it had never heard of other models."""
    columns = np.array([MODELS.index(model) for model in models])
    good = kmeans_of(GOOD)
    return packed(good.with_statistics(models, good.statistics.select_models(columns)))


TRAIN = made_up(800, seed=1)
GOOD, BAD = fitted(TRAIN), fitted(shuffled(TRAIN))
NOBODY = np.empty(0, np.intp)


def draws(n_rows: int, seed: int = 5) -> LoggedChoices:
    truth = made_up(n_rows, seed=seed)
    answered = np.random.default_rng([seed, 1]).integers(0, 4, n_rows)
    at = np.arange(n_rows), answered
    odds = np.full((n_rows, 4), 0.25, np.float32)
    return LoggedChoices(
        truth.embeddings,
        answered,
        truth.quality[at],
        truth.cost_usd[at],
        odds,
        MODELS,
        np.arange(n_rows),
    )


def held_out(answers: Evaluations, choices: LoggedChoices | None = None) -> HeldOut:
    return HeldOut(answers, choices or draws(0), TRAIN, PRICES)


SHARED_QUERIES = held_out(made_up(300, seed=2))
DRAWN = held_out(made_up(10, seed=2), draws(1500))
SINGLE_ANSWERS = held_out(made_up(600, seed=2, share_answered=0.0))
HARDLY_ANY = held_out(made_up(20, seed=2))

ENOUGH = pytest.mark.parametrize(
    ("rows", "kind"),
    [(SHARED_QUERIES, "routing"), (DRAWN, "off_policy"), (SINGLE_ANSWERS, "prediction")],
)


def decided(new: Router, active: Router | None, rows: HeldOut, criteria: AcceptanceCriteria = BAR):
    return decide({"shared": new}, active, rows, criteria, np.random.default_rng(0))


@ENOUGH
def test_the_most_direct_evidence_there_is_enough_of_comes_first(rows, kind):
    assert next(gather_evidence({"active": GOOD}, rows, BAR)).kind == kind


@ENOUGH
def test_a_better_router_may_serve(rows, kind):
    decision = decided(GOOD, BAD, rows)
    assert decision.is_accepted
    assert decision.figures["difference"] > 0.05
    assert f"against {BAD.version}" in decision.reason
    assert kind.replace("_", " ") in decision.reason


@ENOUGH
def test_a_worse_router_may_not(rows, kind):
    decision = decided(BAD, GOOD, rows)
    assert not decision.is_accepted
    assert decision.figures["odds_of_loss"] > 0.9
    assert "may lose more than 0.02" in decision.reason


@ENOUGH
def test_the_same_router_again_may_serve(rows, kind):
    decision = decided(GOOD, GOOD, rows)
    assert (decision.is_accepted, decision.figures["difference"]) == (True, 0.0)


@ENOUGH
def test_the_best_of_several_is_chosen(rows, kind):
    contenders = {"shared": BAD, "personal": GOOD}
    decision = decide(contenders, BAD, rows, BAR, np.random.default_rng(0))
    assert (decision.best, decision.is_accepted) == ("personal", True)
    assert decision.figures["merit_personal"] > decision.figures["merit_shared"]


@ENOUGH
def test_the_same_rows_and_seed_decide_the_same(rows, kind):
    assert decided(BAD, GOOD, rows) == decided(BAD, GOOD, rows)


def test_a_tolerance_lets_a_router_lose_so_much():
    loss = -decided(BAD, GOOD, SHARED_QUERIES).figures["difference"]
    assert decided(BAD, GOOD, SHARED_QUERIES, replace(BAR, tolerance=2 * loss)).is_accepted
    assert not decided(BAD, GOOD, SHARED_QUERIES, replace(BAR, tolerance=loss / 2)).is_accepted


def test_does_not_trust_a_difference_that_may_be_chance():
    few = replace(SHARED_QUERIES, answers=made_up(15, seed=4))
    decision = decided(GOOD, fitted(made_up(800, seed=9)), few, replace(BAR, least_queries=10))
    assert abs(decision.figures["difference"]) < 0.1
    assert not decision.is_accepted


DOUBTFUL = replace(SINGLE_ANSWERS, choices=draws(120))
LOW_BAR = replace(BAR, least_effective_rows=10.0)


def test_evidence_in_doubt_leaves_the_word_to_the_next():
    first = next(gather_evidence({"active": BAD, "shared": GOOD}, DOUBTFUL, LOW_BAR))
    sharp = decided(GOOD, BAD, DOUBTFUL, replace(LOW_BAR, risk=0.0))
    assert first.kind == "off_policy"
    assert sharp.is_accepted
    assert "measured by prediction" in sharp.reason


def test_evidence_that_sees_a_loss_does_not_ask_for_another():
    decision = decided(BAD, GOOD, DOUBTFUL, LOW_BAR)
    assert not decision.is_accepted
    assert "measured by off policy" in decision.reason


def test_too_few_rows_leave_the_active_router_in_place():
    decision = decided(GOOD, BAD, HARDLY_ANY)
    assert not decision.is_accepted
    assert "80 held-out answers are too few" in decision.reason


@pytest.mark.parametrize("rows", [SHARED_QUERIES, HARDLY_ANY])
def test_where_none_serves_there_is_nothing_to_lose(rows):
    decision = decided(BAD, None, rows)
    assert decision.is_accepted
    assert "no other router" in decision.reason


@pytest.mark.parametrize(
    ("router", "knows"),
    [(knowing(("dear",)), "dear"), (packed(guarded_kmeans(("x", "y"), DIMENSION)), "none")],
)
def test_where_none_serves_a_router_without_a_choice_may_not_either(router, knows):
    decision = decided(router, None, HARDLY_ANY)

    assert not decision.is_accepted
    assert decision.reason == f"of the 4 models of these answers it knows {knows}"


def test_off_policy_evidence_says_what_it_rests_on():
    figures = decided(GOOD, BAD, DRAWN).figures
    assert figures["rows"] == 1500
    assert 300 < figures["effective_rows"] < 450  # each router matches about one draw in four
    assert figures["snips_shared"] == pytest.approx(figures["merit_shared"], abs=0.05)


def with_dear_closed(n_rows: int, share: float) -> HeldOut:
    """Give the dearest model no chance in a share of the draws, which others answered."""
    choices, dear = draws(n_rows), MODELS.index("dear")
    is_closed = (np.arange(n_rows) % 100 < 100 * share) & (choices.answered != dear)
    odds = choices.propensity.copy()
    odds[is_closed] = 1 / 3
    odds[is_closed, dear] = 0.0
    found = replace(choices, propensity=odds, could_answer=np.ones(odds.shape, bool))
    return HeldOut(made_up(10, seed=2), draws(0), TRAIN, PRICES, found)


def test_draws_count_though_a_model_had_no_chance_in_some():
    decision = decided(GOOD, BAD, with_dear_closed(1500, 0.05))
    assert decision.is_accepted
    assert decision.figures["rows"] == 1500
    assert 0.0 < decision.figures["unseen_share"] < 0.05
    assert "what one would choose had no chance" in decision.reason
    assert not decided(BAD, GOOD, with_dear_closed(1500, 0.05)).is_accepted


def test_what_had_no_chance_may_be_worth_anything():
    little, much = (decided(GOOD, BAD, with_dear_closed(1500, share)) for share in (0.05, 0.9))
    for decision, share in ((little, 0.05), (much, 0.9)):
        assert -share <= decision.figures["unseen_below"] < 0.0
        assert 0.0 < decision.figures["unseen_above"] <= share
    widths = [d.figures["difference_high"] - d.figures["difference_low"] for d in (little, much)]
    assert widths[1] > widths[0] + 0.1


def test_a_model_that_was_hardly_ever_drawn_leaves_the_difference_in_doubt():
    # One answer in 50 should be of it and none is, so the answers alone seem to agree.
    choices, dear = draws(3000), MODELS.index("dear")
    answered = np.where(choices.answered == dear, 0, choices.answered)
    odds = np.full((3000, 4), 0.98 / 3, np.float32)
    odds[:, dear] = 0.02
    unlucky = replace(choices, answered=answered, propensity=odds)
    log = held_out(made_up(10, seed=2), unlucky)
    bar = replace(BAR, least_effective_rows=50.0)
    routers = {"active": GOOD, "shared": knowing(("dear",))}
    evidence = next(gather_evidence(routers, log, bar))
    drawn = (evidence.scores["shared"] - evidence.scores["active"]).std() / np.sqrt(3000)
    figures = decided(routers["shared"], GOOD, log, bar).figures
    assert evidence.kind == "off_policy"
    assert figures["difference_high"] - figures["difference_low"] > 10 * drawn


def test_a_query_asked_over_and_over_proves_no_more_than_one():
    often = replace(DRAWN, choices=DRAWN.choices.select(np.repeat(np.arange(1500), 4)))
    once, again = (decided(GOOD, BAD, rows).figures for rows in (DRAWN, often))
    assert (again["rows"], again["queries"]) == (6000, 1500)
    widths = [figures["difference_high"] - figures["difference_low"] for figures in (once, again)]
    assert widths[1] == pytest.approx(widths[0], rel=0.05)


def test_drawn_answers_that_hardly_match_are_no_evidence():
    certain = np.full((1500, 4), 1e-4, np.float32)
    certain[:, 0] = 1.0 - 3e-4
    choices = replace(draws(1500), answered=np.zeros(1500, np.intp), propensity=certain)
    rows = held_out(made_up(10, seed=2), choices)
    dear = knowing(("dear", "coder"))
    assert list(gather_evidence({"active": GOOD, "shared": dear}, rows, BAR)) == []


def test_does_not_forget_a_model_on_the_word_of_predictions_alone():
    decision = decided(knowing(("cheap", "coder", "writer")), BAD, SINGLE_ANSWERS)
    assert not decision.is_accepted
    assert decision.reason == f"it does not know the models dear, which {BAD.version} routes to"


@ENOUGH
def test_reads_models_by_their_aliases(rows, kind):
    good = kmeans_of(GOOD)
    renamed = good.with_statistics(("org/cheap", *MODELS[1:]), good.statistics)
    aliased = packed(renamed, ModelRegistry({"org/cheap": ["cheap"]}))
    assert decided(aliased, GOOD, rows).figures["difference"] == pytest.approx(0.0, abs=1e-6)


def test_a_guess_needs_no_train_rows():
    nothing = Evaluations(TRAIN.embeddings[:0], TRAIN.quality[:0], TRAIN.cost_usd[:0], MODELS)
    decision = decided(GOOD, BAD, replace(DRAWN, prior=nothing))
    assert decision.is_accepted


def with_means(quality: float, cost: float) -> Router:
    guarded = guarded_kmeans(MODELS, DIMENSION)
    means = np.full(4, quality, np.float32), np.full(4, cost, np.float32)
    known = guarded.guard
    guard = Guard(known.scaler, known.centroids, known.reach, 0.0, 0.01, *means)
    return packed(GuardedEstimator(guarded.estimator, guard))


@pytest.mark.parametrize(
    ("router", "problem"),
    [
        (GOOD, None),
        (with_means(0.5, 0.1), None),
        (with_means(1.5, 0.1), "it predicts qualities outside 0 to 1"),
        (with_means(-0.5, 0.1), "it predicts qualities outside 0 to 1"),
    ],
)
def test_finds_predictions_that_no_router_makes(router, problem):
    assert find_invalid_predictions(router, TRAIN.embeddings) == problem


class Broken:
    """An estimator that came through every check and predicts `figure` all the same."""

    kind, models, dimension = "kmeans", MODELS, DIMENSION

    def __init__(self, quality: float, cost: float):
        self.figures = quality, cost

    def predict(self, embeddings):
        shape = (len(embeddings), len(MODELS))
        quality, cost = (np.full(shape, figure, np.float32) for figure in self.figures)
        return type(GOOD.estimator.predict(embeddings[:1]))(quality, cost)


@pytest.mark.parametrize(
    ("quality", "cost", "problem"),
    [
        (np.nan, 0.1, "it predicts figures that are not finite"),
        (0.5, np.inf, "it predicts figures that are not finite"),
        (0.5, -0.1, "it predicts costs below 0"),
    ],
)
def test_finds_predictions_of_a_broken_estimator(quality, cost, problem):
    broken = Router(GOOD.manifest, cast("Estimator", Broken(quality, cost)), None)
    assert find_invalid_predictions(broken, TRAIN.embeddings) == problem
