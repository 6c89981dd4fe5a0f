"""Adapters that a vLLM server loads while it runs, and a real gateway then offers."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from click.testing import CliRunner

from gateway.artifacts.store import adapter_store
from gateway.cli import cli
from gateway.pool.adapter_hosts import AdapterHost, HostRefused, VllmServer
from gateway.pool.announcements import AnnouncementFile, OfferedModels
from gateway.settings.config import GatewaySettings
from router_models.artifacts.adapter import Adapter, load
from router_models.errors import ArtifactRejected
from tests.fakes.adapters import adapter_weights, sealed_adapter
from tests.fakes.gateway import PRICE, running_gateway
from tests.fakes.patience import PATIENCE_S
from tests.fakes.server import serve
from tests.fakes.turns import until
from tests.fakes.vllm import BASE, KEY, FakeVllm

FIRST = load(sealed_adapter(seed=1))
SECOND = load(sealed_adapter(seed=2))


@dataclass
class Site:
    """A gateway, its vLLM server, and what an operator announces with."""

    vllm: FakeVllm
    host: AdapterHost
    client: openai.AsyncOpenAI
    offered: OfferedModels

    async def announce(self, adapter: Adapter, name: str = "maths"):
        return await asyncio.to_thread(self.host.announce, adapter, name, "base")

    async def answer(self, model: str = "maths") -> str | None:
        asked: list[Any] = [{"role": "user", "content": "6 x 7?"}]
        answer = await self.client.chat.completions.create(model=model, messages=asked)
        return answer.choices[0].message.content

    async def offers(self, adapter: Adapter | None, name: str = "maths") -> None:
        """Wait until the gateway has read that `name` is this adapter, or none."""
        version = None if adapter is None else adapter.version
        await until(lambda: getattr(self.offered.get(name), "upstream_name", None) == version)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    vllm = FakeVllm()
    announced = AnnouncementFile(adapter_store(GatewaySettings(data_dir=tmp_path)).folder)
    async with serve(vllm, lifespan="off") as url:
        limits = {"max_retries": 0}
        provider = {"base_url": f"{url}/v1", "api_key": KEY, **limits}
        model = {"provider": "vllm", "upstream_name": BASE, "price": PRICE}
        with httpx2.Client(
            base_url=f"{url}/v1/",
            headers={"authorization": f"Bearer {KEY}"},
            timeout=PATIENCE_S,
            trust_env=False,
        ) as http:
            server = VllmServer(http)
            shared = tmp_path / "shared"
            host = AdapterHost(server, shared, f"{shared}/", announced, wait=lambda: None)
            async with (
                running_gateway(
                    tmp_path,
                    keeps_store=True,
                    providers={"vllm": provider},
                    models={"base": model},
                    profiles={},
                ) as gateway,
                openai.AsyncOpenAI(
                    base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0
                ) as client,
            ):
                yield Site(vllm, host, client, gateway.app.pool.models)


async def test_an_announced_adapter_answers_under_its_name_and_its_base_as_before(site):
    assert await site.announce(FIRST) is None
    await site.offers(FIRST)

    assert await site.answer() == f"answered by {FIRST.version}"
    assert await site.answer("base") == f"answered by {BASE}"
    assert [model.id async for model in site.client.models.list()][-1] == "maths"


async def test_a_new_version_takes_the_name_and_the_old_one_is_unloaded(site):
    await site.announce(FIRST)
    before = await site.announce(SECOND)

    assert before is not None
    assert before.version == FIRST.version
    assert set(site.vllm.adapters) == {SECOND.version}
    await site.offers(SECOND)
    assert await site.answer() == f"answered by {SECOND.version}"


async def test_going_back_is_to_announce_the_earlier_version_again(site):
    for adapter in (FIRST, SECOND, FIRST):
        await site.announce(adapter)

    assert set(site.vllm.adapters) == {FIRST.version}


async def test_announcing_the_same_again_loads_it_where_the_server_has_forgotten_it(site):
    await site.announce(FIRST)
    await site.announce(FIRST)
    assert site.vllm.calls.count("/v1/load_lora_adapter") == 1

    site.vllm.adapters.clear()
    await site.announce(FIRST)
    assert set(site.vllm.adapters) == {FIRST.version}


async def test_an_adapter_with_two_names_stays_until_neither_is_announced(site):
    await site.announce(FIRST, "maths")
    await site.announce(FIRST, "algebra")

    await asyncio.to_thread(site.host.withdraw, "maths")
    assert set(site.vllm.adapters) == {FIRST.version}
    await asyncio.to_thread(site.host.withdraw, "algebra")
    assert site.vllm.adapters == {}


async def test_a_withdrawn_adapter_is_not_found(site):
    await site.announce(FIRST)
    await site.offers(FIRST)

    await asyncio.to_thread(site.host.withdraw, "maths")
    await site.offers(None)
    with pytest.raises(openai.NotFoundError):
        await site.answer()


async def test_says_how_to_start_a_server_that_loads_no_adapters(site):
    site.vllm.allows_updates = False

    with pytest.raises(HostRefused, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"):
        await site.announce(FIRST)
    assert site.host.announced.read() == ()


async def test_says_in_the_server_s_words_why_it_refuses(site):
    too_wide = load(sealed_adapter(weights=adapter_weights(rank=32, width=40)))

    with pytest.raises(HostRefused, match="400: LoRA rank 32 is greater than max_lora_rank 16"):
        await site.announce(too_wide)
    assert site.host.announced.read() == ()


async def test_a_server_that_cannot_be_reached_changes_nothing(site):
    with httpx2.Client(base_url="http://127.0.0.1:9/v1/", trust_env=False) as http:
        site.host = AdapterHost(
            VllmServer(http), site.host.folder, "x", site.host.announced, lambda: None
        )
        with pytest.raises(HostRefused, match="cannot be reached"):
            await site.announce(FIRST)
    assert site.host.announced.read() == ()


async def test_what_cannot_be_announced_is_unloaded_again(site):
    site.host.announced.folder.mkdir(parents=True, exist_ok=True)
    site.host.announced.path.write_text("{")

    with pytest.raises(ArtifactRejected):
        await site.announce(FIRST)
    assert site.vllm.adapters == {}


async def test_what_served_before_goes_on_when_its_successor_is_refused(site):
    await site.announce(FIRST)
    site.vllm.allows_updates = False

    with pytest.raises(HostRefused):
        await site.announce(SECOND)
    await site.offers(FIRST)
    assert await site.answer() == f"answered by {FIRST.version}"


async def test_says_when_an_adapter_cannot_be_unloaded(site):
    await site.announce(FIRST)
    site.vllm.refuses_unload = True

    with pytest.raises(HostRefused, match="cannot be found"):
        await asyncio.to_thread(site.host.withdraw, "maths")
    await site.offers(None)


async def test_an_operator_announces_and_withdraws_on_the_command_line(site, tmp_path):
    for seed in (1, 2):
        adapter_store(GatewaySettings(data_dir=tmp_path)).put(sealed_adapter(seed=seed))
    base_url = str(site.host.server.http.base_url).rstrip("/")
    config = tmp_path / "waypost.toml"
    config.write_text(
        f'data_dir = "{tmp_path}"\n[routing]\nartifact_poll_s = 0.01\n'
        f'[providers.vllm]\nbase_url = "{base_url}"\napi_key = "{KEY}"\n[models.base]\n'
        'provider = "vllm"\nprice = { input_usd_per_mtok = 1, output_usd_per_mtok = 1 }\n'
    )

    async def waypost(*arguments: str) -> str:
        given = ["reasoner", *arguments, "--config", str(config)]
        result = await asyncio.to_thread(CliRunner().invoke, cli, given)
        assert result.exit_code == 0, result.output
        return result.output

    named = ("--model", "base", "--name", "maths")
    assert "maths is lora-" in await waypost("announce", FIRST.version, *named)
    await site.offers(FIRST)
    assert await site.answer() == f"answered by {FIRST.version}"

    assert f"before, it was {FIRST.version}" in await waypost("announce", SECOND.version, *named)
    await site.offers(SECOND)

    assert "offered no longer" in await waypost("withdraw", "maths")
    await site.offers(None)
    assert site.vllm.adapters == {}
