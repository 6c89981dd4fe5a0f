"""A real llama.cpp with a real adapter: it changes the model it is announced as, no other."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from gateway.access.keys import ensure_first_key
from gateway.app import open_gateway
from gateway.artifacts.store import adapter_store
from gateway.artifacts.trust import ANYBODY, Trust, public_text
from gateway.cli import cli
from gateway.embedded.weights import find_weights
from gateway.settings.config import EmbeddedSettings, GatewaySettings, process_environment
from gateway.startup import prepare
from router_models.artifacts.adapter import BaseModel
from tests.fakes.adapters import adapter_weights, sealed_adapter
from tests.fakes.patience import PATIENCE_S
from tests.fakes.server import serve
from tests.fakes.signing import OPERATOR, key_file, trust_in

BASE = "smollm2-135m"
TUNED = "smollm2-135m-tuned"
WIDTH = 576
QUESTION = "Tell me in one sentence what the sea is like in the winter of a northern country."


def embed(folder: Path, trust: Trust = ANYBODY, artifacts: str = "") -> tuple[str, Result]:
    """Keep an adapter of much weight in `folder` and embed it; returns its version too."""
    modules = [f"model.layers.{layer}.self_attn.o_proj" for layer in range(10, 20)]
    weights = adapter_weights(modules, width=WIDTH)
    weights = {name: one * np.float32(0.05) for name, one in weights.items()}
    base = BaseModel(find_weights(EmbeddedSettings()).name, "ab" * 32)
    sealed = sealed_adapter(base=base, weights=weights, alpha=2)
    store = replace(adapter_store(GatewaySettings(data_dir=folder)), trust=trust)
    version = store.put_own(sealed).version
    config = folder / "waypost.toml"
    config.write_text(f'data_dir = "{folder}"\n{artifacts}')
    arguments = ["reasoner", "embed", version, "--name", TUNED, "--config", str(config)]
    return version, CliRunner().invoke(cli, arguments)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data directory in which an adapter of much weight is announced."""
    _, embedded = embed(tmp_path)
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
    headers = {"authorization": f"Bearer {ensure_first_key(startup.engine)}"}
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


def test_a_file_made_for_the_embedded_pool_is_signed_where_signatures_are_asked_for(tmp_path):
    trust = trust_in(OPERATOR, signing_key=key_file(tmp_path))
    trusted = f'[artifacts]\ntrusted_keys = {{ ops = "{public_text(OPERATOR)}" }}\n'

    version, refused = embed(tmp_path, trust, trusted)
    assert "set artifacts.signing_key" in refused.output
    file = tmp_path / "adapters" / f"{version}.gguf"
    assert not file.exists()

    _, embedded = embed(tmp_path, trust, f'{trusted}signing_key = "{trust.signing_key}"\n')
    assert embedded.exit_code == 0, embedded.output
    trust.check_file(file.name, file.read_bytes(), file)
