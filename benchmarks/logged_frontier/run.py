"""How often the intervals of `waypost frontier` hold, on logs whose truth is known.

`python -m benchmarks.logged_frontier.run [--data DIR]` writes results.json and README.md beside it.
"""

import itertools
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.logged_frontier.populations import POINTS, Population, draw_log, made_up, real
from benchmarks.logged_frontier.report import write
from router_models.evaluation.design_variance import NORMAL, contributions, reach
from router_models.evaluation.logged_frontier import (
    LEAST_EFFECTIVE_ANSWERS,
    Measurement,
    single_choices,
)
from router_models.evaluation.off_policy import LoggedChoices, effective_answers
from router_models.evaluation.outcome_model import fit_outcome_model
from router_models.types import Prediction

Float64 = NDArray[np.float64]
Columns = NDArray[np.intp]

REAL: Final = ("llmrouter_ulab", "zeroeval")
MADE_UP: Final = {"made up, 4 models": (4, False), "made up, 10 models": (10, False)}
STRICT: Final = {"strict, 10 models": (10, True)}
EXPLORATIONS: Final = (("epsilon", 0.01), ("epsilon", 0.05), ("epsilon", 0.2), ("thompson", 0.0))
ROWS: Final = (500, 2000, 10_000)
LOGS: Final = 200
LOGS_NAMED: Final = 60
"""Of them those in which the best single model is looked for."""
LOOKS: Final = tuple(range(500, 5001, 250))
LEAST_BEFORE: Final = 20.0
"""Effective answers, counted from the draws, that the method before asked for."""
SEED: Final = 2026
FIGURES: Final = ("quality", "cost", "utility")


@cache
def population(name: str, folder: Path | None) -> Population:
    """Make or read one, once per process."""
    if name in REAL:
        assert folder is not None
        return real(folder, name)
    models, is_strict = {**MADE_UP, **STRICT}[name]
    return made_up(models, is_strict=is_strict)


def targets(known: Population) -> Iterator[tuple[str, float, Columns]]:
    """What is measured: both routers at three points, and the model that is best in truth."""
    for role, paid in itertools.product(known.predictions, POINTS):
        yield role, paid, known.utility(role, paid).argmax(axis=1)
    best = int(known.quality.mean(axis=0).argmax())
    yield "best_single", POINTS[1], np.full(len(known.quality), best)


@dataclass(frozen=True, slots=True, eq=False)
class Before:
    """The method before: constant outcome model, spread of the draws, matching draws counted.

    A bootstrap of a mean converges to the normal interval that is used here.
    """

    choices: LoggedChoices
    prior: Float64

    def estimate(self, chosen: Columns, figure: str, price: float) -> tuple[float, float]:
        """Return an estimate and its standard error."""
        seen = {"quality": self.choices.quality, "cost": self.choices.cost_usd}
        seen["utility"] = seen["quality"] - price * seen["cost"]
        mean = {"quality": self.prior[0], "cost": self.prior[1]}
        mean["utility"] = mean["quality"] - price * mean["cost"]
        surprise = seen[figure] - mean[figure][self.choices.answered]
        value = mean[figure][chosen] + self.weights(chosen) * surprise
        return float(value.mean()), float(value.std() / np.sqrt(len(value)))

    def weights(self, chosen: Columns) -> Float64:
        """Return one over the propensity where the draw is the choice."""
        rows = np.arange(len(chosen))
        odds = self.choices.propensity[rows, self.choices.answered].astype(np.float64)
        return np.where(chosen == self.choices.answered, 1.0 / odds, 0.0)

    def is_shown(self, chosen: Columns) -> bool:
        """Whether enough draws match."""
        weight = self.weights(chosen)
        return float(weight.sum()) ** 2 >= LEAST_BEFORE * float(weight @ weight) > 0.0

    def best(self) -> str:
        """Name the model of the highest estimate."""
        rows = len(self.choices.answered)
        models = range(len(self.choices.models))
        values = [self.estimate(np.full(rows, model), "quality", 0.0)[0] for model in models]
        return self.choices.models[int(np.argmax(values))]


@dataclass(frozen=True, slots=True, eq=False)
class Log:
    """One log, measured."""

    choices: LoggedChoices
    at: Columns
    measurement: Measurement
    guess: Prediction

    @classmethod
    def draw(cls, known: Population, odds: Float64, rows: int, rng: np.random.Generator) -> "Log":
        """Draw one, and fit the outcome model that the routers' predictions give."""
        return cls.of(known, *draw_log(known, odds, rows, rng))

    @classmethod
    def of(cls, known: Population, choices: LoggedChoices, at: Columns) -> "Log":
        """Fit the outcome model."""
        guesses = list(known.predictions.values())
        guess = Prediction(
            np.mean([each.quality[at] for each in guesses], axis=0),
            np.mean([each.cost_usd[at] for each in guesses], axis=0),
        )
        outcomes = fit_outcome_model(guess, choices)
        return cls(choices, at, Measurement(choices, outcomes, is_anytime=False), guess)

    def estimate(self, chosen: Columns, figure: str, price: float) -> tuple[float, float]:
        """Return an estimate and its standard error."""
        outcomes = self.measurement.outcomes
        outcome = {"quality": outcomes.quality, "cost": outcomes.cost_usd}.get(figure)
        found = contributions(outcome or outcomes.utility(price), chosen, self.choices)
        error = found.standard_error(self.choices.query, outcomes.persistence)
        return float(found.value.mean()), error


def is_covered(figure: str, value: float, margin: float, true: float) -> bool:
    """Whether the interval holds; that of a cost is in proportion, as in `Measurement`."""
    if figure == "cost" and value > margin:
        return bool(abs(np.log(true / value)) <= margin / value)
    return abs(value - true) <= margin


def truths(known: Population, chosen: Columns, price: float) -> dict[str, float]:
    """Mean quality, cost and utility over the whole population."""
    at = np.arange(len(chosen)), chosen
    quality, cost = float(known.quality[at].mean()), float(known.cost_usd[at].mean())
    return {"quality": quality, "cost": cost, "utility": quality - price * cost}


def measure(
    name: str, folder: Path | None, exploration: tuple[str, float], rows: int
) -> list[dict[str, Any]]:
    """Draw logs of one kind and count how often each interval holds."""
    known = population(name, folder)
    odds = known.propensities(*exploration)
    wanted = [(*each, truths(known, each[2], 1.0 / each[1])) for each in targets(known)]
    best = known.models[int(known.quality.mean(axis=0).argmax())]
    cell = {"population": name, "exploration": exploration[0], "epsilon": exploration[1]}
    cell["rows"] = rows
    counts: dict[tuple[str, str], NDArray[np.float64]] = {}
    named = np.zeros(4)
    for seed in range(LOGS):
        log = Log.draw(known, odds, rows, np.random.default_rng([SEED, rows, seed]))
        before = Before(log.choices, known.prior)
        for role, paid, every, true in wanted:
            chosen = every[log.at]
            effective = effective_answers(chosen, log.choices)
            is_now, was = effective >= LEAST_EFFECTIVE_ANSWERS, before.is_shown(chosen)
            for figure in FIGURES if is_now or was else ():
                value, error = before.estimate(chosen, figure, 1.0 / paid)
                did = is_covered("", value, NORMAL * error, true[figure])
                width = NORMAL * error
                value, error = log.estimate(chosen, figure, 1.0 / paid)
                margin = reach(effective) * error
                does = is_covered(figure, value, margin, true[figure])
                seen = np.array([was, was and did, is_now, is_now and does, is_now and did])
                seen = np.append(seen, [is_now * width**2, is_now * margin**2])
                counts[role, figure] = counts.get((role, figure), 0.0) + seen
        if seed < LOGS_NAMED:
            lead = log.measurement.lead(dict(single_choices(log.choices, log.guess)))
            is_named = lead is not None and lead.is_decided
            is_right = lead is not None and is_named and lead.model == best
            named += [1, before.best() == best, is_named, is_right]
    heads: tuple[str, ...] = (
        "shown_before",
        "covered_before",
        "shown",
        "covered",
        "covered_same_points_before",
    )
    heads += ("squared_half_width_before", "squared_half_width")
    lines = [
        {**cell, "role": role, "figure": figure, **dict(zip(heads, seen.tolist(), strict=True))}
        for (role, figure), seen in counts.items()
    ]
    heads = ("logs", "right_before", "named", "right")
    return [*lines, {**cell, "role": "named", **dict(zip(heads, named.tolist(), strict=True))}]


def look_often(name: str, folder: Path | None, epsilon: float) -> dict[str, Any]:
    """Look at growing logs again and again: how often does any interval miss?"""
    known = population(name, folder)
    odds = known.propensities("epsilon", epsilon)
    wanted = [(*each, truths(known, each[2], 1.0 / each[1])) for each in targets(known)]
    missed: dict[str, list[tuple[bool, bool, bool]]] = {figure: [] for figure in FIGURES}
    for seed in range(LOGS):
        choices, at = draw_log(known, odds, LOOKS[-1], np.random.default_rng([SEED, 7, seed]))
        has: dict[tuple[str, float, str], NDArray[np.bool_]] = {}
        for rows in LOOKS:
            seen = np.arange(rows)
            log = Log.of(known, choices.select(seen), at[seen])
            for role, paid, every, true in wanted:
                chosen = every[log.at]
                effective = effective_answers(chosen, log.choices)
                if effective < LEAST_EFFECTIVE_ANSWERS:
                    continue
                for figure in FIGURES:
                    value, error = log.estimate(chosen, figure, 1.0 / paid)
                    once, always = (reach(effective, looks) * error for looks in (None, rows))
                    now = [not is_covered(figure, value, m, true[figure]) for m in (once, always)]
                    key = role, paid, figure
                    has[key] = np.array([*now, now[0]]) | (
                        has.get(key, np.zeros(3, bool)) & [True, True, False]
                    )
        for (_, _, figure), ever in has.items():
            missed[figure].append(tuple(ever.tolist()))
    heads = ("one_look_missed_ever", "every_look_missed_ever", "one_look_missed_last")
    return {
        "population": name,
        "epsilon": epsilon,
        "looks": len(LOOKS),
        **{
            f: dict(zip(heads, np.mean(m, axis=0).tolist(), strict=True)) for f, m in missed.items()
        },
    }


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="Folder of evaluations.")
@click.option("--processes", default=2, show_default=True)
def main(data: Path | None, processes: int) -> None:
    """Measure everything and write what came out."""
    names = (*MADE_UP, *STRICT, *(REAL if data else ()))
    cells = itertools.product(names, (data,), EXPLORATIONS, ROWS)
    with ProcessPoolExecutor(processes) as pool:
        measured = [pool.submit(measure, *cell) for cell in cells]
        looks = [pool.submit(look_often, "made up, 4 models", None, e) for e in (0.05, 0.2)]
        results = {
            "cells": [line for cell in measured for line in cell.result()],
            "looks": [look.result() for look in looks],
        }
    here = Path(__file__).parent
    (here / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    write(results, here)


if __name__ == "__main__":
    main()
