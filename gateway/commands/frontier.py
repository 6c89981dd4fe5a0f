"""`waypost frontier`: measure the router that serves, and one that could, on the gateway's log."""

from collections.abc import Mapping
from datetime import UTC, datetime

import click
from sqlalchemy import Engine

from gateway.artifacts.frontier_file import FrontierFile, operating_points
from gateway.artifacts.store import ArtifactStore, router_store
from gateway.commands.options import settings_option
from gateway.embedded.routers import packaged_router
from gateway.evaluation_log.log_export import DatabaseRows, Selection
from gateway.routing.encoders import load_encoder
from gateway.settings.config import GatewaySettings
from gateway.storage.engines import opened
from router_models.artifacts.artifact import load
from router_models.artifacts.registry import ModelRegistry
from router_models.artifacts.router import Router
from router_models.artifacts.sealed_file import EncoderIdentity, RequestEncoder
from router_models.errors import RouterModelsError
from router_models.evaluation.frontier import Interval
from router_models.evaluation.log_rows import LoggedRows, read_log_rows
from router_models.evaluation.logged_frontier import LoggedFrontier, Role, measure_frontier


@click.command()
@settings_option
@click.option(
    "--candidate", help="Version to compare; by default the newest one made after the active one."
)
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=50_000,
    show_default=True,
    help="Number of graded answers to read, the latest ones.",
)
@click.option(
    "--anytime",
    is_flag=True,
    help="Widen the intervals, so that those of every look at the growing log hold together.",
)
@click.option("--seed", type=int, hidden=True, help="Has no effect any more.")
def command(
    settings: GatewaySettings, candidate: str | None, rows: int, seed: int | None, *, anytime: bool
) -> None:
    """Estimate quality over cost from graded answers whose model was drawn at random.

    The result is kept beside the routers, where gateways publish it as metrics.
    """
    if seed is not None:
        click.echo("--seed has no effect any more: nothing is drawn at random", err=True)
    encoder = load_encoder(settings.routing.encoder)
    store = router_store(settings)
    try:
        routers = _open_routers(settings, store, encoder, candidate)
        with opened(settings) as engine:
            logged = _read(engine, encoder, rows)
        found = measure_frontier(
            routers,
            logged.choices(),
            logged.evaluations("train", logged.models, ModelRegistry()),
            operating_points(settings).tolist(),
            now=datetime.now(UTC),
            is_anytime=anytime,
        )
        FrontierFile(settings.artifact_dir).write(found)
    except (RouterModelsError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(_table(found))


def _open_routers(
    settings: GatewaySettings, store: ArtifactStore, encoder: EncoderIdentity, candidate: str | None
) -> dict[Role, Router]:
    version = store.active()
    packaged = packaged_router(encoder.id, settings.embedded)
    routers: dict[Role, Router] = {}
    if version is not None:
        routers["current"] = load(store.read(version), encoder)
    elif packaged is not None:
        routers["current"] = load(packaged.read_bytes(), encoder)
    candidate = candidate or _newest_since(store, routers)
    if candidate is not None:
        routers["candidate"] = load(store.read(candidate), encoder)
    if not routers:
        raise click.ClickException("there is no router to measure; train one with `waypost train`")
    return routers


def _newest_since(store: ArtifactStore, routers: Mapping[Role, Router]) -> str | None:
    """Return the newest version that was made after the active one."""
    usable = [item for item in store.list_all() if item.manifest is not None]
    if "current" in routers:
        made = routers["current"].manifest.created_at
        usable = [i for i in usable if i.manifest is not None and i.manifest.created_at > made]
    return usable[0].version if usable else None


def _read(engine: Engine, encoder: EncoderIdentity, rows: int) -> LoggedRows:
    batches = DatabaseRows(engine).iter_latest(rows, Selection(encoder_id=encoder.id))
    return read_log_rows(batches, RequestEncoder.of(encoder).dimension, rows)


def _table(found: LoggedFrontier) -> str:
    looks = "of every look together" if found.is_anytime else "of this look alone"
    lines = [f"{found.answers} held-out answers to {found.queries} queries; 95 % intervals {looks}"]
    for curve in found.curves:
        lines.append(f"{curve.role.replace('_', ' ')}: {curve.version}")
        if not curve.points:
            lines.append("  too few answers could match what it would choose")
        lines += [
            f"  pays ${point.willingness_to_pay_usd:<10.4g} quality {_spread(point.quality, 1)}"
            f"  $ per 1,000 {_spread(point.cost_usd, 1000)}"
            f"  {point.effective_answers:.0f} effective answers"
            for point in curve.points
        ]
    if found.lead is not None:
        verdict = "is ahead of" if found.lead.is_decided else "is not known to be better than"
        lines.append(
            f"best single: {found.lead.model} {verdict} {found.lead.rival}, difference in quality "
            f"{_spread(found.lead.quality, 1)}"
        )
    return "\n".join(lines)


def _spread(figure: Interval, scale: float) -> str:
    low, value, high = (scale * each for each in (figure.low, figure.value, figure.high))
    return f"{value:.4f} [{low:.4f}, {high:.4f}]"
