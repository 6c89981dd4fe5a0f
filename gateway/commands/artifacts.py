"""`waypost artifacts`: who vouches for a router, a budget policy or an adapter."""

from pathlib import Path
from typing import Any, Final

import click

from budget.policies.artifact import POLICY_FILE
from gateway.artifacts.store import read_artifact, replace_file
from gateway.artifacts.trust import (
    Trust,
    make_key,
    public_text,
    read_key,
    read_signature,
    signature_path,
)
from gateway.commands.artifact_kinds import explained
from gateway.commands.options import settings_option
from gateway.settings.config import GatewaySettings
from router_models.artifacts.adapter import ADAPTER_FILE
from router_models.artifacts.artifact import ROUTER_FILE
from router_models.artifacts.sealed_file import SealedFile
from router_models.artifacts.signature import Signature
from router_models.errors import ArtifactRejected

FORMS: Final[tuple[SealedFile[Any], ...]] = (ROUTER_FILE, POLICY_FILE, ADAPTER_FILE)
FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group("artifacts")
def command() -> None:
    """Make keys, and sign and verify routers, budget policies and adapters."""


@command.command("keygen")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def generate_key(file: Path) -> None:
    """Write a new private key to FILE, and print the public one for artifacts.trusted_keys."""
    with explained():
        try:
            public_key = make_key(file)
        except FileExistsError as error:
            raise click.ClickException(
                f"{file} is there already: choose another name, so that no key is lost"
            ) from error
    click.echo(f"wrote the private key to {file}; keep it off the machines that only serve")
    click.echo(f"public key: {public_key}")


@command.command("sign")
@click.argument("files", type=FILE, nargs=-1, required=True)
@click.option("--key", type=FILE, help="Private key; artifacts.signing_key by default.")
@settings_option
def sign_artifacts(files: tuple[Path, ...], key: Path | None, settings: GatewaySettings) -> None:
    """Check the artefact in each of FILES and write its signature beside it, as FILE.sig."""
    chosen = key or settings.artifacts.signing_key
    if chosen is None:
        raise click.UsageError("--key: name a private key, or set artifacts.signing_key")
    with explained():
        private_key = read_key(chosen)
        for file in files:
            data = read_artifact(file)
            signature = Signature.make(private_key, version_of(data), data)
            replace_file(signature_path(file), signature.to_line())
            click.echo(f"{signature.name} is signed by {public_text(private_key)}")


@command.command("verify")
@click.argument("files", type=FILE, nargs=-1, required=True)
@settings_option
def verify_artifacts(files: tuple[Path, ...], settings: GatewaySettings) -> None:
    """Say which of artifacts.trusted_keys signed each of FILES; fail where none did."""
    keys = Trust.of(settings.artifacts).keys
    if not keys:
        raise click.UsageError("artifacts.trusted_keys: there is no key to verify with")
    for file in files:
        with explained():
            data, line = read_artifact(file), read_signature(file)
            try:
                signer = keys.check(None, data, line)
                keys.check(version_of(data), data, line)
            except ArtifactRejected as error:
                raise ArtifactRejected(f"{file}: {error}") from error
        click.echo(f"{file} is signed by {signer}")


def version_of(data: bytes) -> str:
    """Return the version of an artefact of any kind.

    Raises:
        ArtifactRejected: It is none.
    """
    problems: dict[str, None] = {}
    for form in FORMS:
        try:
            return str(form.read(data)[0].version)
        except ArtifactRejected as error:
            problems[str(error)] = None
    raise ArtifactRejected("; ".join(problems))
