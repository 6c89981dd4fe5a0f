from math import inf, nan

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from router_models.decide import KINDS, THOMPSON_DRAWS, Exploration, RouteDecision, decide
from router_models.errors import NoModelAvailable

OFF = Exploration()
POOL = ("small", "medium", "large")
QUALITY = (0.5, 0.7, 0.9)
COST = (0.001, 0.004, 0.02)

figures = st.floats(0.0, 1.0).map(lambda v: round(v, 3))
costs = st.floats(0.0, 0.1).map(lambda v: round(v, 5))
rows = st.lists(
    st.tuples(figures | st.none(), costs | st.none(), st.booleans(), st.floats(0.0, 0.3)),
    min_size=1,
    max_size=8,
)
willingness = st.floats(1e-6, 1e6)
explorations = st.builds(Exploration, st.sampled_from(KINDS), st.floats(0.001, 1.0))


def names_of(rows) -> tuple[str, ...]:
    return POOL if len(rows) == 3 else tuple(f"model-{i}" for i in range(len(rows)))


def choose(
    quality=QUALITY,
    cost=COST,
    eligible=None,
    *,
    w=0.02,
    exploration=OFF,
    seed=0,
    stderr=None,
    most_regret_usd=inf,
) -> RouteDecision:
    allowed = [True] * len(quality) if eligible is None else eligible
    return decide(
        names_of(quality),
        quality,
        cost,
        allowed,
        w,
        exploration=exploration,
        rng=np.random.default_rng(seed),
        quality_stderr=stderr,
        most_regret_usd=most_regret_usd,
    )


def choose_row(table, w, exploration, seed=0, most_regret_usd=inf) -> RouteDecision:
    quality, cost, eligible, stderr = zip(*table, strict=True)
    return choose(
        quality,
        cost,
        eligible,
        w=w,
        exploration=exploration,
        seed=seed,
        stderr=stderr,
        most_regret_usd=most_regret_usd,
    )


@pytest.mark.parametrize(
    ("w", "model"), [(0.001, "small"), (0.02, "medium"), (1.0, "large"), (inf, "large")]
)
def test_buys_more_quality_the_more_the_caller_would_pay(w, model):
    assert choose(w=w).model == model


def test_utility_is_quality_less_cost_over_willingness_to_pay():
    decision = choose(w=0.02)
    assert decision.utilities == pytest.approx([0.45, 0.5, -0.1])


def test_without_exploration_the_best_model_has_propensity_one():
    decision = choose()
    assert decision.propensities == [0.0, 1.0, 0.0]
    assert (decision.propensity, decision.is_explored, decision.reason) == (1.0, False, "router")


def test_names_the_other_eligible_models_by_falling_utility():
    assert choose(w=0.02).fallbacks == ("small", "large")
    assert choose(w=0.02, eligible=[False, True, True]).fallbacks == ("large",)


def test_a_tie_goes_to_the_lower_cost():
    decision = choose((0.75, 0.5, 0.75), (0.5, 0.25, 0.5), w=1.0)
    assert decision.model == "medium"


def test_a_tie_at_equal_cost_goes_to_the_first_name():
    decision = choose((0.5, 0.5, 0.5), (0.1, 0.1, 0.1))
    assert (decision.model, decision.fallbacks) == ("large", ("medium", "small"))


def test_passes_over_an_ineligible_model():
    decision = choose(eligible=[True, False, True])
    assert decision.model == "small"
    assert "medium" not in decision.fallbacks
    assert decision.propensities[1] == 0.0
    assert decision.utilities[1] == pytest.approx(0.5)


@pytest.mark.parametrize("unknown", [None, nan, inf])
def test_a_model_without_a_prediction_is_the_last_resort(unknown):
    decision = choose((0.1, unknown, 0.1), COST)
    assert (decision.model, decision.fallbacks) == ("small", ("large", "medium"))
    assert decision.utilities[1] is None
    assert choose(QUALITY, (unknown, 0.004, 0.02), [True, False, False]).model == "small"


def test_says_that_the_router_is_missing_where_nothing_is_predicted():
    decision = choose((None, None, None), (0.3, None, 0.2))
    assert (decision.model, decision.reason) == ("large", "router_missing")
    assert decision.fallbacks == ("small", "medium")


def test_no_eligible_model_is_an_error():
    with pytest.raises(NoModelAvailable, match="no model"):
        choose(eligible=[False, False, False])
    with pytest.raises(NoModelAvailable):
        decide((), (), (), (), 1.0, exploration=OFF, rng=np.random.default_rng(0))


@pytest.mark.parametrize("w", [0.0, -1.0, nan])
def test_willingness_to_pay_must_be_positive(w):
    with pytest.raises(ValueError, match="willingness to pay"):
        choose(w=w)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="differ in length"):
        choose(eligible=[True])


@pytest.mark.parametrize("epsilon", [0.0, -0.1, 1.1, nan])
def test_epsilon_must_be_a_probability(epsilon):
    with pytest.raises(ValueError, match="epsilon"):
        Exploration("epsilon", epsilon)


def test_an_unknown_kind_of_exploration_is_refused():
    with pytest.raises(ValueError, match="one of off, epsilon, thompson"):
        Exploration("greedy")  # type: ignore[arg-type]


def test_epsilon_shares_its_part_evenly_over_the_eligible_models():
    decision = choose(eligible=[True, True, False], exploration=Exploration("epsilon", 0.1))
    assert decision.propensities == pytest.approx([0.05, 0.95, 0.0])


def test_epsilon_tries_models_without_a_prediction():
    decision = choose((0.5, None, 0.5), exploration=Exploration("epsilon", 0.3))
    assert decision.propensities[1] == pytest.approx(0.1)


def test_a_lone_eligible_model_is_not_explored():
    decision = choose(eligible=[False, False, True], exploration=Exploration("epsilon", 1.0))
    assert (decision.model, decision.propensity, decision.reason) == ("large", 1.0, "router")


def test_an_explored_choice_says_so():
    exploration = Exploration("epsilon", 1.0)
    decisions = [choose(exploration=exploration, seed=seed) for seed in range(30)]
    assert {d.model for d in decisions if d.is_explored} == {"small", "large"}
    assert {d.reason for d in decisions if d.is_explored} == {"explored"}
    assert {d.model for d in decisions if not d.is_explored} == {"medium"}


def test_thompson_without_standard_errors_explores_as_epsilon_does():
    decision = choose(exploration=Exploration("thompson", 0.3))
    assert decision.propensities == pytest.approx([0.1, 0.8, 0.1])


def test_thompson_prefers_a_doubtful_model_to_a_surely_worse_one():
    exploration = Exploration("thompson")
    decision = choose((0.5, 0.6, 0.5), (0, 0, 0), exploration=exploration, stderr=(0.5, 0, 0))
    small, medium, large = decision.propensities
    # P(N(0.5, 0.5) > 0.6) = 0.42
    assert small == pytest.approx(0.42, abs=0.1)
    assert medium == pytest.approx(1 - small - large)
    assert large == pytest.approx(1 / 3 / (THOMPSON_DRAWS + 1))


def test_thompson_with_no_prediction_at_all_still_shares_one_draw():
    decision = choose((None,) * 3, COST, exploration=Exploration("thompson"), stderr=(None,) * 3)
    assert decision.propensities[0] == pytest.approx(1 - 2 / 3 / (THOMPSON_DRAWS + 1))


@pytest.mark.parametrize("kind", ["epsilon", "thompson"])
def test_models_are_chosen_as_often_as_their_propensity_says(kind):
    rng = np.random.default_rng(7)
    n = 3000
    expected, chosen = np.zeros(3), np.zeros(3)
    for _ in range(n):
        decision = decide(
            POOL,
            (0.5, 0.6, 0.55),
            (0.0, 0.0, 0.0),
            (True, True, True),
            1.0,
            exploration=Exploration(kind, 0.4),
            rng=rng,
            quality_stderr=(0.2, 0.1, 0.3),
        )
        expected += decision.propensities
        chosen[POOL.index(decision.model)] += 1
    # Four standard deviations of a binomial share.
    np.testing.assert_allclose(chosen / n, expected / n, atol=4 * 0.5 / n**0.5)


def test_inverse_propensity_estimates_are_unbiased_under_thompson():
    rng = np.random.default_rng(11)
    weights = []
    for _ in range(4000):
        decision = decide(
            POOL,
            (0.5, 0.9, 0.5),
            (0.0, 0.0, 0.0),
            (True, True, True),
            1.0,
            exploration=Exploration("thompson"),
            rng=rng,
            quality_stderr=(0.3, 0.1, 0.0),
        )
        weights.append((decision.model == "small") / decision.propensity)
    assert np.mean(weights) == pytest.approx(1.0, abs=4 * np.std(weights) / 4000**0.5)


def test_rounding_at_the_end_of_the_shares_goes_to_the_best_model():
    class PastTheEnd(np.random.Generator):
        def random(self, *_, **__):
            return 1.0 + 1e-9

    decision = decide(
        POOL,
        QUALITY,
        COST,
        (True,) * 3,
        0.02,
        exploration=Exploration("epsilon", 0.1),
        rng=PastTheEnd(np.random.PCG64(0)),
    )
    assert decision.model == "medium"


@settings(deadline=None)
@given(rows, willingness, explorations, st.integers(0, 99))
def test_propensities_sum_to_one_and_cover_the_choice(table, w, exploration, seed):
    table = [*table, (0.5, 0.01, True, 0.1)]
    decision = choose_row(table, w, exploration, seed)
    assert sum(decision.propensities) == pytest.approx(1.0)
    assert decision.propensity > 0
    names = names_of(table)
    propensity = dict(zip(names, decision.propensities, strict=True))
    assert propensity[decision.model] == decision.propensity
    eligible = {name for name, row in zip(names, table, strict=True) if row[2]}
    assert {decision.model, *decision.fallbacks} == eligible
    assert len(decision.fallbacks) == len(eligible) - 1
    assert all(propensity[name] == 0 for name in propensity.keys() - eligible)


@settings(deadline=None)
@given(rows, willingness, st.floats(1.1, 1e6))
def test_a_higher_willingness_to_pay_never_buys_less_quality(table, w, factor):
    known = [row for row in table if None not in row[:2]]
    table = [*known, (0.5, 0.01, True, 0.0)]
    poor, rich = choose_row(table, w, OFF), choose_row(table, w * factor, OFF)
    quality = dict(zip(names_of(table), (row[0] for row in table), strict=True))
    assert quality[rich.model] >= quality[poor.model] - 1e-9


@settings(deadline=None)
@given(rows, willingness)
def test_no_eligible_model_has_a_higher_utility_than_the_choice(table, w):
    table = [*table, (0.5, 0.01, True, 0.0)]
    decision = choose_row(table, w, OFF)
    utility = dict(zip(names_of(table), decision.utilities, strict=True))
    ranked = [utility[m] for m in (decision.model, *decision.fallbacks)]
    known = [u for u in ranked if u is not None]
    assert known == sorted(known, reverse=True)
    assert ranked[: len(known)] == known


@settings(deadline=None)
@given(rows, willingness, explorations, st.integers(0, 9))
def test_the_same_seed_gives_the_same_decision(table, w, exploration, seed):
    table = [*table, (0.5, 0.01, True, 0.1)]
    assert choose_row(table, w, exploration, seed) == choose_row(table, w, exploration, seed)


BY_DOUBT = Exploration("uncertainty")


def test_uncertainty_tries_the_model_that_is_less_certain_more_often():
    decision = choose((0.5, 0.6, 0.5), (0, 0, 0), exploration=BY_DOUBT, stderr=(0.3, 0.05, 0.1))
    small, medium, large = decision.propensities
    assert medium > small > large > 0.0


def test_uncertainty_without_a_doubt_takes_the_best_for_certain():
    decision = choose(exploration=BY_DOUBT, stderr=(0.0, 0.0, 0.0))
    assert decision.propensities == [0.0, 1.0, 0.0]


def test_equal_models_of_equal_doubt_are_tried_half_as_often_as_the_first_by_name():
    decision = choose((0.5,) * 3, (0.1,) * 3, exploration=BY_DOUBT, stderr=(0.1,) * 3)
    assert sorted(decision.propensities) == pytest.approx([0.25, 0.25, 0.5])


def test_a_model_nobody_predicts_is_not_tried_by_uncertainty():
    decision = choose((0.5, None, 0.4), exploration=BY_DOUBT, stderr=(0.3, None, 0.3))
    assert decision.propensities[1] == 0.0


@pytest.mark.parametrize("kind", ["epsilon", "thompson", "uncertainty"])
def test_no_model_is_tried_whose_regret_is_too_large(kind):
    how = {"exploration": Exploration(kind, 0.9), "stderr": (0.5,) * 3, "w": 0.1}
    cost = (0.0, 0.0, 0.0)  # so regret is 0.1 USD times the difference of qualities
    regrets = {
        choose(
            quality=(0.5, 0.7, 0.9), cost=cost, seed=seed, most_regret_usd=0.025, **how
        ).propensities[0]
        for seed in range(20)
    }
    assert regrets == {0.0}
    decision = choose((0.5, 0.7, 0.9), cost, most_regret_usd=0.025, **how)
    assert decision.propensities[1] > 0.0
    assert sum(decision.propensities) == pytest.approx(1.0)


def test_without_money_left_the_best_model_is_certain():
    decision = choose(exploration=BY_DOUBT, stderr=(0.5,) * 3, most_regret_usd=0.0)
    assert (decision.propensity, decision.regret_usd) == (1.0, 0.0)


def test_where_cost_does_not_count_only_equal_models_are_tried_under_a_cap():
    how = {"exploration": BY_DOUBT, "stderr": (0.5,) * 3, "w": inf, "most_regret_usd": 1.0}
    assert choose((0.5, 0.7, 0.9), **how).propensity == 1.0
    equal = [choose((0.5, 0.9, 0.9), seed=seed, **how) for seed in range(20)]
    assert {decision.model for decision in equal} == {"medium", "large"}
    assert {decision.regret_usd for decision in equal} == {0.0}


def test_a_regret_that_nobody_can_tell_is_not_taken_under_a_cap():
    how = {"exploration": Exploration("epsilon", 1.0)}
    decision = choose((0.5, None, 0.4), most_regret_usd=1e9, **how)
    assert decision.propensities[1] == 0.0
    assert choose((0.5, None, 0.4), **how).propensities[1] > 0.0


@given(rows, willingness, explorations, st.integers(0, 99), st.floats(0.0, 0.1))
def test_the_regret_of_a_choice_never_exceeds_what_is_allowed(table, w, exploration, seed, most):
    assume(any(eligible for _, _, eligible, _ in table))
    decision = choose_row(table, w, exploration, seed, most)
    assert 0.0 <= decision.regret_usd <= most * (1 + 1e-9)
    assert sum(decision.propensities) == pytest.approx(1.0)
    assert decision.propensity > 0.0
