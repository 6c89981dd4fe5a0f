import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from gateway.candidate_records import CandidateRecord
from gateway.telemetry.expectations import ALL_TURNS, SOME_TURNS, Expectations
from gateway.types import TurnRecord
from tests.fakes.turns import make_turn


def candidate(model: str, quality: float | None, cost_usd: float | None, *, can: bool = True):
    return CandidateRecord(model, quality, cost_usd, None, 0.5, is_eligible=can, verdict="ok")


def routed(served: str, *candidates: CandidateRecord, cost_nusd: int = 0) -> TurnRecord:
    return make_turn(served_model=served, candidates=candidates, cost_nusd=cost_nusd)


def figures(expectations: Expectations) -> dict[str, float]:
    """Return each family's sum over its labels."""
    registry = CollectorRegistry()
    for family in expectations.families:
        registry.register(family)
    return {
        family.name.removeprefix("waypost_router_"): sum(s.value for s in family.samples)
        for family in registry.collect()
    }


def test_the_served_model_is_compared_with_what_was_expected_of_it():
    expectations = Expectations()
    small, large = candidate("small", 0.5, 0.001), candidate("large", 0.9, 0.1)

    expectations.compare_cost(routed("small", small, large, cost_nusd=3_000_000))

    found = figures(expectations)
    assert found["predicted_cost_usd"] == 0.001
    assert found["observed_cost_usd"] == 0.003
    assert found["best_single_cost_usd"] == 0.1


def test_nothing_is_saved_where_the_best_single_model_serves():
    expectations = Expectations()
    small, large = candidate("small", 0.5, 0.001), candidate("large", 0.9, 0.1)

    expectations.compare_cost(routed("large", small, large))

    found = figures(expectations)
    assert found["best_single_cost_usd"] == found["predicted_cost_usd"] == 0.1


def test_the_best_single_model_is_best_on_average_and_not_on_this_query():
    expectations = Expectations()
    for _ in range(3):
        expectations.compare_cost(
            routed("small", candidate("small", 0.5, 1.0), candidate("large", 0.9, 10.0))
        )
    before = figures(expectations)["best_single_cost_usd"]

    expectations.compare_cost(
        routed("small", candidate("small", 0.9, 1.0), candidate("large", 0.8, 20.0))
    )

    assert figures(expectations)["best_single_cost_usd"] - before == 20.0


def test_after_many_turns_a_share_of_them_still_changes_which_model_is_best():
    expectations = Expectations()
    for _ in range(ALL_TURNS):
        expectations.compare_cost(routed("a", candidate("a", 0.9, 1.0), candidate("b", 0.5, 2.0)))
    before = figures(expectations)["best_single_cost_usd"]
    assert before == ALL_TURNS

    for _ in range(ALL_TURNS * SOME_TURNS):
        expectations.compare_cost(routed("a", candidate("a", 0.1, 1.0), candidate("b", 0.9, 2.0)))

    turns = ALL_TURNS * SOME_TURNS
    assert turns < figures(expectations)["best_single_cost_usd"] - before < 2 * turns


def test_a_model_that_could_not_serve_is_not_the_best_single_one():
    expectations = Expectations()
    blind = candidate("large", 0.9, 0.1, can=False)

    expectations.compare_cost(routed("small", candidate("small", 0.5, 0.001), blind))

    assert figures(expectations)["best_single_cost_usd"] == 0.001


def test_a_model_the_router_does_not_know_is_not_compared():
    expectations = Expectations()

    expectations.compare_cost(
        routed("new", candidate("new", None, None), candidate("large", 0.9, 0.1))
    )

    assert set(figures(expectations).values()) == {0}


@pytest.mark.parametrize(
    ("predicted", "bucket"),
    [(-0.1, "0.0"), (0.0, "0.0"), (0.57, "0.5"), (1.0, "0.9"), (1.2, "0.9")],
)
def test_a_grade_falls_into_the_bucket_of_its_prediction(predicted, bucket):
    expectations = Expectations()

    expectations.compare_quality("v", predicted, 0.25)

    (graded,) = expectations.families[3].values.items()
    assert graded == (("v", bucket), 1.0)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=20))
def test_the_buckets_hold_every_grade_once(graded):
    expectations = Expectations()
    for predicted, observed in graded:
        expectations.compare_quality("v", predicted, observed)

    found = figures(expectations)
    assert found["graded_answers"] == len(graded)
    assert found["graded_observed_quality"] == pytest.approx(sum(o for _, o in graded))
    assert found["graded_predicted_quality"] == pytest.approx(sum(p for p, _ in graded))
