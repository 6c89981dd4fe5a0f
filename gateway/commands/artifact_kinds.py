"""The subcommands of every kind of artefact: list, show, activate, rollback, import."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import click

from gateway.artifacts.store import SealedStore, StoredArtifact, read_artifact
from gateway.artifacts.trust import read_signature
from gateway.commands.options import agree, json_option, print_json, settings_option, yes_option
from gateway.settings.config import GatewaySettings
from router_models.artifacts.sealed_file import EncoderManifest, ManifestT
from router_models.errors import ArtifactRejected


def _no_doubts(settings: GatewaySettings, manifest: Any, serving: Any) -> list[str]:
    del settings, manifest, serving
    return []


@dataclass(frozen=True, slots=True)
class ArtifactKind(Generic[ManifestT]):
    """What the subcommands need to know of one kind of artefact.

    Attributes:
        noun: What the command is called, and the kind in its messages.
        plural: Of the noun.
        otherwise: What serves where the store is empty.
        open_store: Opens the kind's store.
        traits: What `list` says of one beside its version and date.
        brief: What is said of one that was activated.
        contents: What `show` says of its own, in order.
        doubts: What speaks against letting one serve; the last argument is what serves now.
    """

    noun: str
    plural: str
    otherwise: str
    open_store: Callable[[GatewaySettings], SealedStore[ManifestT]]
    traits: Callable[[ManifestT], str]
    brief: Callable[[ManifestT], str]
    contents: Callable[[ManifestT], dict[str, object]]
    doubts: Callable[[GatewaySettings, ManifestT, ManifestT | None], list[str]] = _no_doubts


def artifact_commands(kind: ArtifactKind[ManifestT]) -> click.Group:
    """Make the group of subcommands for one kind of artefact."""
    group = click.Group(help=f"List, activate and roll back {kind.noun} artefacts.")
    add_reading(group, kind)
    _add_serving(group, kind)
    return group


def add_reading(group: click.Group, kind: ArtifactKind[ManifestT]) -> None:
    """Give a group the subcommands that change nothing."""

    @group.command(
        "list",
        help=f"List the {kind.plural} in the data directory, newest first; * marks the active "
        "one.\n\nArtefacts from a federation show how this site assessed them, and why.",
    )
    @settings_option
    @json_option
    def list_artifacts(settings: GatewaySettings, *, as_json: bool) -> None:
        store = kind.open_store(settings)
        with explained():
            stored = store.list_all()
        if as_json:
            print_json([_listed(kind, item) for item in stored])
            return
        if not stored:
            click.echo(
                f"no {kind.noun} in {store.folder}: {kind.otherwise}; "
                f"`waypost {store.command} import FILE` adds one"
            )
        for item in stored:
            click.echo(_line(kind, item))

    @group.command(
        "show", help="Print the manifest of VERSION as JSON, and how this site assessed it."
    )
    @click.argument("version")
    @settings_option
    def show_artifact(version: str, settings: GatewaySettings) -> None:
        store = kind.open_store(settings)
        with explained():
            shown = _to_json(kind, store.manifest(version))
            made = store.assessment(version)
        if made is not None:
            shown["assessment"] = json.loads(made.to_json())
        click.echo(json.dumps(shown, indent=2))


def _add_serving(group: click.Group, kind: ArtifactKind[ManifestT]) -> None:
    def report(manifest: ManifestT) -> None:
        click.echo(f"active: {manifest.version} ({kind.brief(manifest)})")

    def let_serve(settings: GatewaySettings, version: str, *, is_given: bool) -> None:
        store = kind.open_store(settings)
        doubts = kind.doubts(settings, store.manifest(version), _serving(store))
        agree(f"let {version} serve", doubts, is_given=is_given)
        report(store.activate(version))

    @group.command(
        "activate",
        help="Activate VERSION; running gateways serve it within a second or so.\n\nAsks where "
        "there are doubts, such as one model only.",
    )
    @click.argument("version")
    @settings_option
    @yes_option
    def activate_artifact(version: str, settings: GatewaySettings, *, yes: bool) -> None:
        with explained():
            let_serve(settings, version, is_given=yes)

    @group.command("rollback", help=f"Reactivate the {kind.noun} that was active before.")
    @settings_option
    def roll_back_artifact(settings: GatewaySettings) -> None:
        with explained():
            report(kind.open_store(settings).rollback())

    @group.command(
        "import",
        help="Verify FILE, and FILE.sig where there is one, and copy them to the data directory "
        "under the version.",
    )
    @click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
    @click.option("--activate", is_flag=True, help="Activate it at once.")
    @settings_option
    @yes_option
    def import_artifact(
        file: Path, *, activate: bool, settings: GatewaySettings, yes: bool
    ) -> None:
        store = kind.open_store(settings)
        with explained():
            manifest = store.put(read_artifact(file), read_signature(file))
            click.echo(f"imported {manifest.version}")
            if activate:
                let_serve(settings, manifest.version, is_given=yes)
            else:
                click.echo(f"waypost {store.command} activate {manifest.version} lets it serve")


def _serving(store: SealedStore[ManifestT]) -> ManifestT | None:
    """Return the manifest of what serves; None where nothing does, or nothing that can be read."""
    try:
        active = store.active()
        return None if active is None else store.manifest(active)
    except ArtifactRejected:
        return None


@contextmanager
def explained(*errors: type[Exception]) -> Iterator[None]:
    """End the command with the sentence that says what is wrong with the artefact or the disk.

    Args:
        errors: Others that say such sentences.
    """
    expected: tuple[type[Exception], ...] = (ArtifactRejected, OSError, *errors)
    try:
        yield
    except expected as error:
        raise click.ClickException(str(error)) from error


def _line(kind: ArtifactKind[ManifestT], item: StoredArtifact[ManifestT]) -> str:
    mark = "*" if item.is_active else " "
    if item.manifest is None:
        return f"{mark} {item.version}  unusable: {item.problem}"
    manifest = item.manifest
    line = f"{mark} {item.version}  {manifest.created_at:%Y-%m-%d %H:%M}  {kind.traits(manifest)}"
    made = item.assessment
    return line if made is None else f"{line}\n    {made.outcome}: {made.reason}"


def encoder_contents(manifest: EncoderManifest) -> dict[str, object]:
    """Return what `show` says of the encoder that an artefact reads."""
    return {
        "encoder_id": manifest.encoder_id,
        "encoder_sha256": manifest.encoder_sha256,
        "dimension": manifest.dimension,
    }


def _listed(kind: ArtifactKind[ManifestT], item: StoredArtifact[ManifestT]) -> dict[str, Any]:
    made = item.assessment
    return {
        "version": item.version,
        "is_active": item.is_active,
        "problem": item.problem,
        "manifest": None if item.manifest is None else _to_json(kind, item.manifest),
        "assessment": None if made is None else json.loads(made.to_json()),
    }


def _to_json(kind: ArtifactKind[ManifestT], manifest: ManifestT) -> dict[str, Any]:
    return {
        "version": manifest.version,
        "parent": manifest.parent,
        "created_at": manifest.created_at.isoformat(),
        "kind": manifest.kind,
        **kind.contents(manifest),
        "provenance": manifest.provenance,
        "training": manifest.training,
        "checksum": manifest.checksum,
        "format_version": manifest.format_version,
    }
