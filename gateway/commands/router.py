"""`waypost router`: list, show, import, activate and roll back router artefacts."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from gateway.artifact_store import ArtifactStore, StoredArtifact, read_artifact
from gateway.commands.options import settings_option
from gateway.config import GatewaySettings
from router_models.errors import ArtifactRejected
from router_models.router import Manifest


@contextmanager
def _explained() -> Iterator[None]:
    """End the command with the sentence that says what is wrong with the artefact or the disk."""
    try:
        yield
    except (ArtifactRejected, OSError) as error:
        raise click.ClickException(str(error)) from error


@click.group()
def command() -> None:
    """List, activate and roll back router artefacts."""


@command.command("list")
@settings_option
def list_routers(settings: GatewaySettings) -> None:
    """List the routers in the data directory, the newest first; * marks the one that serves.

    Below a router from a federation stands what became of it here, and why.
    """
    with _explained():
        stored = ArtifactStore(settings.artifact_dir).list_all()
    if not stored:
        click.echo(
            f"no router in {settings.artifact_dir}: the packaged one serves where there is one; "
            "`waypost router import FILE` adds one"
        )
    for item in stored:
        click.echo(_line(item))


@command.command("show")
@click.argument("version")
@settings_option
def show_router(version: str, settings: GatewaySettings) -> None:
    """Print the manifest of VERSION as JSON, and why it serves or does not."""
    with _explained():
        store = ArtifactStore(settings.artifact_dir)
        shown = _to_json(store.manifest(version))
        made = store.assessment(version)
    if made is not None:
        shown["assessment"] = json.loads(made.to_json())
    click.echo(json.dumps(shown, indent=2))


@command.command("activate")
@click.argument("version")
@settings_option
def activate_router(version: str, settings: GatewaySettings) -> None:
    """Let VERSION serve; running gateways follow within a second or so."""
    with _explained():
        manifest = ArtifactStore(settings.artifact_dir).activate(version)
    _report(manifest)


@command.command("rollback")
@settings_option
def roll_back_router(settings: GatewaySettings) -> None:
    """Let the router serve that served before the active one."""
    with _explained():
        manifest = ArtifactStore(settings.artifact_dir).rollback()
    _report(manifest)


@command.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--activate", is_flag=True, help="Let it serve at once.")
@settings_option
def import_router(file: Path, *, activate: bool, settings: GatewaySettings) -> None:
    """Verify FILE and keep it in the data directory under its version."""
    store = ArtifactStore(settings.artifact_dir)
    with _explained():
        manifest = store.put(read_artifact(file))
        click.echo(f"imported {manifest.version}")
        if activate:
            _report(store.activate(manifest.version))
        else:
            click.echo(f"waypost router activate {manifest.version} lets it serve")


def _report(manifest: Manifest) -> None:
    click.echo(
        f"active: {manifest.version} ({len(manifest.models)} models, encoder {manifest.encoder_id})"
    )


def _line(item: StoredArtifact[Manifest]) -> str:
    mark = "*" if item.is_active else " "
    if item.manifest is None:
        return f"{mark} {item.version}  unusable: {item.problem}"
    manifest = item.manifest
    guard = "guarded" if manifest.has_guard else "no guard"
    line = (
        f"{mark} {item.version}  {manifest.created_at:%Y-%m-%d %H:%M}  "
        f"{len(manifest.models)} models  {manifest.encoder_id}  {guard}"
    )
    made = item.assessment
    return line if made is None else f"{line}\n    {made.outcome}: {made.reason}"


def _to_json(manifest: Manifest) -> dict[str, object]:
    return {
        "version": manifest.version,
        "parent": manifest.parent,
        "created_at": manifest.created_at.isoformat(),
        "kind": manifest.kind,
        "has_guard": manifest.has_guard,
        "models": manifest.models,
        "registry": manifest.registry,
        "encoder_id": manifest.encoder_id,
        "encoder_sha256": manifest.encoder_sha256,
        "dimension": manifest.dimension,
        "provenance": manifest.provenance,
        "training": manifest.training,
        "checksum": manifest.checksum,
        "format_version": manifest.format_version,
    }
