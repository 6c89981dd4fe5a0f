"""`waypost reasoner train`, with answers drawn on a server that loads adapters as vLLM does."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from click.testing import CliRunner, Result

from gateway.artifacts.store import adapter_store
from gateway.cli import cli
from gateway.federation.reasoner.rollouts import CurrentAdapters
from gateway.pool.adapter_hosts import AdapterHost, VllmServer
from gateway.pool.announcements import AnnouncementFile
from gateway.settings.config import GatewaySettings
from router_models.artifacts.adapter import load
from tests.fakes.adapters import sealed_adapter
from tests.fakes.digits import library_tokenizer
from tests.fakes.language_models import tiny_model
from tests.fakes.patience import PATIENCE_S
from tests.fakes.server import serve
from tests.fakes.vllm import BASE, KEY, FakeVllm

# peft asks a transformers model by a name that transformers 5 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

LOAD = "/v1/load_lora_adapter"
CHAT = "/v1/chat/completions"


@pytest.fixture
def vllm() -> FakeVllm:
    return FakeVllm()


@pytest.fixture
async def url(vllm: FakeVllm) -> AsyncIterator[str]:
    async with serve(vllm, lifespan="off") as url:
        yield f"{url}/v1"


@pytest.fixture
def arguments(url: str, tmp_path: Path) -> list[str]:
    tokenizer = library_tokenizer()
    tiny_model(seed=3, n_tokens=len(tokenizer)).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    prompt = {"query_id": "1", "text": "1", "verifier": {"kind": "regex", "pattern": "[01]"}}
    (tmp_path / "prompts.jsonl").write_text(json.dumps(prompt))
    (tmp_path / "waypost.toml").write_text(
        f'data_dir = "{tmp_path}"\n[providers.vllm]\nbase_url = "{url}"\napi_key = "{KEY}"\n'
        f'[models.base]\nprovider = "vllm"\nupstream_name = "{BASE}"\n'
        "price = { input_usd_per_mtok = 1, output_usd_per_mtok = 1 }\n"
    )
    given = ("prompts.jsonl", "--base", "base", "--config", "waypost.toml")
    paths = [str(tmp_path / one) if not one.startswith("--") else one for one in given]
    small = ["--rank", "2", "--steps", "2", "--group-size", "3", "--prompts-per-step", "1"]
    return ["reasoner", "train", *paths, *small, "--rollouts-on", "base"]


async def train(arguments: list[str]) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, cli, arguments)


async def test_the_server_draws_with_the_adapters_and_then_forgets_them(vllm, arguments, tmp_path):
    result = await train(arguments)

    assert result.exit_code == 0, result.output
    assert vllm.calls[0] == LOAD
    assert vllm.calls.count(CHAT) == 2 * 3
    assert vllm.adapters == {}
    served = adapter_store(GatewaySettings(data_dir=tmp_path)).folder / "served"
    assert list(served.iterdir()) == []
    assert len(adapter_store(GatewaySettings(data_dir=tmp_path)).list_all()) == 1


async def test_says_why_the_server_draws_no_answers(vllm, arguments):
    vllm.allows_updates = False
    result = await train(arguments)

    assert result.exit_code == 1
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" in result.output


async def test_the_server_has_the_latest_adapters_and_no_others(vllm, url, tmp_path):
    sealed = [sealed_adapter(seed=seed) for seed in (1, 1, 2)]
    headers = {"authorization": f"Bearer {KEY}"}

    def announce_all() -> list[str]:
        with httpx2.Client(
            base_url=f"{url}/", headers=headers, timeout=PATIENCE_S, trust_env=False
        ) as http:
            file = AnnouncementFile(tmp_path)
            host = AdapterHost(VllmServer(http), tmp_path, str(tmp_path), file, lambda: None)
            current = CurrentAdapters(host, iter(sealed).__next__)
            return [current.announce() for _ in sealed]

    names = await asyncio.to_thread(announce_all)
    assert names == [load(one).version for one in sealed]
    assert vllm.calls.count(LOAD) == 2
    assert set(vllm.adapters) == {names[-1]}
