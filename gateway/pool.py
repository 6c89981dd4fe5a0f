"""Which models this gateway hosts: those configured, those discovered, those that run embedded."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.catalogue import build_models
from gateway.config import ConfigurationError, GatewaySettings, ProviderSettings
from gateway.discovery import discover
from gateway.embedded.process import LOG_NAME, EmbeddedPool
from gateway.embedded.variants import EMBEDDED_PROVIDER, embedded_models, embedded_provider_settings
from gateway.embedded.weights import EmbeddedUnavailable, find_weights
from gateway.providers.http import HttpClient
from gateway.types import HostedModel


@dataclass(frozen=True, slots=True)
class Pool:
    """The models callers can name and the router can choose.

    Attributes:
        embedded: The child process that serves the embedded models; None where none run.
        notes: What the operator should know, a sentence each.
    """

    providers: Mapping[str, ProviderSettings]
    models: Mapping[str, HostedModel]
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
    models = dict(build_models(settings, discovered))
    providers = dict(settings.providers)
    if discovered is not None:
        providers |= discovered.providers
    embedded = _embedded(settings, environ, log_dir, notes)
    if embedded is not None:
        models |= embedded_models(settings.embedded.context_tokens)
        providers[EMBEDDED_PROVIDER] = embedded_provider_settings(
            embedded.base_url, embedded.api_key, embedded.max_concurrency
        )
    if not models:
        raise ConfigurationError(
            "There is no model to serve. Configure one, set a provider's API key, or install the "
            f"embedded pool. {' '.join(notes)}"
        )
    return Pool(providers, models, embedded, tuple(notes))


def _embedded(
    settings: GatewaySettings, environ: Mapping[str, str], log_dir: Path, notes: list[str]
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
    return EmbeddedPool(weights, settings.embedded, log_dir / LOG_NAME, environ)
