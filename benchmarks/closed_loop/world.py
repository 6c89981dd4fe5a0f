"""The world of the simulation: what each model answers, what that costs, and what changes when."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.day_one.tables import list_price, read_tokens
from gateway.problems.datasets import read_dataset
from router_models.types import Encoder, Float32

DATA: Final = "mmlu_pro"
WORSE: Final = "gemini-1.5-flash-002"
CHEAPER: Final = "gpt-4o-2024-05-13"
NEWCOMER: Final = "newcomer"
POOL: Final = {
    "phi-3-mini-4k-instruct": "Phi-3-mini-4k-instruct",
    "llama-3.1-8b-instruct": "Meta-Llama-3_1-8B-Instruct",
    "deepseek-v2-chat-0628": "deepseek-chat-v2",
    "llama-3.1-70b-instruct": "Meta-Llama-3_1-70B-Instruct",
    WORSE: WORSE,
    CHEAPER: CHEAPER,
    NEWCOMER: "gemini-1.5-pro-002",
}
"""Names in the table, by what the simulated gateway calls these models. The prior that ships knows
all but the new one."""
SCIENCES: Final = ("math", "physics", "chemistry", "engineering", "computer science")

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Plan:
    """Days on which the world changes, and by how much.

    Attributes:
        spoiled: Share of the right answers of `WORSE` that are wrong from then on.
        price_factor: Of `CHEAPER` from then on.
        shares: Of questions of the sciences, before the mix moves and after.
    """

    days: int = 30
    turns_per_day: int = 200
    worse_from: int = 6
    spoiled: float = 0.4
    cheaper_from: int = 12
    price_factor: float = 0.1
    newcomer_from: int = 18
    mix_from: int = 24
    shares: tuple[float, float] = (0.32, 0.85)

    @property
    def phases(self) -> tuple[int, ...]:
        """First days of the times between two changes, and the end."""
        changes = (self.worse_from, self.cheaper_from, self.newcomer_from, self.mix_from)
        return (0, *changes, self.days)


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What every model of the pool made of every query; nothing is missing.

    Attributes:
        quality: 0 or 1; shape ``(n_queries, n_models)``.
        prompt_tokens: Shape ``(n_queries,)``.
        completion_tokens: Shape ``(n_queries, n_models)``.
        price: USD per million tokens of prompts and answers; shape ``(n_models, 2)``.
        is_science: Shape ``(n_queries,)``.
    """

    models: tuple[str, ...]
    texts: tuple[str, ...]
    embeddings: Float32
    quality: Float64
    prompt_tokens: Float64
    completion_tokens: Float64
    price: Float64
    is_science: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """One run of the simulation: the answers, as they change, and who asks what when.

    Attributes:
        asked: Queries of each day, in order; shape ``(days, turns_per_day)``. None is asked twice.
        is_spoiled: Queries whose answers by `WORSE` become wrong.
    """

    answers: Answers
    plan: Plan
    asked: NDArray[np.intp]
    is_spoiled: NDArray[np.bool_]

    @classmethod
    def draw(cls, answers: Answers, plan: Plan, seed: int) -> "World":
        """Draw the traffic."""
        rng = np.random.default_rng(seed)
        asked = draw_traffic(answers.is_science, plan, rng)
        return cls(answers, plan, asked, rng.random(len(answers.quality)) < plan.spoiled)

    def hosted(self, day: int) -> tuple[str, ...]:
        """Name the models that are there."""
        models = self.answers.models
        return tuple(m for m in models if m != NEWCOMER or day >= self.plan.newcomer_from)

    def is_hosted(self, day: int) -> NDArray[np.bool_]:
        """Say of every model whether it is there."""
        return np.isin(self.answers.models, self.hosted(day))

    def price(self, day: int) -> Float64:
        """USD per million tokens, of every model."""
        price = self.answers.price.copy()
        if day >= self.plan.cheaper_from:
            price[self.answers.models.index(CHEAPER)] *= self.plan.price_factor
        return price

    def quality(self, day: int, queries: NDArray[np.intp]) -> Float64:
        """How good every model's answers to `queries` are on a day."""
        quality = self.answers.quality[queries]
        if day >= self.plan.worse_from:
            worse = self.answers.models.index(WORSE)
            quality[self.is_spoiled[queries], worse] = 0.0
        return quality

    def cost_usd(self, day: int, queries: NDArray[np.intp]) -> Float64:
        """What every model's answers to `queries` cost on a day."""
        prompt, completion = self.price(day).T / 1e6
        asked = self.answers.prompt_tokens[queries, None] * prompt
        written: Float64 = asked + self.answers.completion_tokens[queries] * completion
        return written

    def utility(self, day: int, queries: NDArray[np.intp], paid_usd: float) -> Float64:
        """Quality less cost; minus infinity for models that are not there."""
        utility = self.quality(day, queries) - self.cost_usd(day, queries) / paid_usd
        return np.where(self.is_hosted(day), utility, -np.inf)


def draw_traffic(
    is_science: NDArray[np.bool_], plan: Plan, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Deal out queries to days, none twice.

    Raises:
        ValueError: There are too few queries.
    """
    decks = [list(rng.permutation(np.flatnonzero(is_science == kind))) for kind in (False, True)]
    days = []
    for day in range(plan.days):
        share = plan.shares[day >= plan.mix_from]
        kinds = (rng.random(plan.turns_per_day) < share).tolist()
        if any(kinds.count(kind) > len(decks[kind]) for kind in (False, True)):
            raise ValueError(f"the table has too few queries for {plan.days} days")
        days.append([decks[kind].pop() for kind in kinds])
    return np.array(days, np.intp)


def read_answers(folder: Path, encoder: Encoder) -> Answers:
    """Read the answers of the pool's models; queries that some model lacks are left out."""
    file = folder / f"{DATA}.parquet"
    dataset = read_dataset(file).embedded(encoder)
    assert dataset.embeddings is not None
    columns = [dataset.models.index(source) for source in POOL.values()]
    whole = np.isfinite(dataset.quality[:, columns]).all(axis=1)
    prompt, completion = (table[whole][:, columns] for table in read_tokens(file, dataset))
    cost = dataset.cost_usd[whole][:, columns].astype(np.float64)
    asked = prompt.mean(axis=1)
    prices = [list_price(asked, *pair) for pair in zip(completion.T, cost.T, strict=True)]
    return Answers(
        tuple(POOL),
        tuple(dataset.texts[place] for place in np.flatnonzero(whole)),
        dataset.embeddings[whole],
        dataset.quality[whole][:, columns].astype(np.float64),
        asked,
        completion,
        np.array(prices),
        np.isin(dataset.domains, SCIENCES)[whole],
    )
