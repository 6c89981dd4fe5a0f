import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.artifacts.active import ActiveRouter
from gateway.artifacts.store import ArtifactStore
from gateway.providers.refusals import Refusals
from gateway.routing.exploring import Exploring, always
from gateway.routing.routing import Routing
from gateway.settings.config import DEFAULT_PROFILES
from gateway.types import HostedModel
from router_models.decide import Exploration
from tests.fakes.artifacts import ENCODER, router_artifact
from tests.fakes.routing import Embedder, hosted


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path)


@pytest.fixture
def routing(store: ArtifactStore) -> Callable[..., Any]:
    async def build(
        *models: HostedModel,
        with_router: bool = True,
        exploration: Exploration | Exploring = Exploration(),  # noqa: B008 (immutable)
        **changes: Any,
    ) -> Routing:
        if isinstance(exploration, Exploration):
            exploration = Exploring(exploration, always, None)
        pool = models or (hosted("small"), hosted("large"))
        if with_router:
            store.activate(store.put(router_artifact()).version)
        router = ActiveRouter(store, ENCODER)
        await router.refresh()
        return Routing(
            **{
                "models": {model.name: model for model in pool},
                "profiles": DEFAULT_PROFILES,
                "default_profile": "balanced",
                "default_model": pool[-1].name,
                "exploration": exploration,
                "embedder": Embedder(),
                "router": router,
                "paused": tuple,
                "refusals": Refusals(time.monotonic),
                "rng": np.random.default_rng(0),
                **changes,
            }
        )

    return build
