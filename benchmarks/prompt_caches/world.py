"""Conversations of a real trace, models at prices of today, and providers that cache prompts.

The trace says when each call came, how long its prompt was, and how its prompt begins; so calls are
put together to conversations. What was asked it does not say: queries, answers' scores and a
router's predictions are those of another set, Reasoning Gym. A conversation is about one of its
task families, and sometimes changes to another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.routing_frontier.protocol import labels_of, rows_of
from gateway.pool.prices import price_of
from gateway.problems.datasets import read_dataset
from gateway.routing.encoders import load_encoder
from gateway.types import HostedModel, ModelPrice
from router_models.training.settings import KINDS
from router_models.training.train import train

TRACE: Final = "mooncake_conversation"
PRICED_AT: Final = datetime(2026, 12, 1, tzinfo=UTC)
POOL: Final = (
    ("openai", "gpt-5.5", "o3-mini"),
    ("openai", "gpt-5.1", "deepseek-r1"),
    ("google", "gemini-3-pro-preview", "claude-sonnet-4"),
    ("openai", "gpt-4.1", "claude-3.5-sonnet"),
    ("openai", "gpt-5-mini", "llama-4-maverick"),
    ("google", "gemini-2.5-flash", "llama-4-scout"),
    ("openai", "gpt-5-nano", "mistral-small-3.1-24b-instruct"),
)
"""Provider and name of the price; and whose answers, of older models, stand in for its own."""
SESSIONS: Final = 300
"""Of agents, an hour's; made up, since the trace has none."""
CALLS: Final = 25
"""Of a session on average: its length is geometric."""
FIRST_TOKENS: Final = (6_000, 12_000)
ADDED_TOKENS: Final = 800
BETWEEN_S: Final = 10.0
"""Both medians of log-normal distributions."""
AGENTS_ANSWER_TOKENS: Final = 200
BLOCK_TOKENS: Final = 128
"""Providers cache whole blocks of so many, and none of a prompt with fewer than `LEAST_CACHED`."""
LEAST_CACHED: Final = 1_024


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the trace.

    Attributes:
        conversation: Which it belongs to.
        turns: Turns before it in its conversation, or in the branch of it that it goes on from.
        branch: What its prompt goes on from: calls of one branch have the prompts of all before.
    """

    at_s: float
    conversation: int
    branch: int
    turns: int
    prompt_tokens: int
    completion_tokens: int


def read_calls(folder: Path) -> list[Call]:
    """Read the trace and put its calls together.

    Calls with one second block of 512 tokens, the first that differs between callers, are of one
    conversation. One whose prompt is shorter than that of the call before it begins a new branch:
    what the two share is not known, and taken for nothing.
    """
    table = pq.read_table(folder / "traffic_traces.parquet", filters=[("trace", "=", TRACE)])
    rows = table.to_pandas().sort_values("t_s", kind="stable")
    calls: list[Call] = []
    latest: dict[float, Call] = {}
    names: dict[float, int] = {}
    branches = 0
    for at_s, prompt, completion, block in zip(
        rows.t_s, rows.prompt_tokens, rows.completion_tokens, rows.first_block, strict=True
    ):
        before = latest.get(block)
        if before is None or prompt < before.prompt_tokens:
            branches += 1
            branch, turns = branches, 0
        else:
            branch, turns = before.branch, before.turns + 1
        conversation = names.setdefault(block, len(names))
        call = Call(at_s, conversation, branch, turns, int(prompt), int(completion))
        latest[block] = call
        calls.append(call)
    return calls


def made_up_sessions(seed: int = 0) -> list[Call]:
    """Make calls as agents that work in steps make them: fast, and each with all before it."""
    rng, calls = np.random.default_rng(seed), []
    for session in range(SESSIONS):
        at_s, tokens = rng.uniform(0, 3_600), int(rng.uniform(*FIRST_TOKENS))
        for turn in range(int(rng.geometric(1 / CALLS))):
            calls.append(Call(at_s, session, session, turn, tokens, AGENTS_ANSWER_TOKENS))
            at_s += rng.lognormal(np.log(BETWEEN_S), 1.0)
            tokens += int(rng.lognormal(np.log(ADDED_TOKENS), 0.8))
    return sorted(calls, key=lambda call: call.at_s)


def hosted_models() -> tuple[HostedModel, ...]:
    """Make the pool at the catalogue's prices."""
    return tuple(
        HostedModel(name, host, name, price_of(host, name, None, now=PRICED_AT))
        for host, name, _ in POOL
    )


@dataclass(frozen=True, slots=True, eq=False)
class Queries:
    """Queries that no router learned from; one row each, a column per model of the pool.

    Attributes:
        scores: True ones of the answers.
        predicted: By a router trained on the other rows of the set.
        families: The rows of each task family.
    """

    scores: NDArray[np.float64]
    predicted: NDArray[np.float64]
    families: tuple[NDArray[np.intp], ...]


def read_queries(folder: Path) -> Queries:
    """Train a router of the default kind and have it predict the rows held out."""
    dataset = read_dataset(folder / "reasoning_gym.parquet")
    dataset = dataset.with_models([column for _, _, column in POOL])
    labels = dict(zip(dataset.texts, labels_of("reasoning_gym", dataset), strict=True))
    rows = rows_of(dataset.embedded(load_encoder("static")))
    order = [rows.test.models.index(column) for _, _, column in POOL]
    trained = train(rows.train, rows.val, "kmeans", 0, KINDS["kmeans"]())
    predicted = trained.predict(rows.test.embeddings).quality[:, order]
    family = np.array([labels[text] for text in rows.test.texts])
    families = tuple(np.flatnonzero(family == name) for name in sorted(set(family)))
    return Queries(
        rows.test.quality[:, order].astype(np.float64), predicted.astype(np.float64), families
    )


def ask(
    calls: Sequence[Call], queries: Queries, changes: float, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Draw the query of each call; with the probability `changes` its family too."""
    families, current = queries.families, dict[int, int]()
    asked = []
    for call in calls:
        family = current.get(call.conversation)
        if family is None or rng.random() < changes:
            family = current[call.conversation] = int(rng.integers(len(families)))
        asked.append(int(rng.choice(families[family])))
    return np.array(asked, np.intp)


@dataclass(slots=True)
class Providers:
    """What the providers truly have in their caches.

    Attributes:
        lifetime_s: For so long after its last use a prefix stays.
    """

    lifetime_s: float
    _kept: dict[tuple[int, int], tuple[int, float]]

    @classmethod
    def of(cls, lifetime_s: float) -> "Providers":
        """Begin with empty caches."""
        return cls(lifetime_s, {})

    def read(self, call: Call, model: int, at_s: float) -> int:
        """Return how much of the prompt of `call` is cached; from now on all of it is."""
        tokens, used_s = self._kept.get((call.branch, model), (0, at_s))
        self._kept[call.branch, model] = call.prompt_tokens, at_s
        if at_s - used_s > self.lifetime_s or call.prompt_tokens < LEAST_CACHED:
            return 0
        found = min(tokens, call.prompt_tokens) // BLOCK_TOKENS * BLOCK_TOKENS
        return found if found >= LEAST_CACHED else 0


def with_cached_price(price: ModelPrice, factor: float) -> ModelPrice:
    """Make cached tokens dearer or cheaper, at most as dear as others."""
    return ModelPrice(
        price.input_nusd_per_mtok,
        price.output_nusd_per_mtok,
        min(
            round(price.cache_nusd_per_mtok[0] * factor),
            price.input_nusd_per_mtok,
        ),
    )
