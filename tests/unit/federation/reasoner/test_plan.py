from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.errors import PlanRefused
from federation.reasoner.plan import BaseName, ReasonerPlan
from federation.reasoner.settings import ReasonerSettings

BASE = BaseName("tiny", "ab" * 32, "cd" * 32, 12)
PLAN = ReasonerPlan("first", BASE, ReasonerSettings(steps_per_round=8, public_every=4), rounds=2)

plans = st.builds(
    lambda steps, every, swap, public, rounds: ReasonerPlan(
        "any",
        BASE,
        ReasonerSettings(steps_per_round=steps, public_every=every, swap=swap, public=public),
        rounds,
    ),
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from(["balanced", "random", "none"]),
    st.booleans(),
    st.integers(1, 3),
)


def numbers(steps):
    return [step.number for step in steps]


def test_a_round_stops_at_every_public_step_for_the_others_answers():
    first, second, third = PLAN.phases()[:3]
    assert first.answered is not None
    assert second.answered is not None
    assert (numbers(first.steps), first.answered.number, first.begins_round) == ([1, 2, 3], 4, True)
    assert (numbers(second.steps), second.answered.number) == ([4, 5, 6, 7], 8)
    assert (numbers(third.steps), third.answered) == ([8], None)
    assert [phase.begins_round for phase in PLAN.phases()] == [True, False, False] * 2


def test_a_round_is_one_phase_where_no_answer_is_exchanged():
    for change in ({"swap": "none"}, {"public": False}):
        plan = replace(PLAN, settings=replace(PLAN.settings, **change))
        assert [numbers(phase.steps) for phase in plan.phases()] == [
            list(range(1, 9)),
            list(range(9, 17)),
        ]
        assert plan.steps_of(1)[3].is_public == plan.settings.public


@given(plans)
def test_every_step_is_taken_once_and_in_order(plan):
    taken = [step for phase in plan.phases() for step in phase.steps]
    assert numbers(taken) == list(range(1, plan.rounds * plan.settings.steps_per_round + 1))


@given(plans)
def test_what_is_answered_is_learned_next(plan):
    phases = plan.phases()
    for phase, following in pairwise(phases):
        assert following.begins_round == (phase.answered is None)
        if phase.answered is not None:
            assert following.steps[0] == phase.answered
            assert phase.answered.is_public


@given(plans)
def test_prompts_are_gone_through_without_gaps(plan):
    for kind in (False, True):
        steps = [step for phase in plan.phases() for step in phase.steps if step.is_public == kind]
        assert [step.turn for step in steps] == list(range(len(steps)))


@given(plans)
def test_reads_what_it_writes(plan):
    assert ReasonerPlan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"settings": {"swap": "always"}, "base": {}}'])
def test_refuses_a_plan_of_another_version(text):
    with pytest.raises(PlanRefused, match="cannot read the coordinator's plan"):
        ReasonerPlan.from_json(text)


@pytest.mark.parametrize(
    "change",
    [
        {"rounds": 0},
        {"quorum": 0},
        {"timeout_s": 0.0},
        {"largest_share": 0.0},
        {"longest_update": 1.0},
    ],
)
def test_refuses_what_no_session_can_follow(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        replace(PLAN, **change)


def test_sites_draw_by_seeds_of_their_own():
    assert len({PLAN.seed_of(name) for name in ("acme", "borealis", "cirrus")}) == 3
    assert PLAN.seed_of("acme") == PLAN.seed_of("acme")
    assert replace(PLAN, seed=1).seed_of("acme") != PLAN.seed_of("acme")
