"""Which models this gateway hosts: those configured, those discovered, those that run embedded."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.artifacts.store import SealedStore, adapter_store, read_artifact
from gateway.embedded.process import LOG_NAME, EmbeddedPool, adapter_field
from gateway.embedded.variants import EMBEDDED_PROVIDER, embedded_models, embedded_provider_settings
from gateway.embedded.weights import EmbeddedUnavailable, find_weights
from gateway.pool.announcements import GGUF_SUFFIX, AnnouncementFile, OfferedModels
from gateway.pool.catalogue import build_models
from gateway.pool.discovery import discover
from gateway.providers.fields import admitted_fields
from gateway.providers.http import HttpClient
from gateway.settings.config import (
    ConfigurationError,
    EmbeddedSettings,
    GatewaySettings,
    ProviderSettings,
)
from gateway.types import HostedModel
from router_models.artifacts.adapter import AdapterManifest
from router_models.errors import ArtifactRejected


@dataclass(frozen=True, slots=True)
class Pool:
    """The models callers can name and the router can choose.

    Attributes:
        models: Those that chat, which alone the router can choose.
        others: Those of another kind, which endpoints of their own serve.
        embedded: The child process that serves the embedded models; None where none run.
        notes: What the operator should know, a sentence each.
    """

    providers: Mapping[str, ProviderSettings]
    models: OfferedModels
    others: Mapping[str, HostedModel]
    embedded: EmbeddedPool | None
    notes: tuple[str, ...]


async def open_pool(
    settings: GatewaySettings, environ: Mapping[str, str], http: HttpClient, log_dir: Path
) -> Pool:
    """Assemble the pool; without configured providers the usual environment variables say more.

    Raises:
        ConfigurationError: A model has no price, or there is no model at all.
    """
    notes: list[str] = []
    discovered = None
    if not settings.providers:
        discovered = await discover(environ, http)
        notes.extend(discovered.notes)
    built = build_models(settings, discovered)
    models = {name: model for name, model in built.items() if model.kind == "chat"}
    others = {name: model for name, model in built.items() if model.kind != "chat"}
    providers = dict(settings.providers)
    if discovered is not None:
        providers |= discovered.providers
    store = adapter_store(settings)
    announced = AnnouncementFile(store.folder)
    adapters = _embedded_adapters(store, announced, notes)
    embedded = _embedded(settings, environ, log_dir, adapters.values(), notes)
    if embedded is not None:
        models |= _untuned(settings.embedded, len(adapters))
        providers[EMBEDDED_PROVIDER] = embedded_provider_settings(
            embedded.base_url, embedded.api_key, embedded.max_concurrency
        )
    if not models:
        raise ConfigurationError(
            "There is no model to serve. Configure one, set a provider's API key, or install the "
            f"embedded pool. {' '.join(notes)}"
        )
    tuned = {version: adapter_field(len(adapters), place) for place, version in enumerate(adapters)}
    offered = OfferedModels(models, announced, tuned, EMBEDDED_PROVIDER, store.verify)
    await offered.refresh()
    return Pool(providers, offered, others, embedded, tuple(notes))


def _embedded_adapters(
    store: SealedStore[AdapterManifest], announced: AnnouncementFile, notes: list[str]
) -> dict[str, Path]:
    """Find the announced adapters that llama.cpp can and may load, by version."""
    try:
        versions = dict.fromkeys(one.version for one in announced.read())
    except ArtifactRejected as error:
        notes.append(str(error))
        return {}
    files = {version: announced.folder / f"{version}{GGUF_SUFFIX}" for version in versions}
    found = {version: file for version, file in files.items() if file.is_file()}
    return {version: file for version, file in found.items() if _is_trusted(store, file, notes)}


def _is_trusted(store: SealedStore[AdapterManifest], file: Path, notes: list[str]) -> bool:
    if store.trust.keys:
        try:
            store.trust.check_file(file.name, read_artifact(file), file)
        except ArtifactRejected as error:
            notes.append(f"{file.name} is not loaded: {error}")
            return False
    return True


def _untuned(settings: EmbeddedSettings, n_adapters: int) -> dict[str, HostedModel]:
    """Turn all adapters off in the requests of the models themselves, and let no caller choose."""
    models, attributes = embedded_models(settings.context_tokens), frozenset(settings.attributes)
    off = adapter_field(n_adapters, None)
    fields = admitted_fields("openai", ())
    return {
        name: replace(
            model,
            request_defaults={**model.request_defaults, **off},
            fields=fields,
            attributes=attributes,
        )
        for name, model in models.items()
    }


def _embedded(
    settings: GatewaySettings,
    environ: Mapping[str, str],
    log_dir: Path,
    adapters: Iterable[Path],
    notes: list[str],
) -> EmbeddedPool | None:
    """The embedded pool runs by default where nothing is configured, else when switched on."""
    wanted = settings.embedded.enabled
    if wanted is False or (wanted is None and settings.providers):
        return None
    try:
        weights = find_weights(settings.embedded)
    except EmbeddedUnavailable as error:
        if wanted:
            raise
        notes.append(str(error))
        return None
    return EmbeddedPool(
        weights, settings.embedded, log_dir / LOG_NAME, environ, adapters=tuple(adapters)
    )
