"""`waypost turn-policy`: learn a turn-budget policy from problems, and measure policies on them."""

import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import httpx2
import numpy as np
import torch
from tqdm import tqdm

from budget.environments.conversation import Environment
from budget.errors import InvalidProblems
from budget.policies.artifact import SealedPolicy, dump, load, read_manifest
from budget.policies.mdp import CHOICES
from budget.policies.tab import AllSubQuestionsPolicy, TabPolicy
from budget.training.baselines import baseline_families, cheapest_near_best
from budget.training.evaluate import (
    Comparison,
    Outcomes,
    ParetoFront,
    compare,
    evaluate_policy,
    oracle_front,
)
from budget.training.train import Trainer, TrainingSettings, with_token_price
from gateway.commands.options import settings_option
from gateway.problems.budget_pictures import Marked, draw_fronts, draw_learning
from gateway.problems.calibration import CalibrationError, read_json_lines
from gateway.problems.live_problems import Endpoint, SolverFailed, parse_live_problems
from gateway.problems.log_problems import read_logged_problems
from gateway.problems.problem_files import build_environment, read_problems
from gateway.routing.encoders import load_encoder
from gateway.settings.config import GatewaySettings
from gateway.storage.engines import opened
from router_models.errors import ArtifactRejected
from router_models.types import Encoder

KINDS: Final[Mapping[str, type[TabPolicy]]] = {
    policy.kind: policy for policy in (TabPolicy, AllSubQuestionsPolicy)
}
T = TypeVar("T")
STEPS_PER_CHECKPOINT: Final = 20
SOLVER_TIMEOUT_S: Final = 300.0
FIGURE: Final = "{0:.3f} ({1:.3f} to {2:.3f})"
WHOLE_FIGURE: Final = "{0:.0f} ({1:.0f} to {2:.0f})"
SHARE: Final = "{0:.0%} ({1:.0%} to {2:.0%})"


@contextmanager
def _explained() -> Iterator[None]:
    """End the command with the sentence that says what is wrong with a file."""
    try:
        yield
    except (ArtifactRejected, CalibrationError, InvalidProblems, OSError, SolverFailed) as error:
        raise click.ClickException(str(error)) from error


@click.group()
def command() -> None:
    """Train and measure policies that divide a conversation's tokens between its turns."""


@command.command("train")
@settings_option
@click.argument("data", type=click.Path(path_type=Path), required=False)
@click.option("--url", help="Live: base URL of the endpoint that solves, up to /v1.")
@click.option("--model", help="Live: name of the solver there.")
@click.option("--key", envvar="WAYPOST_SOLVER_KEY", help="Live: its key; $WAYPOST_SOLVER_KEY.")
@click.option("--kind", type=click.Choice(list(KINDS)), default="tab", help="What to learn.")
@click.option("--choices", multiple=True, type=click.IntRange(1), help="Tokens a turn can get.")
@click.option(
    "--budget",
    "budgets",
    multiple=True,
    type=click.IntRange(1),
    required=True,
    help="Completion tokens of a conversation; may be given several times.",
)
@click.option(
    "--token-price",
    type=click.FloatRange(0.0, min_open=True),
    help="Right answers that 1,000 tokens may cost; without it, the paper's reward, which "
    "minds tokens beyond the budget only.",
)
@click.option("--steps", type=click.IntRange(1), default=300, help="Steps of training.")
@click.option("--seed", type=int, default=0, help="The same seed gives the same policy.")
@click.option("--train-split", default="train", help="Problems to learn from.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Artefact to write.")
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Kept while training; a run that was stopped goes on from it.",
)
@click.option(
    "--picture", type=click.Path(path_type=Path), help="File for the learning curve (PNG)."
)
def train_policy(
    *,
    settings: GatewaySettings,
    data: Path | None,
    url: str | None,
    model: str | None,
    key: str | None,
    kind: str,
    choices: tuple[int, ...],
    budgets: tuple[int, ...],
    token_price: float | None,
    steps: int,
    seed: int,
    train_split: str,
    out: Path | None,
    checkpoint: Path | None,
    picture: Path | None,
) -> None:
    """Learn a policy by GRPO from DATA, a file of multi-turn problems.

    Without DATA the evaluation log's graded conversations are the problems. With --url and
    --model, DATA is a file of questions (.jsonl) that this endpoint answers while we learn.
    Give --budget once for each conversation budget that the policy shall serve.
    """
    training = TrainingSettings(
        choices=tuple(sorted(set(choices))) or CHOICES,
        budgets=tuple(sorted(set(budgets))),
        steps=steps,
        seed=seed,
    )
    if token_price is not None:
        training = with_token_price(training, token_price / 1000.0)
    encoder = load_encoder("static")
    with _explained(), _solving(url, key) as http:
        if http is None:
            environment: Environment = _replayed(data, settings, encoder, train_split)
        else:
            endpoint = Endpoint(http, _needed(model, "--model"))
            tables = read_json_lines(_needed(data, "DATA"))
            environment = parse_live_problems(tables, encoder, endpoint)
        trainer = Trainer.begin(environment, training, KINDS[kind])
        _run(trainer, checkpoint)
        content = dump(
            trainer.network.to_policy(),
            encoder,
            created_at=datetime.now(UTC),
            training=_figures(trainer),
            provenance={
                "train_problems": len(environment.problems),
                "train_turns": sum(len(problem.texts) for problem in environment.problems),
            },
        )
        path = out or Path(f"{read_manifest(content).version}.safetensors")
        path.write_bytes(content)
    last = trainer.curve[-1]
    click.echo(f"last step: accuracy {last.accuracy:.3f}, {last.tokens:.0f} tokens a problem")
    if picture is not None:
        draw_learning(kind, {kind: [trainer.curve]}).savefig(picture, dpi=110)
        click.echo(f"wrote {picture}")
    click.echo(f"wrote {path}")


@contextmanager
def _solving(url: str | None, key: str | None) -> Iterator[httpx2.Client | None]:
    """Open a client of the endpoint that solves, where there is one."""
    if url is None:
        yield None
        return
    headers = {"authorization": f"Bearer {key}"} if key else {}
    timeout = httpx2.Timeout(SOLVER_TIMEOUT_S, connect=5.0)
    with httpx2.Client(base_url=url, headers=headers, timeout=timeout) as http:
        yield http


def _replayed(
    data: Path | None, settings: GatewaySettings, encoder: Encoder, split: str
) -> Environment:
    if data is not None:
        return build_environment(read_problems(data), encoder, split)
    with opened(settings) as engine:
        return read_logged_problems(engine, encoder)


def _needed(value: T | None, name: str) -> T:
    if value is None:
        raise click.UsageError(f"--url needs {name} too")
    return value


def _run(trainer: Trainer, checkpoint: Path | None) -> None:
    if checkpoint is not None and checkpoint.is_file():
        try:
            trainer.resume(torch.load(checkpoint, weights_only=True))
        except ValueError as error:
            raise click.ClickException(f"{checkpoint}: {error}; remove it to begin anew") from error
        except (pickle.UnpicklingError, RuntimeError, KeyError, EOFError) as error:
            raise click.ClickException(
                f"{checkpoint} cannot be read as a checkpoint; remove it to begin anew"
            ) from error

    def show(steps: Iterable[int]) -> Iterator[int]:
        for step in tqdm(steps, "training", unit="step"):
            yield step
            if checkpoint is not None and (step + 1) % STEPS_PER_CHECKPOINT == 0:
                partial = checkpoint.with_suffix(".partial")
                torch.save(trainer.checkpoint(), partial)
                partial.replace(checkpoint)

    trainer.run(show)


def _figures(trainer: Trainer) -> dict[str, Any]:
    settings = asdict(trainer.settings)
    settings["choices"], settings["budgets"] = list(settings["choices"]), list(settings["budgets"])
    every = max(len(trainer.curve) // 50, 1)
    curve = [list(point) for point in trainer.curve[::every]]
    return {"settings": settings, "curve": curve, "curve_columns": list(trainer.curve[0]._fields)}


@command.command("evaluate")
@click.argument("data", type=click.Path(path_type=Path))
@click.argument("policies", type=click.Path(path_type=Path), nargs=-1)
@click.option(
    "--budget", type=click.IntRange(1), required=True, help="Completion tokens of a conversation."
)
@click.option("--train-split", default="train", help="Problems that baselines learn from.")
@click.option("--tune-split", default="val", help="Problems that baselines are tuned on.")
@click.option("--split", default="test", help="Problems to measure on.")
@click.option(
    "--picture",
    type=click.Path(path_type=Path),
    default=Path("turn-budgets.png"),
    help="File for the picture (PNG).",
)
def evaluate_policies(
    *,
    data: Path,
    policies: tuple[Path, ...],
    budget: int,
    train_split: str,
    tune_split: str,
    split: str,
    picture: Path,
) -> None:
    """Compare POLICIES with baselines on DATA, a file of problems.

    Prints a table and draws a picture. The baselines are tuned; one of them, the clairvoyant,
    knows in advance what each turn needs.

    Policies of equal kind and settings that differ by seed alone are one row, with one interval.
    """
    encoder = load_encoder("static")
    with _explained():
        rows = read_problems(data)
        train, tune, test = (
            build_environment(rows, encoder, name) for name in (train_split, tune_split, split)
        )
        groups = _grouped([load(file.read_bytes(), encoder) for file in policies])
        choices = _common_choices(groups)
        families = baseline_families(train, choices)
    static = [evaluate_policy(policy, test, budget) for policy in families["static"]]
    measured: dict[str, Sequence[Outcomes]] = {}
    for name, family in families.items():
        best = cheapest_near_best([evaluate_policy(policy, tune, budget) for policy in family])
        measured[name] = [evaluate_policy(family[best], test, budget)]
    for name, sealed in groups.items():
        measured[name] = [evaluate_policy(one.policy, test, budget) for one in sealed]
    compared = {name: compare(outcomes, static) for name, outcomes in measured.items()}
    oracle = oracle_front(test, choices[0])
    click.echo(f"{len(test.problems)} problems, {budget} tokens per conversation")
    click.echo(table(compared, {name: _violations(found) for name, found in measured.items()}))
    click.echo(_ceiling(compared["static"], oracle))
    front = ParetoFront.from_points(
        np.array([one.mean_tokens for one in static]), np.array([one.accuracy for one in static])
    )
    marked = [Marked(name, name, figures) for name, figures in compared.items()]
    draw_fronts(f"{data.name}: {split}", front, oracle, marked).savefig(picture, dpi=110)
    click.echo(f"wrote {picture}")


def _grouped(policies: Sequence[SealedPolicy]) -> dict[str, list[SealedPolicy]]:
    """Put runs that differ by seed alone together, named by the first one's version."""
    by_run: dict[str, list[SealedPolicy]] = {}
    for sealed in policies:
        manifest = sealed.manifest
        settings = {**manifest.training.get("settings", {}), "seed": None}
        by_run.setdefault(f"{manifest.kind} {manifest.choices} {settings}", []).append(sealed)
    return {found[0].version: found for found in by_run.values()}


def _common_choices(groups: Mapping[str, Sequence[SealedPolicy]]) -> tuple[int, ...]:
    choices = {one.manifest.choices for found in groups.values() for one in found}
    if len(choices) > 1:
        raise InvalidProblems("the policies choose from different budgets: measure them apart")
    return choices.pop() if choices else CHOICES


def _violations(outcomes: Sequence[Outcomes]) -> int:
    return sum(outcome.violations for outcome in outcomes)


def _ceiling(static: Comparison, oracle: ParetoFront) -> str:
    tokens = oracle.tokens_at(static.accuracy[0])
    return f"a clairvoyant would save {1 - tokens / static.tokens[0]:.0%} of the static tokens"


def table(compared: Mapping[str, Comparison], violations: Mapping[str, int]) -> str:
    """Lay out one line per policy; intervals are 95 %."""
    heads = (
        "policy",
        "accuracy",
        "tokens",
        "tokens saved at its accuracy",
        "accuracy gained at its tokens",
        "E3 x 1e6",
        "violations",
    )
    lines = [heads]
    for name, one in compared.items():
        lines.append(
            (
                name,
                FIGURE.format(*one.accuracy),
                WHOLE_FIGURE.format(*one.tokens),
                SHARE.format(*one.saved),
                FIGURE.format(*one.gained),
                f"{one.e3[0] * 1e6:.0f}",
                str(violations[name]),
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
