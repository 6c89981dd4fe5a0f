"""The server that hosts a model of the settings, as one that loads adapters."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import httpx2

from gateway.artifacts.store import adapter_store
from gateway.pool.adapter_hosts import AdapterHost, VllmServer
from gateway.pool.announcements import AnnouncementFile
from gateway.settings.config import GatewaySettings

LOAD_TIMEOUT_S = 300.0


@contextmanager
def open_host(
    settings: GatewaySettings, model: str, folder: Path | None = None, seen_as: str | None = None
) -> Iterator[AdapterHost]:
    """Lend the host of `model`.

    Args:
        settings: Name its provider.
        model: One of the settings'.
        folder: Where adapters are put for it.
        seen_as: That folder as the server sees it; the same by default.
    """
    if model not in settings.models:
        known = ", ".join(settings.models) or "none"
        raise click.UsageError(f"--model: no model {model!r} in the settings; known: {known}")
    provider = settings.providers[settings.models[model].provider]
    headers = {name: value.get_secret_value() for name, value in provider.headers.items()}
    if provider.api_key is not None:
        headers["authorization"] = f"Bearer {provider.api_key.get_secret_value()}"
    store = adapter_store(settings)
    shared = (folder or store.folder / "served").absolute()
    with httpx2.Client(
        base_url=provider.base_url.rstrip("/") + "/",
        headers=headers,
        timeout=httpx2.Timeout(LOAD_TIMEOUT_S, connect=provider.connect_timeout_s),
    ) as http:
        yield AdapterHost(
            server=VllmServer(http),
            folder=shared,
            seen_as=seen_as or str(shared),
            announced=AnnouncementFile(store.folder),
            # Twice, as a gateway may just have looked.
            wait=lambda: time.sleep(2 * settings.routing.artifact_poll_s),
        )
