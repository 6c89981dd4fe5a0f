import numpy as np
import pytest

from router_models.caches import LIFETIME_S, LONGEST_S, Returns, Survival


def test_before_anything_was_seen_a_cache_is_expected_to_last_some_minutes() -> None:
    survival = Survival()
    assert survival.share(0.0) == 1.0
    assert survival.share(LIFETIME_S) == pytest.approx(np.exp(-1.0))
    assert survival.share(LONGEST_S + 1.0) == 0.0


@pytest.mark.parametrize("lifetime_s", [60.0, 300.0, 1_200.0])
def test_the_lifetime_of_a_cache_is_learned_from_what_is_found(lifetime_s) -> None:
    rng, survival = np.random.default_rng(0), Survival()
    for age_s in np.exp(rng.uniform(np.log(5.0), np.log(3_500.0), 2_000)):
        survival.learn(float(age_s), float(age_s <= lifetime_s))
    assert survival.share(0.7 * lifetime_s) > 0.9
    assert survival.share(1.5 * lifetime_s) < 0.1


def test_a_provider_that_never_finds_anything_is_soon_expected_to_find_nothing() -> None:
    survival = Survival()
    for _ in range(30):
        survival.learn(20.0, 0.0)
    assert survival.share(20.0) < 0.15


def test_what_was_seen_long_ago_fades() -> None:
    survival = Survival()
    for _ in range(1_000):
        survival.learn(20.0, 1.0)
    for _ in range(300):
        survival.learn(20.0, 0.0)
    assert survival.share(20.0) < 0.1


def test_what_is_older_than_any_cache_teaches_nothing() -> None:
    survival = Survival()
    survival.learn(LONGEST_S + 1.0, 1.0)
    assert survival.share(LONGEST_S) == pytest.approx(Survival().share(LONGEST_S))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_chance_of_a_next_call_is_learned_for_conversations_of_each_length(share) -> None:
    rng, returns = np.random.default_rng(0), Returns()
    for _ in range(3_000):
        returns.called(3, is_kept=True)
        if rng.random() < share:
            returns.returned(3, 30.0, is_kept=True, is_same_model=True)
    assert returns.chance(3, is_kept=True) == pytest.approx(share, abs=0.05)
    assert returns.chance(2, is_kept=True) == returns.chance(3, is_kept=True)
    assert returns.chance(4, is_kept=True) == Returns().chance(4, is_kept=True)


def test_a_model_that_is_called_for_one_question_and_left_is_not_one_that_stays() -> None:
    returns = Returns()
    for _ in range(300):
        for is_kept in (True, False):
            returns.called(3, is_kept=is_kept)
            returns.returned(3, 30.0, is_kept=is_kept, is_same_model=is_kept)
    assert returns.chance(3, is_kept=True) > 0.9
    assert returns.chance(3, is_kept=False) < 0.1


def test_a_next_call_on_another_model_or_hours_later_is_none() -> None:
    returns = Returns()
    for _ in range(300):
        returns.called(3, is_kept=True)
        returns.returned(3, 30.0, is_kept=True, is_same_model=False)
        returns.called(3, is_kept=True)
        returns.returned(3, 2.0 * LONGEST_S, is_kept=True, is_same_model=True)
    assert returns.chance(3, is_kept=True) < 0.01


def test_what_is_left_at_the_next_call_depends_on_when_such_calls_come() -> None:
    survival, soon, late = Survival(), Returns(), Returns()
    for _ in range(1_000):
        soon.returned(1, 10.0, is_kept=True, is_same_model=True)
        late.returned(1, 1_000.0, is_kept=True, is_same_model=True)
    assert soon.left(survival) > 0.9
    assert late.left(survival) < 0.1
    assert soon.left(survival, 300.0) < soon.left(survival)
