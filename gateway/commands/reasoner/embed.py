"""`waypost reasoner embed`: an adapter as a model of the embedded pool."""

import click

from gateway.artifacts.store import adapter_store
from gateway.commands.artifact_kinds import explained
from gateway.commands.options import settings_option
from gateway.embedded.adapter_file import write_gguf
from gateway.embedded.variants import embedded_models
from gateway.embedded.weights import find_weights
from gateway.federation.reasoner.names import require_free
from gateway.pool.announcements import GGUF_SUFFIX, Announcement, AnnouncementFile
from gateway.settings.config import GatewaySettings
from router_models.artifacts.adapter import load
from router_models.errors import ArtifactRejected


@click.command("embed")
@settings_option
@click.argument("version")
@click.option(
    "--model",
    default="smollm2-135m",
    show_default=True,
    help="Embedded model that the adapter changes.",
)
@click.option("--name", required=True, help="Name by which callers ask for it.")
def command(settings: GatewaySettings, version: str, model: str, name: str) -> None:
    """Offer the adapter VERSION as a model of the embedded pool, from the gateway's next start.

    `waypost reasoner withdraw NAME` takes it back.
    """
    arms = embedded_models()
    if model not in arms:
        raise click.UsageError(f"--model: no embedded model {model!r}; known: {', '.join(arms)}")
    require_free(settings, name)
    store = adapter_store(settings)
    weights = find_weights(settings.embedded)
    with explained():
        adapter = load(store.read(version))
        if adapter.manifest.base_model != weights.name:
            raise ArtifactRejected(
                f"{version} was tuned from {adapter.manifest.base_model}, but the embedded pool "
                f"runs {weights.name}"
            )
        if not store.takes_own:
            raise ArtifactRejected(
                "artifacts.trusted_keys asks for signatures, so the file that is made of it for "
                "the embedded pool has to be signed here: set artifacts.signing_key"
            )
        file = store.folder / f"{version}{GGUF_SUFFIX}"
        write_gguf(adapter, weights, file)
        store.trust.sign_file(file)
        AnnouncementFile(store.folder).put(Announcement(name, model, version))
    click.echo(f"{name} is {version} on {model} from the gateway's next start")
