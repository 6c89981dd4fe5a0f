from dataclasses import replace
from typing import Any

import pytest

from gateway.deployments import joined
from gateway.routing.caches import Conversation, PromptCaches
from gateway.types import Deployment, HostedModel, ModelPrice, Usage
from gateway.wire import ChatRequest
from tests.fakes.clocks import ManualClock
from tests.fakes.routing import request

PRICE = ModelPrice(10_000_000_000, 20_000_000_000, cached_input_nusd_per_mtok=1_000_000_000)
WRITES = ModelPrice(10_000_000_000, 20_000_000_000, 1_000_000_000, 12_500_000_000)
FIRST = HostedModel("first", "one", "f", PRICE)
SECOND = HostedModel("second", "two", "s", PRICE)
MARKED = HostedModel("marked", "three", "m", WRITES)
POOL = (FIRST, SECOND, MARKED)
LONG = "Tell me more of this. " * 1_000


def turn(n: int, text: str = LONG, **fields: Any) -> ChatRequest:
    """The n-th turn of a conversation, from 0."""
    messages = [{"role": "user", "content": text}]
    for i in range(n):
        messages.append({"role": "assistant", "content": f"answer {i}"})
        messages.append({"role": "user", "content": f"question {i}"})
    return request(messages=messages, **fields)


class Seen:
    """Caches with a clock, and one team that asks."""

    def __init__(self, most_prompts: int = 100) -> None:
        self.clock = ManualClock(1_000.0)
        self.caches = PromptCaches(self.clock, most_prompts)

    def find(self, asked: ChatRequest, team: str = "team") -> Conversation | None:
        return self.caches.find(asked, team, POOL)

    def send(self, asked: ChatRequest, model: HostedModel, cached: float = 1.0) -> None:
        """Have a model asked, that finds a share of the prompt in its cache."""
        n = asked.prompt_tokens
        usage = Usage(2 * n, 5, cached_tokens=round(2 * n * cached))  # as its tokenizer counts
        found = self.find(asked)
        self.caches.remember(asked, "team", found, model, usage, self.clock())


def test_a_next_turn_is_expected_to_find_in_the_cache_what_its_model_has_read() -> None:
    it = Seen()
    it.send(turn(0), FIRST)
    found = it.find(turn(1))
    assert found is not None
    assert found.warmth.cached == pytest.approx([turn(0).prompt_tokens, 0.0, 0.0])


def test_each_model_has_the_part_that_it_was_sent() -> None:
    it = Seen()
    it.send(turn(0), FIRST)
    it.send(turn(1, LONG), SECOND)
    it.send(turn(2), FIRST)
    it.send(turn(3), SECOND)
    found = it.find(turn(4))
    assert found is not None
    sent = [float(turn(2).prompt_tokens), float(turn(3).prompt_tokens), 0.0]
    assert found.warmth.cached == sent


def test_another_team_that_sends_the_same_knows_nothing() -> None:
    it = Seen()
    it.send(turn(0), FIRST)
    assert it.find(turn(1), "others") is None


def test_a_single_turn_is_not_looked_for_and_a_short_prompt_is_not_remembered() -> None:
    it = Seen()
    it.send(turn(0), FIRST)
    assert it.find(turn(0)) is None
    it.send(turn(0, "Hello."), FIRST)
    assert len(it.caches) == 1
    assert it.find(turn(1, "Hello.")) is None


def test_a_prompt_that_begins_otherwise_is_another() -> None:
    it = Seen()
    it.send(turn(0), FIRST)
    assert it.find(turn(1, "So. " + LONG)) is None


def test_an_earlier_turn_that_is_answered_again_is_found_as_far_as_it_goes() -> None:
    it = Seen()
    for n in range(3):
        it.send(turn(n), FIRST)
    again = turn(2)
    again.body["messages"][-1] = {"role": "user", "content": "something else"}
    found = it.find(again)
    assert found is not None
    assert found.warmth.cached[0] == turn(1).prompt_tokens


def test_a_cache_is_expected_to_be_forgotten_with_time() -> None:
    it = Seen()
    it.send(turn(0), FIRST)
    expected = []
    for _ in range(3):
        it.clock.advance(250.0)
        found = it.find(turn(1))
        assert found is not None
        expected.append(found.warmth.cached[0])
    assert expected == sorted(expected, reverse=True)
    it.clock.advance(3_600.0)
    found = it.find(turn(1))
    assert found is not None
    assert found.warmth.cached[0] == 0.0


def test_what_a_provider_reports_teaches_how_long_it_keeps_prompts() -> None:
    it = Seen()
    for n in range(40):
        text = f"{n} {LONG}"
        for model, share in ((FIRST, 0.99), (SECOND, 0.0)):
            it.send(turn(0, f"{model.name} {text}"), model)
            it.clock.advance(20.0)
            it.send(turn(1, f"{model.name} {text}"), model, cached=share)
    assert it.caches.survival["one"].share(20.0) > 0.95
    assert it.caches.survival["two"].share(20.0) < 0.15


def test_how_often_conversations_go_on_is_learned_once_for_each_turn() -> None:
    went_on, ended = Seen(), Seen()
    for n in range(60):
        went_on.send(turn(0, f"{n} {LONG}"), FIRST)
        for _ in range(3):  # the same question, asked again, is one next turn
            went_on.send(turn(1, f"{n} {LONG}"), FIRST)
        ended.send(turn(0, f"{n} {LONG}"), FIRST)
    assert went_on.caches.returns.chance(0, is_kept=False) > 0.9
    assert ended.caches.returns.chance(0, is_kept=False) < 0.1


def test_a_model_that_charges_for_writes_has_only_what_it_says_it_wrote() -> None:
    it, asked = Seen(), turn(0)
    n = asked.prompt_tokens
    it.send(asked, MARKED, cached=0.0)
    unmarked = it.find(turn(1))
    assert unmarked is not None
    assert unmarked.warmth.cached[2] == 0.0
    wrote = Usage(n, 5, cache_write_tokens=n // 2)
    it.caches.remember(asked, "team", None, MARKED, wrote, it.clock())
    written = it.find(turn(1))
    assert written is not None
    assert written.warmth.cached[2] == pytest.approx(n / 2, rel=0.01)
    assert not written.warmth.is_marked
    part = {"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}
    it.send(turn(0, [part]), MARKED)  # type: ignore[arg-type]
    marked = it.find(turn(1, [part]))  # type: ignore[arg-type]
    assert marked is not None
    assert marked.warmth.is_marked


def test_no_more_prompts_are_remembered_than_may_be_and_those_in_use_stay() -> None:
    it = Seen(most_prompts=20)
    it.send(turn(0), FIRST)
    for n in range(200):
        it.send(turn(0, f"{n} {LONG}"), FIRST)
        assert it.find(turn(1)) is not None
        assert len(it.caches) <= 20
    assert it.find(turn(1, f"199 {LONG}")) is not None
    assert it.find(turn(1, f"100 {LONG}")) is None


def test_a_long_conversation_takes_no_more_memory_for_each_turn() -> None:
    it = Seen(most_prompts=1_000)
    for n in range(30):
        it.clock.advance(400.0)
        it.send(turn(n), HostedModel(f"m{n}", "one", f"m{n}", PRICE))
    found = it.find(turn(30))
    assert found is not None
    assert len(found.before.seen) <= 3_600 / 400 + 1


def test_a_model_that_has_the_conversation_is_expected_to_keep_it_sooner_than_another() -> None:
    it = Seen()
    for n in range(60):
        for place, model in enumerate((FIRST, FIRST, SECOND, FIRST)):  # for one question and back
            it.send(turn(place, f"{n} {LONG}"), model)
    it.send(turn(0), FIRST)
    it.send(turn(1), FIRST)
    found = it.find(turn(2))
    assert found is not None
    stays, comes, other = found.warmth.chance
    assert stays > comes == other


def test_of_a_model_at_several_places_the_one_that_was_called_has_the_prompt() -> None:
    it = Seen()
    it.send(turn(0), FIRST)
    places = [(FIRST, 3.0, 0), (replace(FIRST, provider="else"), 1.0, 0), (MARKED, 9.0, 1)]
    model = joined([Deployment(*place) for place in places])
    found = it.caches.find(turn(1), "team", [model, SECOND])
    assert found is not None
    assert found.warmth.cached == pytest.approx([0.75 * turn(0).prompt_tokens, 0.0])
