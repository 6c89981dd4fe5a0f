import json
from pathlib import Path

import pytest
from dp_accounting import get_epsilon_gaussian
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.privacy.accounting import (
    PrivacyAccount,
    PrivacyBudget,
    PrivacyBudgetSpent,
    Release,
    epsilon_of,
    noise_multiplier_for,
)

DELTA = 1e-5
SESSION = [Release(1.0), Release(1.0, sampling_rate=0.1, steps=40), Release(1.0)]

multipliers = st.floats(0.5, 20.0)


@pytest.fixture
def account(tmp_path: Path) -> PrivacyAccount:
    return PrivacyAccount(tmp_path / "privacy.json", epsilon=5.0, delta=DELTA)


@given(multiplier=multipliers)
@settings(max_examples=20, deadline=None)
def test_one_message_costs_a_little_more_than_the_exact_gaussian_bound(multiplier: float) -> None:
    exact = get_epsilon_gaussian(multiplier, DELTA)
    assert exact <= epsilon_of([Release(multiplier)], DELTA) <= 1.3 * exact + 0.05


@given(multiplier=multipliers)
@settings(max_examples=20, deadline=None)
def test_more_messages_cost_more_and_more_noise_costs_less(multiplier: float) -> None:
    once = epsilon_of([Release(multiplier)], DELTA)
    assert epsilon_of([Release(multiplier)] * 2, DELTA) > once
    assert epsilon_of([Release(2 * multiplier)], DELTA) < once


def test_the_order_of_messages_does_not_matter() -> None:
    assert epsilon_of(SESSION, DELTA) == pytest.approx(epsilon_of(SESSION[::-1], DELTA))


def test_sampled_steps_cost_less_than_full_ones() -> None:
    sampled = Release(1.0, sampling_rate=0.1, steps=10)
    assert epsilon_of([sampled], DELTA) < epsilon_of([Release(1.0, steps=10)], DELTA) / 2


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 8.0])
def test_the_noise_found_is_the_least_that_keeps_a_session_within_epsilon(epsilon: float) -> None:
    multiplier = noise_multiplier_for(epsilon, DELTA, SESSION)
    noisy = [Release(multiplier, r.sampling_rate, r.steps) for r in SESSION]
    less = [Release(multiplier * 0.98, r.sampling_rate, r.steps) for r in SESSION]
    assert epsilon_of(noisy, DELTA) <= epsilon < epsilon_of(less, DELTA)


@pytest.mark.parametrize(("epsilon", "delta"), [(0.0, 1e-5), (-1.0, 1e-5), (1.0, 0.0), (1.0, 1.0)])
def test_refuses_targets_that_mean_nothing(epsilon: float, delta: float) -> None:
    with pytest.raises(ValueError, match="epsilon"):
        noise_multiplier_for(epsilon, delta, SESSION)


def test_a_budget_composes_messages_until_it_is_spent() -> None:
    budget = PrivacyBudget(5.0, DELTA).spend(Release(2.0)).spend(Release(2.0))
    assert budget.epsilon_spent() == pytest.approx(epsilon_of([Release(2.0)] * 2, DELTA))
    with pytest.raises(PrivacyBudgetSpent, match=r"of which it has spent 3\."):
        budget.spend(Release(0.5))


def test_a_budget_can_be_spent_no_further_than_its_epsilon() -> None:
    multiplier = noise_multiplier_for(5.0, DELTA, [Release(1.0, steps=10)])
    budget = PrivacyBudget(5.0, DELTA).spend(Release(multiplier, steps=10))
    with pytest.raises(PrivacyBudgetSpent):
        budget.spend(Release(multiplier))


def test_nothing_sent_costs_nothing() -> None:
    assert PrivacyBudget(5.0, DELTA).epsilon_spent() == 0.0


def test_an_account_remembers_across_sessions(account: PrivacyAccount) -> None:
    account.spend(Release(3.0))
    again = PrivacyAccount(account.path, epsilon=5.0, delta=DELTA)
    again.spend(Release(3.0, sampling_rate=0.5, steps=2))
    assert account.read().spent == (Release(3.0), Release(3.0, sampling_rate=0.5, steps=2))


def test_an_account_refuses_what_goes_beyond_and_remembers_only_what_was_sent(
    account: PrivacyAccount,
) -> None:
    account.spend(Release(2.0))
    with pytest.raises(PrivacyBudgetSpent):
        account.spend(Release(0.1))
    assert len(json.loads(account.path.read_text())) == 1


def test_a_new_account_has_spent_nothing(account: PrivacyAccount) -> None:
    assert account.read().spent == ()
