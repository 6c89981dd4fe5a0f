import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.embedded import process
from gateway.embedded.process import EmbeddedPool, PoolTiming
from gateway.settings.config import EmbeddedSettings
from tests.fakes import embedded_child
from tests.fakes.patience import PATIENCE_S

QUICK = PoolTiming(
    starting_poll_s=0.01,
    health_interval_s=0.02,
    health_timeout_s=PATIENCE_S,
    health_failures=2,
    load_timeout_s=PATIENCE_S,
    first_restart_s=0.01,
    last_restart_s=0.02,
    stable_s=0.0,
    stop_s=0.2,
)
ENVIRON = {"PATH": os.environ["PATH"], "OPENAI_API_KEY": "secret"}
Opener = Callable[..., Awaitable[EmbeddedPool]]


@pytest.fixture
def restarts() -> "asyncio.Queue[None]":
    return asyncio.Queue()


@pytest.fixture
async def open_pool(tmp_path: Path, restarts: "asyncio.Queue[None]") -> AsyncIterator[Opener]:
    async with AsyncExitStack() as stack:

        async def start(behaviour: str, timing: PoolTiming = QUICK) -> EmbeddedPool:
            child = (sys.executable, str(embedded_child.__file__), behaviour)
            pool = EmbeddedPool(
                tmp_path / "model.gguf",
                EmbeddedSettings(),
                tmp_path / "logs" / "embedded.log",
                ENVIRON,
                timing=timing,
                command=child,
                on_restart=lambda: restarts.put_nowait(None),
            )
            await pool.start()
            stack.push_async_callback(pool.aclose)
            return pool

        yield start


async def test_serves_at_an_address_known_before_the_child_is(open_pool: Opener) -> None:
    pool = await open_pool("serve")
    address = pool.base_url
    assert not pool.is_ready
    assert await pool.wait_ready(PATIENCE_S)
    assert pool.base_url == address
    assert pool.problem is None


async def test_starting_twice_starts_one_child(open_pool: Opener) -> None:
    pool = await open_pool("serve")
    assert await pool.wait_ready(PATIENCE_S)
    child = pool.pid
    await pool.start()
    assert pool.pid == child


async def test_a_killed_child_comes_back_at_the_same_address(
    open_pool: Opener, restarts: "asyncio.Queue[None]"
) -> None:
    pool = await open_pool("serve")
    assert await pool.wait_ready(PATIENCE_S)
    first, address = pool.pid, pool.base_url
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await restarts.get()
    assert await pool.wait_ready(PATIENCE_S)
    assert pool.pid != first
    assert pool.base_url == address


async def test_a_child_that_cannot_start_is_tried_again_and_reported(
    open_pool: Opener, restarts: "asyncio.Queue[None]"
) -> None:
    pool = await open_pool("fail")
    await restarts.get()
    await restarts.get()
    assert pool.restarts >= 2
    assert not await pool.wait_ready(0.01)
    assert "ended with status 7" in str(pool.problem)
    assert str(pool.log_file) in str(pool.problem)


async def test_a_missing_program_is_tried_again_and_reported(
    tmp_path: Path, restarts: "asyncio.Queue[None]"
) -> None:
    command = (str(tmp_path / "absent"),)
    pool = EmbeddedPool(
        tmp_path,
        EmbeddedSettings(),
        tmp_path / "log",
        {},
        timing=QUICK,
        command=command,
        on_restart=lambda: restarts.put_nowait(None),
    )
    await pool.start()
    await restarts.get()
    await pool.aclose()
    assert "cannot be started" in str(pool.problem)


async def test_a_child_that_never_gets_ready_is_replaced(
    open_pool: Opener, restarts: "asyncio.Queue[None]"
) -> None:
    pool = await open_pool("never-ready", replace(QUICK, load_timeout_s=0.5))
    await restarts.get()
    assert "was not ready after 0.5 s" in str(pool.problem)


async def test_a_child_that_stops_answering_is_replaced(
    open_pool: Opener, restarts: "asyncio.Queue[None]"
) -> None:
    pool = await open_pool("ready-once")
    await restarts.get()
    assert "did not answer 2 health checks" in str(pool.problem)


async def test_a_child_that_does_not_leave_is_killed(open_pool: Opener) -> None:
    pool = await open_pool("stubborn")
    assert await pool.wait_ready(PATIENCE_S)
    child = pool.pid
    assert child is not None
    await pool.aclose()
    assert pool.pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


async def test_the_child_sees_none_of_the_gateways_secrets(open_pool: Opener) -> None:
    pool = await open_pool("serve")
    assert await pool.wait_ready(PATIENCE_S)
    log = pool.log_file.read_text()
    assert "PATH" in log
    assert "OPENAI_API_KEY" not in log


async def test_a_long_log_is_put_aside(
    open_pool: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "MAX_LOG_BYTES", 3)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "embedded.log").write_text("old words")
    pool = await open_pool("serve")
    assert await pool.wait_ready(PATIENCE_S)
    assert (tmp_path / "logs" / "embedded.old.log").read_text() == "old words"
    assert "old words" not in pool.log_file.read_text()


async def test_the_port_is_free_again_after_the_end(open_pool: Opener) -> None:
    pool = await open_pool("serve")
    assert await pool.wait_ready(PATIENCE_S)
    port = int(pool.base_url.rsplit(":", 1)[1].removesuffix("/v1"))
    await pool.aclose()
    await pool.aclose()
    with socket.socket() as taker:
        taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taker.bind(("127.0.0.1", port))


async def test_works_where_ports_cannot_be_shared(
    open_pool: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    pool = await open_pool("serve")
    assert await pool.wait_ready(PATIENCE_S)


async def test_closing_before_starting_is_harmless(tmp_path: Path) -> None:
    pool = EmbeddedPool(tmp_path, EmbeddedSettings(), tmp_path / "log", {})
    await pool.aclose()
    assert pool.pid is None


@pytest.mark.parametrize(
    ("wanted", "cores", "used"), [(2, 8, 2), (2, 2, 1), (2, 1, 1), (16, 8, 7), (1, 8, 1)]
)
def test_leaves_a_core_to_the_gateway(wanted: int, cores: int, used: int) -> None:
    assert process.usable_threads(wanted, cores) == used


@pytest.mark.parametrize("steps", range(5), ids="{} steps later".format)
async def test_a_health_check_that_succeeds_as_the_pool_closes_does_not_keep_it_open(
    open_pool: Opener, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    asked, answer = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def status(_: int) -> bytes:
        asked.set()
        return await asyncio.shield(answer)

    monkeypatch.setattr(process, "_health_status", status)
    pool = await open_pool("serve")
    await asked.wait()
    answer.set_result(b"HTTP/1.1 200 OK")
    for _ in range(steps):
        await asyncio.sleep(0)
    closing = asyncio.create_task(pool.aclose())
    done, _ = await asyncio.wait({closing}, timeout=2)
    assert done, "closing waits for a process that is watched for ever"
