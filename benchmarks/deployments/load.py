"""Sends calls at random moments, whether or not answers arrive, and keeps what callers saw."""

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import numpy as np

from benchmarks.deployments.contenders import Contender, slug
from benchmarks.deployments.upstreams import MODEL, PER_S, Upstreams

WARM_S: Final = 10.0
"""Calls of the first seconds count for nothing: limits are half full and nothing is known."""
PATIENCE_S: Final = 30.0
"""After which callers give a call up."""
CALLER_FAILED: Final = "no answer"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of round.

    Attributes:
        load: In relation to what all places together admit.
        has_revoked_key: In the middle of the round one place begins to refuse its key.
    """

    name: str
    load: float
    is_stream: bool = False
    has_revoked_key: bool = False


@dataclass
class Seen:
    """What callers of one contender saw in a round, and what it cost.

    Attributes:
        sent: Calls of callers.
        taken_s: Of answers, from the call to its end.
        in_time: Answers that ended while calls were counted, of earlier calls too.
        failures: By status; `CALLER_FAILED` where there was none.
    """

    sent: int = 0
    taken_s: list[float] = field(default_factory=list)
    in_time: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    cpu_s: float = 0.0
    upstream_calls: int = 0

    def figures(self, lasts_s: float) -> dict[str, float]:
        """Reduce it to the figures of the table."""
        answers = max(len(self.taken_s), 1)
        p50, p99 = np.percentile(self.taken_s or [math.nan], (50, 99))
        limited = self.failures["429"]
        return {
            "offered_per_s": self.sent / lasts_s,
            "answers_per_s": self.in_time / lasts_s,
            "limited": limited / self.sent,
            "failed": (self.failures.total() - limited) / self.sent,
            "p50_s": float(p50),
            "p99_s": float(p99),
            "calls_per_answer": self.upstream_calls / answers,
            "cpu_ms": 1e3 * self.cpu_s / self.sent,
        }


async def play(
    scenario: Scenario,
    contenders: Sequence[Contender],
    upstreams: Upstreams,
    seed: int,
    lasts_s: float,
) -> dict[str, Seen]:
    """Play one round with all contenders at once: the same calls, each to places of its own."""
    began_s = upstreams.clock()
    revoked_at_s = began_s + WARM_S + lasts_s / 2 if scenario.has_revoked_key else math.inf
    upstreams.begin((slug(one.name) for one in contenders), seed, revoked_at_s)
    moments = arrivals(seed, scenario.load * PER_S, WARM_S + lasts_s)
    seen = {one.name: Seen() for one in contenders}
    counted = (began_s + WARM_S, began_s + WARM_S + lasts_s)

    async def call(one: Contender, number: int, kept: Seen) -> None:
        began_s = upstreams.clock()
        outcome = await _outcome(http, one, number, is_stream=scenario.is_stream)
        ended_s = upstreams.clock()
        if outcome != "200":
            kept.failures[outcome] += 1
            return
        kept.taken_s.append(ended_s - began_s)
        seen[one.name].in_time += counted[0] <= ended_s < counted[1]

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http, asyncio.TaskGroup() as group:
        for number, moment_s in enumerate(moments):
            await asyncio.sleep(began_s + moment_s - upstreams.clock())
            if moment_s >= WARM_S and not seen[contenders[0].name].sent:
                _begin_counting(contenders, upstreams, seen)
            for one in contenders:
                kept = seen[one.name] if moment_s >= WARM_S else Seen()
                kept.sent += 1
                group.create_task(call(one, number, kept))
    await asyncio.sleep(1.0)  # work put off counts too
    for one in contenders:
        kept, places = seen[one.name], upstreams.of(slug(one.name))
        kept.cpu_s += one.cpu_s()
        kept.upstream_calls += sum(place.calls for place in places)
    return seen


def arrivals(seed: int, per_s: float, lasts_s: float) -> list[float]:
    """Draw the moments of calls (Poisson)."""
    rng = np.random.default_rng((seed, 1))
    moments = np.cumsum(rng.exponential(1 / per_s, int(3 * per_s * lasts_s) + 50))
    return [float(moment) for moment in moments if moment < lasts_s]


def _begin_counting(
    contenders: Sequence[Contender], upstreams: Upstreams, seen: dict[str, Seen]
) -> None:
    for one in contenders:
        seen[one.name].cpu_s -= one.cpu_s()
        places = upstreams.of(slug(one.name))
        seen[one.name].upstream_calls -= sum(place.calls for place in places)


async def _outcome(
    http: aiohttp.ClientSession, one: Contender, number: int, *, is_stream: bool
) -> str:
    outcome = CALLER_FAILED
    for attempt in range(one.tries):
        url = one.urls[(number + attempt) % len(one.urls)]
        outcome = await _ask(http, url, one.key, is_stream=is_stream)
        if outcome == "200":
            break
    return outcome


async def _ask(http: aiohttp.ClientSession, url: str, key: str, *, is_stream: bool) -> str:
    body: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "What is six times seven?"}],
        "max_tokens": 20,
    }
    if is_stream:
        body["stream"] = True
    try:
        async with http.post(
            f"{url}/chat/completions",
            json=body,
            headers={"authorization": f"Bearer {key}"},
            timeout=aiohttp.ClientTimeout(total=PATIENCE_S),
        ) as response:
            said = await response.read()
            is_whole = b"42." in said and (not is_stream or b"[DONE]" in said)
            is_answer = response.status != 200 or is_whole
            return str(response.status) if is_answer else CALLER_FAILED
    except (TimeoutError, aiohttp.ClientError):
        return CALLER_FAILED
