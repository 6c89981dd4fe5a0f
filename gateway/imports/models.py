"""What the pool calls the models of other tools' files, and what their calls cost."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from budget.ledger.amounts import NUSD_PER_USD
from gateway.imports.records import Answer, InvalidImport, Model
from gateway.pool.prices import catalogue_entry, declared_price
from gateway.settings.prices import PriceSettings
from gateway.types import HostedModel, ModelPrice, Usage

CostFrom = Literal["file", "tokens", "estimate"]
_DATED: Final = re.compile(r"[-@](\d{8}|\d{4}-\d\d-\d\d)")


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call cost, and how that is known: the file's word, its tokens, or texts' lengths."""

    usd: float
    known_from: CostFrom


@dataclass(slots=True)
class Models:
    """Names and prices of the models in files.

    Attributes:
        pool: Models of the gateway's settings, by name.
        mapped: What the user calls a model, by any spelling in a file.
        given: Prices that the user said, by any spelling or by the pool's name.
        now: As of when list prices are read.
    """

    pool: Mapping[str, HostedModel]
    mapped: Mapping[str, str]
    given: Mapping[str, ModelPrice]
    now: datetime
    _labelled: frozenset[str] = field(default=frozenset(), init=False)
    _asked: dict[str, str] = field(default_factory=dict, init=False)
    _listed: dict[tuple[str | None, str], ModelPrice | None] = field(
        default_factory=dict, init=False
    )

    def learn(self, answers: Iterable[Answer]) -> None:
        """See which names mean the same model: a file that says what was asked and what answered.

        Where one model has several labels, each is a configuration of it, and a model of its own.
        """
        labels: dict[str, set[str]] = defaultdict(set)
        asked: dict[str, set[str]] = defaultdict(set)
        for answer in answers:
            model = answer.model
            labels[model.spelled].update(() if model.label is None else (model.label,))
            if model.answered is not None and _is_dated(model.answered, model.name):
                asked[model.answered].add(model.name)
        self._labelled = frozenset(name for name, found in labels.items() if len(found) > 1)
        self._asked = {name: min(found) for name, found in asked.items() if len(found) == 1}

    def name_of(self, model: Model) -> str:
        """Return what the pool calls a model, else its plain name."""
        spellings = self._spellings(model)
        for spelling in spellings:
            if spelling in self.mapped:
                return self.mapped[spelling]
        if model.label and model.spelled in self._labelled:
            return model.label
        plain = self._asked.get(model.name, model.name)
        upstream = [name for name, one in self.pool.items() if one.upstream_name == plain]
        return plain if plain in self.pool or len(upstream) != 1 else upstream[0]

    def cost_of(self, answer: Answer) -> Cost | None:
        """Return what an answer cost; None where its model has no price."""
        if answer.cost_usd is not None:
            return Cost(answer.cost_usd, "file")
        price = self._price(answer.model)
        if price is None:
            return None
        prompt, completion = answer.prompt_tokens, answer.completion_tokens
        if prompt is not None and completion is not None:
            return Cost(_usd(price, prompt, completion), "tokens")
        prompt, completion = (round(tokens) for tokens in answer.expected)
        return Cost(_usd(price, prompt, completion), "estimate")

    def _spellings(self, model: Model) -> list[str]:
        return [name for name in (model.label, model.spelled, model.name) if name]

    def _price(self, model: Model) -> ModelPrice | None:
        name = self.name_of(model)
        for spelling in (name, *self._spellings(model)):
            if spelling in self.given:
                return self.given[spelling]
        if name in self.pool:
            return self.pool[name].price
        key = (model.host, model.name)
        if key not in self._listed:
            entry = catalogue_entry(*key, self.now)
            self._listed[key] = None if entry is None else entry.price
        return self._listed[key]


def parse_price(text: str) -> tuple[str, ModelPrice]:
    """Read ``MODEL=IN,OUT``, USD per million tokens.

    Raises:
        InvalidImport: It is none.
    """
    name, _, prices = text.rpartition("=")
    try:
        paid, earned = map(float, prices.split(","))
        price = PriceSettings(input_usd_per_mtok=paid, output_usd_per_mtok=earned)
        return _named(name), declared_price(price)
    except ValueError as error:
        raise InvalidImport(
            f"--price {text}: must be MODEL=IN,OUT in USD per million tokens, such as "
            "qwen3-4b=0.10,0.40"
        ) from error


def _named(name: str) -> str:
    if not name:
        raise ValueError(name)
    return name


def _is_dated(answered: str, asked: str) -> bool:
    """Whether a provider's name is the asked one with a date; `auto` is nobody's other name."""
    return answered.startswith(asked) and bool(_DATED.fullmatch(answered[len(asked) :]))


def _usd(price: ModelPrice, prompt_tokens: int, completion_tokens: int) -> float:
    return price.cost_nusd(Usage(prompt_tokens, completion_tokens)) / NUSD_PER_USD
