"""Installs and starts the other gateways, each in a folder of its own outside the repository.

LiteLLM 1.107.0 was a compromised release: the version is pinned to another.
"""

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path

from gateways import Target
from processes import CannotMeasure, Program, free_port, start, wait_for
from upstreams import Upstream

LITELLM = "LiteLLM"
LITELLM_VERSION = "1.106.2"
PORTKEY = "Portkey"
PORTKEY_VERSION = "1.15.2"
INSTALL_TIMEOUT_S = 420.0
START_TIMEOUT_S = 90.0
KEY = "sk-benchmark-0123456789"

LITELLM_MODEL = """  - model_name: {mode}
    litellm_params: {{model: openai/answers-1, api_base: "{base_url}", api_key: sk-upstream}}
"""
LITELLM_CONFIG = """model_list:
{models}
litellm_settings: {{telemetry: false, drop_params: false, num_retries: 0}}
general_settings: {{master_key: {key}}}
"""


def start_litellm(
    folder: Path, peers: Path, upstreams: Mapping[str, Upstream], running: list[Program]
) -> list[Target]:
    """Install LiteLLM where it is not yet, and start its proxy with one worker, no database.

    Raises:
        CannotMeasure: It cannot be installed or started.
    """
    home = peers / f"litellm-{LITELLM_VERSION}"
    python = home / "bin" / "python"
    if not python.exists() or not _runs([str(python), "-c", "import litellm.proxy.proxy_cli"]):
        venv.create(home, with_pip=True, clear=True)
        wanted = f"litellm[proxy]=={LITELLM_VERSION}"
        install([str(python), "-m", "pip", "install", "-q", wanted], home)
    config = folder / "litellm.yaml"
    models = "".join(
        LITELLM_MODEL.format(mode=mode, base_url=upstream.base_url)
        for mode, upstream in upstreams.items()
    )
    config.write_text(LITELLM_CONFIG.format(models=models, key=KEY))
    port = free_port()
    command = [str(python), "-c", "from litellm.proxy.proxy_cli import run_server; run_server()"]
    options = ["--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    offline = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    program = start("litellm", [*command, *options, "--num_workers", "1"], folder, offline)
    running.append(program)
    wait_for(program, port, "/health/liveliness", START_TIMEOUT_S)
    headers = {"Authorization": f"Bearer {KEY}"}
    return [
        Target(LITELLM, mode, port, upstream, program, headers=headers, model=mode)
        for mode, upstream in upstreams.items()
    ]


def start_portkey(
    folder: Path, peers: Path, upstreams: Mapping[str, Upstream], running: list[Program]
) -> list[Target]:
    """Install Portkey's gateway where it is not yet, and start it.

    Raises:
        CannotMeasure: Node is missing, or it cannot be installed or started.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise CannotMeasure("node and npm are not installed")
    home = peers / f"portkey-{PORTKEY_VERSION}"
    script = home / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    if not script.exists():
        wanted = f"@portkey-ai/gateway@{PORTKEY_VERSION}"
        home.mkdir(parents=True, exist_ok=True)
        install([npm, "install", "--no-audit", "--no-fund", "--prefix", str(home), wanted], home)
    port = free_port()
    program = start("portkey", [node, str(script), f"--port={port}", "--headless"], folder)
    running.append(program)
    wait_for(program, port, "/", START_TIMEOUT_S)
    return [
        Target(PORTKEY, mode, port, upstream, program, headers=_portkey_headers(upstream))
        for mode, upstream in upstreams.items()
    ]


def _portkey_headers(upstream: Upstream) -> dict[str, str]:
    return {
        "Authorization": f"Bearer {KEY}",
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": upstream.base_url,
    }


def _runs(command: Sequence[str]) -> bool:
    environ = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    return subprocess.run(command, capture_output=True, env=environ, check=False).returncode == 0


def install(command: Sequence[str], home: Path) -> None:
    """Run a command that installs a peer.

    Raises:
        CannotMeasure: It fails.
    """
    print(f"installing into {home} (once) ...", file=sys.stderr, flush=True)
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or b""
        raise CannotMeasure(
            f"{home.name} cannot be installed: {error} {said.decode(errors='replace')[-300:]}"
        ) from error
