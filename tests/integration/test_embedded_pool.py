import asyncio
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from gateway.embedded.process import EmbeddedPool
from gateway.embedded.variants import embedded_models, embedded_provider_settings
from gateway.embedded.weights import find_weights
from gateway.errors import ProviderTimeout
from gateway.providers.base import UpstreamCall
from gateway.providers.factory import build_providers
from gateway.providers.http import HttpClient
from gateway.settings.config import EmbeddedSettings, process_environment
from tests.fakes.patience import PATIENCE_S

HI = {"messages": [{"role": "user", "content": "Say hi."}], "max_tokens": 4, "temperature": 0}
ROOT = Path(__file__).resolve().parents[2]
PARENT = """
import asyncio, sys
from pathlib import Path
from gateway.settings.config import EmbeddedSettings, process_environment
from gateway.embedded.process import EmbeddedPool
from gateway.embedded.weights import find_weights

async def main():
    settings = EmbeddedSettings(threads=1)
    pool = EmbeddedPool(find_weights(settings), settings, Path(sys.argv[1]), process_environment())
    await pool.start()
    await pool.wait_ready(120)
    print(pool.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def restarts() -> "asyncio.Queue[None]":
    return asyncio.Queue()


@pytest.fixture
async def pool(tmp_path: Path, restarts: "asyncio.Queue[None]") -> AsyncIterator[EmbeddedPool]:
    settings = EmbeddedSettings(threads=1)
    pool = EmbeddedPool(
        find_weights(settings),
        settings,
        tmp_path / "embedded.log",
        process_environment(),
        on_restart=lambda: restarts.put_nowait(None),
    )
    await pool.start()
    assert await pool.wait_ready(PATIENCE_S), pool.problem
    yield pool
    await pool.aclose()


@pytest.fixture
async def http(pool: EmbeddedPool) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"authorization": f"Bearer {pool.api_key}"}
    async with httpx2.AsyncClient(
        base_url=pool.base_url, headers=headers, timeout=PATIENCE_S
    ) as client:
        yield client


async def test_a_real_model_answers_with_usage(http: httpx2.AsyncClient) -> None:
    response = await http.post("/chat/completions", json=HI)
    answer = response.json()
    assert response.status_code == 200
    assert answer["choices"][0]["message"]["content"]
    assert answer["usage"]["completion_tokens"] > 0


async def test_a_real_model_streams_and_reports_usage(http: httpx2.AsyncClient) -> None:
    body = HI | {"stream": True, "stream_options": {"include_usage": True}}
    async with http.stream("POST", "/chat/completions", json=body) as response:
        events = [line[6:] async for line in response.aiter_lines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert any(chunk["choices"] and chunk["choices"][0]["delta"].get("content") for chunk in chunks)
    assert chunks[-1]["usage"]["completion_tokens"] > 0


async def test_a_stream_of_a_real_model_ends_at_its_deadline(pool: EmbeddedPool) -> None:
    models = embedded_models(8192).values()
    body = HI | {"max_tokens": 4_000, "ignore_eos": True, "temperature": 1.0}
    tables = {"embedded": embedded_provider_settings(pool.base_url, pool.api_key)}
    http = HttpClient.open()
    provider = build_providers(tables, http)["embedded"]
    give_up_s = time.monotonic() + PATIENCE_S
    call = UpstreamCall(next(iter(models)), body, give_up_s, "req-1", stream_limit_s=0.2)

    with pytest.raises(ProviderTimeout, match=r"did not end its answer within 0\.2 s"):
        async with provider.stream(call) as stream:
            _ = [events async for events in stream]

    assert not stream.is_complete
    await http.aclose()


async def test_answers_only_to_the_gateways_key(pool: EmbeddedPool) -> None:
    async with httpx2.AsyncClient(base_url=pool.base_url, timeout=PATIENCE_S) as stranger:
        response = await stranger.post("/chat/completions", json=HI)
    assert response.status_code == 401


async def test_a_killed_child_comes_back_and_answers(
    pool: EmbeddedPool, http: httpx2.AsyncClient, restarts: "asyncio.Queue[None]"
) -> None:
    killed = pool.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    await asyncio.wait_for(restarts.get(), PATIENCE_S)
    assert await pool.wait_ready(PATIENCE_S), pool.problem
    assert pool.pid != killed
    assert (await http.post("/chat/completions", json=HI)).status_code == 200


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="watches the process as Linux can")
def test_the_child_dies_with_its_parent(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "log")], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert parent.stdout is not None
    child = os.pidfd_open(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    has_ended, _, _ = select.select([child], [], [], PATIENCE_S)
    os.close(child)
    assert has_ended
