"""Who chooses the model of each call; the gateway's own code, and what others do instead."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.prompt_caches.world import Call
from gateway.routing.caches import Conversation, PromptCaches
from gateway.routing.expected_cost import PoolPrices
from gateway.routing.exploring import OFF
from gateway.routing.plan import Scores, with_caches
from gateway.types import HostedModel, Usage
from gateway.wire import NO_OPTIONS, ChatRequest
from router_models.decide import decide

TEAM: Final = "team"
RNG: Final = np.random.default_rng(0)
"""That `decide` never reads: nothing is explored."""
ANSWER_TOKENS: Final = 343.0
"""Expected of every answer: the trace's mean."""
IDLE_S: Final = 600.0


class Contender(Protocol):
    """Chooses a model for each call, and is told what its provider reports."""

    def choose(self, call: Call, at_s: float, quality: NDArray[np.float64]) -> int:
        """Return the place of the model in the pool."""
        ...

    def told(self, call: Call, at_s: float, model: int, usage: Usage) -> None:
        """Take in the usage that was reported of the call."""
        ...


@dataclass(slots=True)
class Always:
    """One model for everything."""

    model: int

    def choose(self, call: Call, at_s: float, quality: NDArray[np.float64]) -> int:
        """Choose it."""
        del call, at_s, quality
        return self.model

    def told(self, call: Call, at_s: float, model: int, usage: Usage) -> None:
        """Learn nothing."""


@dataclass(slots=True)
class Gateway:
    """Routes as the gateway does.

    Attributes:
        caches: None where the setting is off.
        counts_later: What later calls save counts too, as it does in the gateway.
    """

    models: Sequence[HostedModel]
    paid_usd: float
    caches: PromptCaches | None = None
    counts_later: bool = True
    now: Callable[[], float] = float
    _prices: PoolPrices = field(init=False)
    _names: tuple[str, ...] = field(init=False)
    _asked: tuple[ChatRequest, Conversation | None] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._prices = PoolPrices.of(self.models)
        self._names = tuple(model.name for model in self.models)

    def choose(self, call: Call, at_s: float, quality: NDArray[np.float64]) -> int:
        """Predict, price, decide."""
        del at_s
        tokens = tuple([ANSWER_TOKENS] * len(self.models))
        cost_usd = self._prices.cost_usd(call.prompt_tokens, tokens)
        scores = Scores(tuple(quality.tolist()), cost_usd, 1.0, None, tokens)
        if self.caches is not None:
            request = request_of(call)
            found = self.caches.find(request, TEAM, self.models)
            self._asked = request, found
            if found is not None:
                costs = self._prices.cache_costs(call.prompt_tokens, found.warmth)
                scores = with_caches(scores, costs)
        decision = decide(
            self._names,
            scores.quality,
            scores.whole_cost_usd if self.counts_later else scores.cost_usd,
            [True] * len(self._names),
            self.paid_usd,
            exploration=OFF,
            rng=RNG,
        )
        return self._names.index(decision.model)

    def told(self, call: Call, at_s: float, model: int, usage: Usage) -> None:
        """Remember what was sent where."""
        del call
        if self.caches is not None and self._asked is not None:
            request, found = self._asked
            self.caches.remember(request, TEAM, found, self.models[model], usage, at_s)


@dataclass(slots=True)
class Pinned:
    """Keeps a conversation on the model that was chosen for its first call.

    Attributes:
        idle_s: After so long without a call the model is chosen anew.
    """

    first: Gateway
    idle_s: float
    _kept: dict[int, tuple[int, float]] = field(default_factory=dict)

    def choose(self, call: Call, at_s: float, quality: NDArray[np.float64]) -> int:
        """Keep the model, or choose it."""
        kept = self._kept.get(call.conversation)
        if kept is not None and at_s - kept[1] <= self.idle_s:
            return kept[0]
        return self.first.choose(call, at_s, quality)

    def told(self, call: Call, at_s: float, model: int, usage: Usage) -> None:
        """Keep it."""
        del usage
        self._kept[call.conversation] = model, at_s


def request_of(call: Call) -> ChatRequest:
    """Make a request whose messages are those of all calls before it in its branch, and one more.

    What the messages say is short: how many tokens they have is the trace's to say.
    """
    messages = []
    for turn in range(call.turns + 1):
        if turn:
            messages.append({"role": "assistant", "content": f"{call.branch} answer {turn}"})
        messages.append({"role": "user", "content": f"{call.branch} question {turn}"})
    return ChatRequest(
        model="auto",
        body={"model": "auto", "messages": messages},
        query="",
        prompt_tokens=call.prompt_tokens,
        turn_index=call.turns,
        is_stream=False,
        wants_usage=False,
        options=NO_OPTIONS,
    )
