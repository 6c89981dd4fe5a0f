"""Who is compared: Waypost, LiteLLM's router, Switchyard, and callers that take turns themselves.

Each is told the limits of the places, as far as its settings can say them, and tries another place
where it can. LiteLLM and Switchyard are installed once, each into an environment of its own.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import venv
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2

from benchmarks.deployments.upstreams import MODEL, PLACES
from tests.fakes.processes import start

LITELLM: Final = "litellm[proxy]==1.106.2"
SWITCHYARD: Final = "nemo-switchyard==0.3.0"
START_S: Final = 120.0
KEY: Final = "sk-benchmark-0123456789"
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


class CannotMeasure(Exception):
    """A contender cannot be installed or started; the message says why."""


@dataclass(frozen=True, slots=True)
class Contender:
    """Somebody who brings calls to the places.

    Attributes:
        urls: Where callers ask; call number n begins at the n-th, and goes on from there.
        tries: How many of them callers ask before they give up.
        pid: Of the gateway's process; None where callers ask the places themselves.
    """

    name: str
    urls: tuple[str, ...]
    key: str = KEY
    tries: int = 1
    pid: int | None = None

    def cpu_s(self) -> float:
        """CPU seconds of the gateway so far, user and system."""
        if self.pid is None:
            return 0.0
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / TICKS_PER_S


def turns(upstream: str, name: str, tries: int) -> Contender:
    """Callers that ask the places in turn, as many of them as `tries` for one call."""
    urls = tuple(f"{upstream}/{slug(name)}/{place.name}/v1" for place in PLACES)
    return Contender(name, urls, tries=tries)


def slug(name: str) -> str:
    """Return what stands for a contender in a path."""
    return name.lower().replace(" ", "-").replace(",", "")


WAYPOST_SETTINGS: Final = """
data_dir = "{folder}/data"
[server]
port = 0
admin_port = 0
log_level = "error"
[embedded]
enabled = false
[models.{model}]
price = {{ input_usd_per_mtok = 0.1, output_usd_per_mtok = 0.4 }}
"""
WAYPOST_PLACE: Final = """
[providers.{place.name}]
base_url = "{upstream}/{slug}/{place.name}/v1"
api_key = "sk-{place.name}"
max_concurrency = {place.at_once}
[[models.{model}.deployments]]
provider = "{place.name}"
weight = {place.per_minute}
"""


@asynccontextmanager
async def waypost(upstream: str, folder: Path, name: str = "Waypost") -> AsyncIterator[Contender]:
    """Run ``waypost serve`` with the limits as weights and places."""
    settings = WAYPOST_SETTINGS.format(folder=folder, model=MODEL) + "".join(
        WAYPOST_PLACE.format(place=place, upstream=upstream, slug=slug(name), model=MODEL)
        for place in PLACES
    )
    file = _written(folder / "waypost.toml", settings)
    async with start(file, covered=False) as serving:
        url = await serving.started()
        assert serving.key is not None
        yield Contender(name, (f"{url}/v1",), serving.key, pid=serving.process.pid)


@asynccontextmanager
async def litellm(
    upstream: str, folder: Path, peers: Path, name: str, settings: dict[str, object]
) -> AsyncIterator[Contender]:
    """Run LiteLLM's proxy, one worker, no database, with these `router_settings`.

    Limits are given as `rpm`, by which `simple-shuffle` weighs, and `max_parallel_requests`.

    Raises:
        CannotMeasure: It cannot be installed or started.
    """
    python = installed(LITELLM, peers)
    places = [
        {
            "model_name": MODEL,
            "litellm_params": {
                "model": f"openai/{MODEL}",
                "api_base": f"{upstream}/{slug(name)}/{place.name}/v1",
                "api_key": f"sk-{place.name}",
                "rpm": place.per_minute,
                "max_parallel_requests": place.at_once,
            },
        }
        for place in PLACES
    ]
    config = {
        "model_list": places,
        "router_settings": settings,
        "litellm_settings": {"telemetry": False},
        "general_settings": {"master_key": KEY},
    }
    file, port = _written(folder / "litellm.yaml", json.dumps(config)), free_port()  # it is YAML
    command = ("-c", "from litellm.proxy.proxy_cli import run_server; run_server()")
    options = ("--config", str(file), "--host", "127.0.0.1", "--port", str(port))
    environ = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "CRITICAL"}
    async with _running([python, *command, *options], folder, environ) as process:
        await _ready(process, f"http://127.0.0.1:{port}/health/liveliness", folder)
        yield Contender(name, (f"http://127.0.0.1:{port}/v1",), pid=process.pid)


@asynccontextmanager
async def switchyard(upstream: str, folder: Path, peers: Path) -> AsyncIterator[Contender]:
    """Run Switchyard's server with its `random` route, the one that spreads calls.

    Raises:
        CannotMeasure: It cannot be installed or started.
    """
    name = "Switchyard"
    python = installed(SWITCHYARD, peers)
    lines = ["schema_version = 1"]
    for place in PLACES:
        lines += [
            f"[llm_clients.{place.name}]",
            'format = "openai_chat"',
            f'base_url = "{upstream}/{slug(name)}/{place.name}/v1"',
            f'api_key_env = "{_variable(place.name)}"',
            f"[targets.{place.name}]",
            f'id = "{MODEL}-{place.name}"',  # it takes one id at one client only
            f'llm_client = "{place.name}"',
        ]
    lines += ["[routes.all]", f'id = "{MODEL}"', 'type = "random"']
    lines += [f"targets = {json.dumps([place.name for place in PLACES])}"]
    lines += [f"weights = {json.dumps([place.per_minute for place in PLACES])}"]
    file, port = _written(folder / "routes.toml", "\n".join(lines)), free_port()
    program = (
        "import signal, sys; from switchyard_rust.server import Server\n"
        "with Server(sys.argv[1], int(sys.argv[2])): signal.pause()"
    )
    environ = {_variable(place.name): f"sk-{place.name}" for place in PLACES}
    async with _running([python, "-c", program, str(file), str(port)], folder, environ) as process:
        await _ready(process, f"http://127.0.0.1:{port}/v1/models", folder)
        yield Contender(name, (f"http://127.0.0.1:{port}/v1",), pid=process.pid)


def installed(package: str, peers: Path) -> str:
    """Return the Python of an environment that has `package`, which is made where there is none.

    Raises:
        CannotMeasure: It cannot be installed.
    """
    home = peers / package.replace("[proxy]", "").replace("==", "-")
    python, done = home / "bin" / "python", home / "installed"
    if not done.exists():
        print(f"installing {package} into {home} (once) ...", file=sys.stderr, flush=True)
        venv.create(home, with_pip=True, clear=True)
        command = [str(python), "-m", "pip", "install", "-q", package]
        ended = subprocess.run(command, capture_output=True, check=False)
        if ended.returncode:
            raise CannotMeasure(f"{package}: {ended.stderr.decode(errors='replace')[-300:]}")
        done.touch()
    return str(python)


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _written(file: Path, text: str) -> Path:
    file.parent.mkdir()
    file.write_text(text)
    return file


def _variable(place: str) -> str:
    return f"KEY_{place.upper().replace('-', '_')}"


@asynccontextmanager
async def _running(
    command: list[str], folder: Path, environ: dict[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command, env=inherited | environ, stdout=log, stderr=log
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def _ready(process: asyncio.subprocess.Process, url: str, folder: Path) -> None:
    async with asyncio.timeout(START_S), httpx2.AsyncClient(trust_env=False) as http:
        while process.returncode is None:
            try:
                if (await http.get(url)).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.2)
    raise CannotMeasure((folder / "log").read_text(errors="replace")[-500:])
