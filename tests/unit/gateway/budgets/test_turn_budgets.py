import logging
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget.ledger.types import Scope
from budget.policies.artifact import SealedPolicy, load
from budget.policies.types import TurnState
from gateway.budgets.turn_budgets import CutOffs, TurnAllotment, TurnBudgets
from gateway.errors import InvalidRequest
from gateway.settings.config import ProfileSettings
from gateway.types import Caller
from gateway.wire import ChatRequest, parse_chat_request
from tests.fakes.artifacts import ENCODER
from tests.fakes.policies import policy_artifact, tab_policy
from tests.fakes.turn_budgets import Conversations, Prediction, make_turn_budgets

CALLER = Caller("k", "t")
EMBEDDING = np.ones(ENCODER.dimension, np.float32)
TALK = {"conversation_id": "c"}


def request(*turns: str, **own: object) -> ChatRequest:
    messages = [{"role": "user", "content": text} for text in turns or ("hello",)]
    return parse_chat_request(
        orjson.dumps({"model": "auto", "messages": messages, "waypost": own}), {}
    )


def sealed(seed: int = 0) -> SealedPolicy:
    return load(policy_artifact(seed), ENCODER)


async def allotted(budgets: TurnBudgets, asked: ChatRequest, **predicted: Any) -> TurnAllotment:
    allotment = await budgets.allot(asked, CALLER, Prediction(embedding=EMBEDDING, **predicted))
    assert allotment is not None
    return allotment


async def test_nothing_gives_a_turn_budget_by_default() -> None:
    ledger = Conversations()
    assert await make_turn_budgets(ledger).allot(request(**TALK), CALLER, Prediction()) is None
    assert ledger.asked == []


@pytest.mark.parametrize(
    ("everybody", "profile", "caller", "budget"),
    [
        (5000, None, None, 5000),
        (5000, 8000, None, 8000),
        (5000, None, 3000, 3000),
        (5000, None, 9000, 5000),
        (None, 4000, 9000, 4000),
        (None, None, 9000, 9000),
    ],
)
async def test_the_smaller_of_the_operator_s_budget_and_the_caller_s_holds(
    everybody, profile, caller, budget
) -> None:
    settings = ProfileSettings(willingness_to_pay_usd=1, turn_budget_tokens=profile)
    budgets = make_turn_budgets(tokens_per_conversation=everybody)
    own = {} if caller is None else {"turn_budget": caller}
    assert (await allotted(budgets, request(**own), profile=settings)).budget_tokens == budget


async def test_the_conversation_s_budget_is_to_be_held_in_output_tokens() -> None:
    made = await allotted(make_turn_budgets(), request(turn_budget=3000, **TALK))
    assert made.cap.limit is not None
    assert made.cap.limit.scope == Scope("t", "conversation", "c")
    assert (made.cap.limit.measure, made.cap.limit.window) == ("output", "total")
    assert made.cap.limit.cap == 3000


async def test_a_request_without_a_conversation_is_one_of_its_own() -> None:
    ledger = Conversations(spent=2900)
    made = await allotted(make_turn_budgets(ledger), request(turn_budget=3000))
    assert (made.cap.limit, made.remaining_tokens, ledger.asked) == (None, 3000, [])


@given(
    budget=st.integers(16, 20_000),
    spent=st.integers(0, 20_000),
    held=st.integers(0, 20_000),
    turns=st.integers(1, 9),
)
async def test_never_allots_more_than_is_left_or_than_an_answer_takes(
    budget, spent, held, turns
) -> None:
    budgets = make_turn_budgets(Conversations(spent, held))
    made = await allotted(budgets, request(*"x" * turns, turn_budget=budget, **TALK))
    assert made.cap.tokens <= max(budget - spent - held, 16)
    assert made.cap.tokens >= 16


async def test_the_active_policy_proposes_and_its_version_is_recorded() -> None:
    policy = sealed()
    made = await allotted(
        make_turn_budgets(policy=policy), request(turn_budget=8000, **TALK), quality=0.5
    )
    wanted = policy.policy.probabilities(
        TurnState(
            budget_tokens=8000,
            remaining_tokens=8000,
            embedding=EMBEDDING,
            prompt_chars=5,
            quality=0.5,
        )
    )
    assert made.proposal.proposed_tokens == policy.policy.choices[int(wanted.argmax())]
    assert made.proposal.policy_version == policy.version


async def test_a_policy_that_fails_leaves_the_built_in_one(caplog) -> None:
    broken = SealedPolicy(sealed().manifest, tab_policy(dimension=ENCODER.dimension + 1))
    budgets = make_turn_budgets(policy=broken)
    with caplog.at_level(logging.CRITICAL):
        made = await allotted(budgets, request(turn_budget=8000))
    assert made.proposal.policy_version == "split"
    assert budgets.counters.policy_failures == 1


async def test_explores_with_the_probability_it_records() -> None:
    budgets = make_turn_budgets(exploration=0.5)
    drawn = [await allotted(budgets, request(turn_budget=8000)) for _ in range(400)]
    explored = [made for made in drawn if made.proposal.proposed_tokens != 1024]
    assert {round(made.proposal.propensity, 6) for made in drawn} == {0.1, 0.6}
    assert 0.33 < len(explored) / len(drawn) < 0.47


async def test_a_plan_says_how_many_turns_are_to_come() -> None:
    budgets = make_turn_budgets()
    planned = request(turn_budget=4096, plan=["a", "b"], plan_position=1, **TALK)
    assert (await allotted(budgets, planned)).cap.tokens == 4096
    assert (await allotted(budgets, request(turn_budget=4096, **TALK))).cap.tokens == 512


async def test_keeps_the_least_of_an_answer_for_every_planned_turn_to_come() -> None:
    budgets = make_turn_budgets(choices=[4096])
    planned = request(turn_budget=1000, plan=["a", "b", "c"], **TALK)
    assert (await allotted(budgets, planned)).cap.tokens == 1000 - 2 * 16


async def test_a_conversation_that_was_cut_off_is_allotted_more() -> None:
    budgets = make_turn_budgets()
    first = await allotted(budgets, request(turn_budget=3000, **TALK))
    budgets.note_outcome(first, 256, was_cut_off=True)
    again = await allotted(budgets, request(turn_budget=3000, **TALK))
    other = await allotted(budgets, request(turn_budget=3000, conversation_id="other"))
    assert [made.cap.tokens for made in (first, again, other)] == [256, 512, 256]


async def test_nothing_is_remembered_of_a_request_without_a_conversation() -> None:
    budgets = make_turn_budgets()
    first = await allotted(budgets, request(turn_budget=3000))
    budgets.note_outcome(first, 256, was_cut_off=True)
    assert (await allotted(budgets, request(turn_budget=3000))).cap.tokens == 256


async def test_a_budget_too_small_for_any_answer_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="at least 16"):
        await allotted(make_turn_budgets(), request(turn_budget=15))


async def test_explains_the_odds_of_every_choice() -> None:
    made = await allotted(make_turn_budgets(exploration=0.5), request(turn_budget=8000))
    explained = made.explain()
    assert [choice["tokens"] for choice in explained["choices"]] == [256, 512, 1024, 2048, 4096]
    assert sum(choice["probability"] for choice in explained["choices"]) == pytest.approx(1)
    assert explained["remaining_tokens"] == 8000


def test_remembers_the_latest_conversations_only() -> None:
    cut_offs = CutOffs(max_conversations=2)
    talks = [Scope("t", "conversation", name) for name in "abc"]
    for talk in talks:
        cut_offs.note(talk, was_cut_off=True)
    assert [cut_offs.of(talk) for talk in talks] == [(False, 0), (True, 1), (True, 1)]


def test_one_whole_answer_ends_a_conversation_s_starving_but_is_counted() -> None:
    cut_offs, talk = CutOffs(), Scope("t", "conversation", "a")
    cut_offs.note(talk, was_cut_off=True)
    cut_offs.note(talk, was_cut_off=False)
    assert cut_offs.of(talk) == (False, 1)


def test_conversations_that_never_starved_take_no_memory() -> None:
    cut_offs, talk = CutOffs(), Scope("t", "conversation", "a")
    cut_offs.note(talk, was_cut_off=False)
    assert cut_offs.of(talk) == (False, 0)
