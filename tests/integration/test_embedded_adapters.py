"""A real llama.cpp with a real adapter: it changes the model it is announced as, no other."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
from click.testing import CliRunner

from gateway.app import open_gateway
from gateway.artifacts.store import adapter_store
from gateway.cli import cli
from gateway.embedded.weights import find_weights
from gateway.settings.config import EmbeddedSettings, GatewaySettings, process_environment
from gateway.startup import prepare
from router_models.artifacts.adapter import BaseModel
from tests.fakes.adapters import adapter_weights, sealed_adapter
from tests.fakes.patience import PATIENCE_S
from tests.fakes.server import serve

BASE = "smollm2-135m"
TUNED = "smollm2-135m-tuned"
WIDTH = 576
QUESTION = "Tell me in one sentence what the sea is like in the winter of a northern country."


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data directory in which an adapter of much weight is announced."""
    modules = [f"model.layers.{layer}.self_attn.o_proj" for layer in range(10, 20)]
    weights = adapter_weights(modules, width=WIDTH)
    weights = {name: one * np.float32(0.05) for name, one in weights.items()}
    base = BaseModel(find_weights(EmbeddedSettings()).name, "ab" * 32)
    sealed = sealed_adapter(base=base, weights=weights, alpha=2)
    version = adapter_store(tmp_path).put(sealed).version
    config = tmp_path / "waypost.toml"
    config.write_text(f'data_dir = "{tmp_path}"\n')
    arguments = ["reasoner", "embed", version, "--name", TUNED, "--config", str(config)]
    embedded = CliRunner().invoke(cli, arguments)
    assert embedded.exit_code == 0, embedded.output
    return tmp_path


@pytest.fixture
async def http(data_dir: Path) -> AsyncIterator[httpx2.AsyncClient]:
    settings = GatewaySettings.model_validate(
        {
            "data_dir": data_dir,
            "routing": {"encoder": "static"},
            "embedded": {"enabled": True, "threads": 1},
        }
    )
    startup = prepare(settings)
    assert startup.new_key is not None
    headers = {"authorization": f"Bearer {startup.new_key}"}
    async with (
        open_gateway(settings, process_environment(), startup) as gateway,
        serve(gateway.public, lifespan="off") as url,
        httpx2.AsyncClient(
            base_url=url, headers=headers, timeout=PATIENCE_S, trust_env=False
        ) as http,
    ):
        assert gateway.pool.embedded is not None
        assert await gateway.pool.embedded.wait_ready(PATIENCE_S), gateway.pool.embedded.problem
        yield http
    startup.engine.dispose()


async def answer(http: httpx2.AsyncClient, model: str, text: str = QUESTION) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 10}
    response = await http.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    said: str = response.json()["choices"][0]["message"]["content"]
    return said


async def test_an_announced_adapter_is_a_model_of_its_own_and_changes_no_other(http):
    listed = {model["id"] for model in (await http.get("/v1/models")).json()["data"]}
    assert {BASE, TUNED} <= listed

    before = await answer(http, BASE)
    tuned = await answer(http, TUNED)
    # Each of these could go on from what the other left in llama.cpp's caches.
    await answer(http, TUNED, "What is bread made of?")
    again = [await answer(http, model) for model in (BASE, TUNED, BASE, TUNED)]

    assert before != tuned
    assert again == [before, tuned, before, tuned]
