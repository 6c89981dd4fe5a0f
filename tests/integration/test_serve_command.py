"""The real process: what it prints, what it loads, and how it ends."""

import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from tests.fakes.gateway import SMALL, SteppedUpstream, Upstreams
from tests.fakes.patience import PATIENCE_S
from tests.fakes.processes import CHAT, ROOT, caller, start, stream_across_the_end
from tests.fakes.server import serve
from tests.fakes.turns import until
from tests.fakes.upstream import completion, json_answer, stream_chunks

BODY = {"model": "auto", "messages": [{"role": "user", "content": "Say hello."}]}
STORES = {1: "memory", 2: "redis"}
DONE = b"data: [DONE]\n\n"
SETTINGS = """
data_dir = "{data}"
[server]
port = 0
admin_port = 0
[providers.alpha]
base_url = "{upstream}/alpha/v1"
[models.small]
provider = "alpha"
price = {{ input_usd_per_mtok = 1.0, output_usd_per_mtok = 2.0 }}
[routing]
encoder = "static"
[keys]
read_timeout_s = {patience_s}
[evaluation_log]
flush_interval_s = 0.01
"""


@pytest.fixture
async def upstreams() -> Upstreams:
    return Upstreams()


@pytest.fixture
async def settings_file(tmp_path: Path, upstreams: Upstreams) -> AsyncIterator[Path]:
    async with serve(upstreams, lifespan="off") as url:
        file = tmp_path / "waypost.toml"
        file.write_text(
            SETTINGS.format(patience_s=PATIENCE_S, data=tmp_path / "data", upstream=url)
        )
        yield file


async def test_a_first_start_shows_a_key_that_works_and_later_ones_none(settings_file, upstreams):
    upstreams.by_name["alpha"].answers = [json_answer(completion())]
    async with start(settings_file) as first:
        url = await first.started()
        key = first.key
        assert key is not None
        async with caller(url, key) as http:
            answer = await http.post(CHAT, json=BODY)
            ready = await http.get("/ready")
            stranger = await http.get("/v1/models", headers={"authorization": "Bearer no"})
        assert await first.end(signal.SIGTERM) == 0

    async with start(settings_file) as second:
        url = await second.started()
        async with caller(url, key) as http:
            again = await http.post(CHAT, json=BODY)
        assert await second.end(signal.SIGINT) == 0

    assert answer.status_code == again.status_code == ready.status_code == 200
    assert stranger.status_code == 401
    assert answer.headers["x-waypost-model"] == SMALL
    assert first.printed[-1].startswith("Waypost serves ")
    assert "  models: small\n" in first.printed
    assert second.key is None
    assert key not in "".join(second.printed)


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_start_that_fails_makes_no_key_and_the_next_one_does(
    settings_file, upstreams, workers
):
    settings = settings_file.read_text()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings_file.write_text(
            settings.replace("\nport = 0", f"\nport = {port}\nworkers = {workers}")
            + f'[embedded]\nenabled = false\n[budgets]\nstore = "{STORES[workers]}"\n'
            + 'redis_url = "redis://127.0.0.1:1/0"\n'
        )
        async with start(settings_file) as failing:
            status = await failing.ended()
            said = failing.logged
    settings_file.write_text(settings)
    async with start(settings_file) as serving:
        await serving.started()
        assert serving.key is not None
        assert await serving.end(signal.SIGTERM) == 0

    assert status == 2
    assert "address already in use" in said
    assert "Traceback" not in said
    assert failing.key is None


async def test_a_running_stream_ends_before_the_process_does(settings_file, upstreams):
    upstream = upstreams.by_name["alpha"] = SteppedUpstream()
    async with start(settings_file) as serving:
        received, status = await stream_across_the_end(serving, upstream, BODY)

    assert received.startswith(stream_chunks("Hello!")[0])
    assert received.endswith(DONE)
    assert status == 0
    assert logged(settings_file) == [(None, "stop", 3)]


async def test_what_was_written_outlives_a_kill(settings_file, upstreams):
    upstreams.by_name["alpha"].answers = [json_answer(completion())]
    async with start(settings_file) as serving:
        url = await serving.started()
        key = serving.key
        assert key is not None
        async with caller(url, key) as http:
            answers = [await http.post(CHAT, json=BODY) for _ in range(20)]
        await until(lambda: len(logged(settings_file)) == len(answers))
        assert await serving.end(signal.SIGKILL) == -signal.SIGKILL

    async with start(settings_file) as after:
        url = await after.started()
        async with caller(url, key) as http:
            last = answers[-1].headers["x-request-id"]
            graded = await http.post("/v1/feedback", json={"id": last, "score": 1})
            answered = await http.post(CHAT, json=BODY)
        assert await after.end(signal.SIGTERM) == 0

    assert graded.status_code == 202
    assert answered.status_code == 200
    assert len(logged(settings_file)) == len(answers) + 1


def logged(settings_file: Path) -> list[tuple[str | None, str | None, int | None]]:
    """Read the rows of the log as another process sees them."""
    with sqlite3.connect(settings_file.parent / "data" / "waypost.db") as database:
        rows = database.execute(
            "SELECT error, finish_reason, completion_tokens FROM turns ORDER BY request_id"
        ).fetchall()
    database.close()
    return rows


def loaded_to_serve() -> set[str]:
    program = "import sys, gateway.app, gateway.commands.serve; print(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return set(ended.stdout.split())


def test_threads_of_a_serving_process_let_the_event_loop_in_sooner_than_python_would():
    program = """
import sys
from gateway.commands import serve

async def serving():
    print(sys.getswitchinterval())

serve._run(serving())
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True
    )
    assert float(ended.stdout) < 0.001


def test_a_serving_process_loads_no_training_library():
    training = {"torch", "sklearn", "pyarrow", "matplotlib", "flwr", "scipy", "pandas", "alembic"}
    assert not loaded_to_serve() & training


def test_a_serving_process_loads_no_library_that_only_some_need():
    seldom = {
        "genai_prices",
        "httpx2",
        "jsonschema_rs",
        "sqlalchemy.dialects.postgresql",
        "sqlalchemy.orm",
        "tokenizers",
    }
    assert not loaded_to_serve() & seldom


async def test_a_stream_that_outlasts_the_grace_is_cut_and_logged(settings_file, upstreams):
    upstream = upstreams.by_name["alpha"] = SteppedUpstream()
    text = settings_file.read_text()
    settings_file.write_text(text.replace("[server]\n", "[server]\nshutdown_grace_s = 0\n"))
    first = stream_chunks("Hello!")[0]
    async with start(settings_file) as serving:
        url = await serving.started()
        assert serving.key is not None
        upstream.send(first)
        async with (
            caller(url, serving.key) as http,
            http.stream("POST", CHAT, json=BODY | {"stream": True}) as response,
        ):
            body = response.aiter_raw()
            received = await anext(body)
            serving.process.send_signal(signal.SIGTERM)
            status = await serving.ended()
            with pytest.raises(httpx2.RemoteProtocolError):
                await anext(body)

    assert received == first
    assert status == 0
    assert [error for error, *_ in logged(settings_file)] == ["ClientLeft"]
