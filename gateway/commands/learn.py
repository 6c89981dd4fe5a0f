"""`waypost learn`: the loop from the log to the router that serves, and what it did so far."""

import random
import signal
import threading
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import orjson

from gateway.artifacts.store import ArtifactStore, router_store
from gateway.commands.artifact_kinds import explained
from gateway.commands.options import changing, settings_option
from gateway.demo.demonstration import demonstrate
from gateway.learning.events import OPERATOR, Event, LearningEvents
from gateway.learning.opening import LEARNER, open_learner
from gateway.learning.operating import approve, roll_back
from gateway.learning.watching import step_with_lease, watch
from gateway.routing.canary import CanaryState, read_canary
from gateway.settings.config import GatewaySettings, process_environment
from gateway.storage.engines import opened
from gateway.storage.lease import Lease
from gateway.telemetry.log_lines import log_to_stderr
from router_models.errors import ArtifactRejected


@click.group("learn")
def command() -> None:
    """Train routers from the log as it grows, judge them, and let the better ones serve."""


@command.command("run")
@click.option("--watch", "is_watching", is_flag=True, help="Go on until stopped.")
@settings_option
def run(settings: GatewaySettings, *, is_watching: bool) -> None:
    """Take one step now: watch the active router; train and judge another one on new grades.

    Without --watch the step trains however few new grades there are.
    """
    log_to_stderr(settings.server)
    with changing(settings) as engine:
        learner = open_learner(settings, engine)
        if is_watching:
            is_over = threading.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: is_over.set())
            watch(learner, is_over, _print, settings.learning.poll_s)
            return
        done = step_with_lease(learner, is_forced=True)
        if done is None:
            raise click.ClickException(
                f"another process learns now: {learner.lease.current_holder()}"
            )
        learner.lease.release()
        for event in done:
            _print(event)
        if not done:
            click.echo("nothing is due: there is no new grade since the last training")


@command.command("status")
@click.option(
    "--events",
    "count",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Number of steps to show, the latest ones.",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@settings_option
def status(settings: GatewaySettings, count: int, *, as_json: bool) -> None:
    """Show which router serves, who learns, and the latest steps with their reasons."""
    with opened(settings) as engine, explained():
        events = LearningEvents(engine)
        newest = events.newest(count)
        second = read_canary(engine)
        canary, kept = (second, None) if second is None or second.is_new else (None, second)
        found: dict[str, Any] = {
            "object": "waypost.learning",
            "active": _active(router_store(settings)),
            "canary": _shown(canary),
            "kept": _shown(kept),
            "waiting": _waiting(events),
            "learner": Lease(engine, LEARNER, "").current_holder(),
            "counts": {what: number for what, (number, _) in events.count().items()},
            "rolled_back": sorted(events.rolled_back()),
            "events": [asdict(event) for event in newest],
        }
    if as_json:
        click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))
        return
    click.echo(f"active router: {found['active'] or 'none was activated'}")
    if canary := found["canary"]:
        click.echo(f"canary: {canary['version']} decides {canary['share']:.3g} of the turns")
    if kept := found["kept"]:
        click.echo(f"router before it: {kept['version']} decides {kept['share']:.3g} of the turns")
    click.echo(f"waiting for approval: {found['waiting'] or 'none'}")
    click.echo(f"learner: {found['learner'] or 'none runs; see learning.enabled'}")
    for event in newest:
        _print(event)


@command.command("approve")
@click.argument("version", required=False)
@settings_option
def approve_router(settings: GatewaySettings, version: str | None) -> None:
    """Let the router serve that was proposed last, or is the canary, or VERSION."""
    with changing(settings) as engine, explained():
        learner = open_learner(settings, engine)
        store, share = learner.serving.store, settings.learning.kept_share
        _print(approve(learner.events, store, version, learner.clock(), share))


@command.command("rollback")
@settings_option
def roll_back_router(settings: GatewaySettings) -> None:
    """End the canary, or let the router serve that served before; it will not serve again."""
    with changing(settings) as engine, explained():
        learner = open_learner(settings, engine)
        _print(roll_back(learner.events, learner.serving.store, learner.clock()))


@command.command("demo")
@click.option(
    "--turns",
    type=click.IntRange(min=20),
    default=150,
    show_default=True,
    help="Questions to learn from.",
)
@click.option(
    "--held-out",
    type=click.IntRange(min=4),
    default=36,
    show_default=True,
    help="Questions to compare routers by; nothing learns from these.",
)
@click.option("--seed", type=int, help="Draws the questions; by default others each time.")
def demo(turns: int, held_out: int, seed: int | None) -> None:
    """Show the whole loop on small models that run on this machine, in about two minutes.

    A gateway of its own serves from a temporary folder, which is deleted at the end. It needs the
    extras `embedded` and `train`, and no key.
    """
    if seed is None:
        seed = random.randrange(10_000)  # noqa: S311 (no secret)
    # Whatever ends the demonstration ends its gateway too.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    with TemporaryDirectory(prefix="waypost-demo-") as folder:
        demonstrate(
            Path(folder),
            process_environment(),
            click.echo,
            turns=turns,
            held_out=held_out,
            seed=seed,
        )
    click.echo(f"\nThe same questions again: waypost learn demo --seed {seed}")


def _active(store: ArtifactStore) -> str | None:
    try:
        return store.active()
    except ArtifactRejected as error:
        return str(error)


def _shown(state: CanaryState | None) -> dict[str, Any] | None:
    return None if state is None else {"version": state.version, "share": state.share}


def _waiting(events: LearningEvents) -> str | None:
    last = events.latest("proposed", "canary", "activated", "rolled_back", "refused")
    return last.router_version if last is not None and last.what == "proposed" else None


def _print(event: Event) -> None:
    by = f" by the {OPERATOR}" if event.who == OPERATOR else ""
    version = f" {event.router_version}" if event.router_version else ""
    click.echo(f"{event.at:%Y-%m-%d %H:%M:%S}  {event.what}{by}{version}")
    click.echo(f"    {event.why}")
