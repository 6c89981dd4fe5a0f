"""`waypost reasoner adapters`: list, show, import and export adapters."""

from pathlib import Path

import click

from gateway.artifacts.store import SealedStore, adapter_store, read_artifact
from gateway.artifacts.trust import read_signature
from gateway.commands.artifact_kinds import ArtifactKind, add_reading, explained
from gateway.commands.options import settings_option
from gateway.pool.adapter_hosts import write_folder
from gateway.settings.config import GatewaySettings
from router_models.artifacts.adapter import AdapterManifest, load


def _open_store(settings: GatewaySettings) -> SealedStore[AdapterManifest]:
    return adapter_store(settings)


def _traits(manifest: AdapterManifest) -> str:
    return f"rank {manifest.rank}  {manifest.base_model}"


def _contents(manifest: AdapterManifest) -> dict[str, object]:
    return {
        "base_model": manifest.base_model,
        "base_sha256": manifest.base_sha256,
        "rank": manifest.rank,
        "alpha": manifest.alpha,
        "targets": manifest.targets,
    }


@click.group("adapters")
def command() -> None:
    """List, show, import and export adapters."""


add_reading(
    command,
    ArtifactKind(
        noun="adapter",
        plural="adapters",
        otherwise="`waypost reasoner train` makes one",
        open_store=_open_store,
        traits=_traits,
        brief=_traits,
        contents=_contents,
    ),
)


@command.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@settings_option
def import_adapter(file: Path, settings: GatewaySettings) -> None:
    """Verify FILE, and FILE.sig where there is one, and keep them under the version."""
    with explained():
        manifest = _open_store(settings).put(read_artifact(file), read_signature(file))
    click.echo(f"imported {manifest.version} ({_traits(manifest)})")


@command.command("export")
@click.argument("version")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@settings_option
def export_adapter(version: str, folder: Path, settings: GatewaySettings) -> None:
    """Write VERSION into FOLDER in the form that peft, transformers and vLLM load."""
    with explained():
        write_folder(load(_open_store(settings).read(version)), folder)
    click.echo(f"wrote {folder}")
