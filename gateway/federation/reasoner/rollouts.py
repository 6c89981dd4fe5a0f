"""Where a model that is tuned draws its answers: here, or on a vLLM server."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from peft import PeftModel

from federation.reasoner.lora import lora_weights
from federation.reasoner.rollouts import LocalSampler, Sampler
from federation.reasoner.server_sampler import ServerSampler
from federation.reasoner.settings import ReasonerSettings
from gateway.federation.reasoner.bases import Base
from gateway.federation.reasoner.hosts import open_host
from gateway.pool.adapter_hosts import AdapterHost, write_folder
from gateway.settings.config import GatewaySettings
from router_models.artifacts.adapter import dump, load


@dataclass(frozen=True, slots=True)
class Place:
    """Where answers are drawn.

    Attributes:
        model: Of the settings, whose vLLM server draws; None draws here.
        folder: As in `waypost reasoner announce`.
        server_folder: Likewise.
    """

    model: str | None
    folder: Path | None
    server_folder: str | None


@contextmanager
def open_sampler(
    settings: GatewaySettings, place: Place, base: Base, model: PeftModel, learned: ReasonerSettings
) -> Iterator[Sampler]:
    """Lend what draws answers from `model` as it is now.

    Raises:
        HostRefused: The server does not unload the last adapters.
    """
    if place.model is None:
        yield LocalSampler(model, base.tokenizer, learned)
        return

    begun_at = datetime.now(UTC)  # one time for all: equal adapters have equal names

    def seal() -> bytes:
        return dump(
            lora_weights(model),
            base.identity,
            alpha=learned.lora_alpha,
            created_at=begun_at,
            training={},
            provenance={},
        )

    with open_host(settings, place.model, place.folder, place.server_folder) as host:
        current = CurrentAdapters(host, seal)
        try:
            yield ServerSampler(host.server.http, current.announce, base.tokenizer, learned)
        finally:
            current.clear()


@dataclass(slots=True, eq=False)
class CurrentAdapters:
    """Keeps a server at the adapters as they are now, and only at those.

    Attributes:
        host: Loads them.
        seal: Makes an artefact of them.
        served: The version that the server has of them.
    """

    host: AdapterHost
    seal: Callable[[], bytes]
    served: str | None = None

    def announce(self) -> str:
        """Have the server load them; returns their name there.

        Raises:
            HostRefused: It did not.
        """
        adapter = load(self.seal())
        write_folder(adapter, self.host.folder / adapter.version)
        seen_as = f"{self.host.seen_as.rstrip('/')}/{adapter.version}"
        self.host.server.load(adapter.version, seen_as)
        if self.served != adapter.version:
            self.clear()
        self.served = adapter.version
        return adapter.version

    def clear(self) -> None:
        """Have the server forget them.

        Raises:
            HostRefused: It did not.
        """
        if self.served is not None:
            self.host.server.unload(self.served)
            shutil.rmtree(self.host.folder / self.served, ignore_errors=True)
            self.served = None
