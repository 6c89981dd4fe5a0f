"""What this process saw of conversations, and so what providers may still have in their caches.

A prompt is remembered by the name of its last message (`prefixes`), with the tokens that each model
has read of it, and when. The next call of the conversation finds it among the names of its own
messages. Only the latest prompts are kept, of all teams together; a team's names begin with its id
and a secret, so that nobody finds what another team sent.

All tokens are those that the gateway expects of a prompt, not what a provider counts: both sides of
a comparison are counted alike.
"""

import secrets
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from gateway.routing.expected_cost import Warmth
from gateway.routing.prefixes import is_marked, links
from gateway.types import HostedModel, Place, Usage
from gateway.wire import ChatRequest
from router_models.caches import LEAST_TOKENS, LONGEST_S, Returns, Survival

MOST_PROMPTS: Final = 10_000
"""Kept in memory, the ends of the latest calls: about 700 bytes each."""
MOST_TOKENS: Final = 2_000_000
"""Of a prompt that is looked at: no model reads more."""


class Seen(NamedTuple):
    """How many tokens of a prompt a model has read, and when, on the monotonic clock."""

    tokens: float
    at_s: float


NOTHING_SEEN: Final = Seen(0.0, 0.0)


@dataclass(slots=True, eq=False)
class Prompt:
    """A prompt as it was sent.

    Attributes:
        seen: What each model has read of it, in this call or an earlier one.
        calls: About how many calls the conversation has had with it.
        place: Where it was sent, and `at_s` when.
        is_kept: The call before went there too.
        is_continued: A further call was seen.
    """

    seen: dict[Place, Seen]
    calls: int
    place: Place
    at_s: float
    is_kept: bool
    is_continued: bool = False


class Conversation(NamedTuple):
    """A request that goes on from a prompt that was seen.

    Attributes:
        link: Names its own prompt.
        before: Of the prompts that it goes on from, the longest.
        warmth: Of each model of the pool.
    """

    link: int
    before: Prompt
    warmth: Warmth


@dataclass(slots=True, eq=False)
class PromptCaches:
    """Remembers prompts and learns from what providers say they had in their caches.

    Everything is in memory and takes time linear in the request: no lock, no I/O.

    Attributes:
        clock: Monotonic seconds.
        most_prompts: The longest unused are forgotten beyond it.
    """

    clock: Callable[[], float]
    most_prompts: int = MOST_PROMPTS
    survival: defaultdict[str, Survival] = field(default_factory=lambda: defaultdict(Survival))
    returns: Returns = field(default_factory=Returns)
    _prompts: OrderedDict[int, Prompt] = field(default_factory=OrderedDict)
    _secret: bytes = field(default_factory=lambda: secrets.token_bytes(16), repr=False)

    def __len__(self) -> int:
        """Count the prompts that are remembered."""
        return len(self._prompts)

    def find(
        self, request: ChatRequest, team_id: str, models: Sequence[HostedModel]
    ) -> Conversation | None:
        """Find the prompt that `request` goes on from; None where none is known.

        A request of a single turn goes on from none, and is not looked at.
        """
        body = request.body
        if len(body["messages"]) < 2 or not LEAST_TOKENS <= request.prompt_tokens <= MOST_TOKENS:
            return None
        names = links(body, self._start(team_id))
        prompts = self._prompts
        for link in reversed(names):
            before = prompts.get(link)
            if before is not None:
                prompts.move_to_end(link)
                return Conversation(names[-1], before, self._warmth(request, before, models))
        return None

    def remember(
        self,
        request: ChatRequest,
        team_id: str,
        conversation: Conversation | None,
        model: HostedModel,
        usage: Usage,
        sent_s: float,
    ) -> None:
        """Remember what a model has read, and learn from what it had in its cache.

        Args:
            conversation: What was found for the request before.
            usage: As the provider reported it.
            sent_s: When the request was sent.
        """
        if not LEAST_TOKENS <= request.prompt_tokens <= MOST_TOKENS:
            return
        place, tokens = model.place, float(request.prompt_tokens)
        calls, seen, is_kept = len(request.body["messages"]) // 2, {}, False
        if conversation is None:
            link = links(request.body, self._start(team_id))[-1]
        else:
            link, before = conversation.link, conversation.before
            is_kept = before.place == place
            self._learn(before, place, tokens, usage, sent_s)
            seen = {k: v for k, v in before.seen.items() if sent_s - v.at_s < LONGEST_S}
        if model.price.cache_write_nusd_per_mtok is not None:  # then nothing is cached unasked
            tokens *= (usage.cached_tokens + usage.cache_write_tokens) / max(usage.prompt_tokens, 1)
        if tokens >= LEAST_TOKENS:
            seen[place] = Seen(tokens, sent_s)
        self.returns.called(calls, is_kept=is_kept)
        self._prompts[link] = Prompt(seen, calls, place, sent_s, is_kept)
        self._prompts.move_to_end(link)
        if len(self._prompts) > self.most_prompts:
            self._prompts.popitem(last=False)

    def _start(self, team_id: str) -> int:
        return hash((self._secret, team_id))

    def _warmth(
        self, request: ChatRequest, before: Prompt, models: Sequence[HostedModel]
    ) -> Warmth:
        now_s, prompt, returns = self.clock(), float(request.prompt_tokens), self.returns
        calls = len(request.body["messages"]) // 2
        stays, comes = (returns.chance(calls, is_kept=it) for it in (True, False))
        cached, if_called, if_not, chance = [], [], [], []
        kept: dict[str, float] = {}
        for model in models:
            if model.provider not in kept:
                kept[model.provider] = prompt * returns.left(self.survival[model.provider])
            if_called.append(kept[model.provider])
            is_here, now, later = model.place == before.place, 0.0, 0.0
            for place, share in _places(model):
                is_here = is_here or place == before.place
                tokens, at_s = before.seen.get(place, NOTHING_SEEN)
                if tokens:
                    tokens, survival = share * min(tokens, prompt), self.survival[place[0]]
                    now += tokens * survival.share(now_s - at_s)
                    later += tokens * returns.left(survival, now_s - at_s)
            chance.append(stays if is_here else comes)
            cached.append(now)
            if_not.append(later)
        native = request.native
        return Warmth(
            cached,
            if_called,
            if_not,
            chance,
            is_marked=is_marked(request.body if native is None else native.body),
        )

    def _learn(
        self, before: Prompt, place: Place, prompt: float, usage: Usage, sent_s: float
    ) -> None:
        known = before.seen.get(place)
        if known is not None and usage.prompt_tokens:
            expected = min(known.tokens / prompt, 1.0)
            found = usage.cached_tokens / usage.prompt_tokens / expected
            self.survival[place[0]].learn(sent_s - known.at_s, min(found, 1.0))
        if not before.is_continued:
            before.is_continued = True
            about = {"is_kept": before.is_kept, "is_same_model": place == before.place}
            self.returns.returned(before.calls, sent_s - before.at_s, **about)


def _places(model: HostedModel) -> Sequence[tuple[Place, float]]:
    """List where a model is called, and with what share of the calls: nobody asks caches there."""
    if not model.deployments:
        return ((model.place, 1.0),)
    first = model.deployments[0].priority
    used = [one for one in model.deployments if one.priority == first]
    total = sum(one.weight for one in used)
    return [(one.model.place, one.weight / total) for one in used if one.weight]
