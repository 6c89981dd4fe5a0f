"""What is measured: the upstream itself, nginx as a proxy, and the floor of the Python stack."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from processes import Program, free_port, start, wait_for
from upstreams import FOLDER, MODES, PROXY, START_TIMEOUT_S, Upstream, start_nginx

DIRECT = "direct"
NGINX = "nginx proxy"
FLOOR = "plain ASGI + our client"


@dataclass(frozen=True, slots=True)
class Target:
    """One way to ask for a chat completion.

    Attributes:
        name: Of the row in the results.
        mode: ``json``, ``stream`` (20 chunks at once) or ``paced`` (one by one).
        model: What the request's `model` says.
        is_same_text: The same query every time, so that its embedding is remembered.
        program: The measured gateway; None for the upstream itself.
        settle_s: CPU is counted this long after the last answer, so that work put off counts.
    """

    name: str
    mode: str
    port: int
    upstream: Upstream
    program: Program | None = None
    path: str = "/v1/chat/completions"
    headers: Mapping[str, str] = field(default_factory=dict)
    model: str = "auto"
    is_same_text: bool = False
    settle_s: float = 0.2

    @property
    def url(self) -> str:
        """Where requests go."""
        return f"http://127.0.0.1:{self.port}{self.path}"

    def head(self) -> str:
        """The body up to its messages."""
        stream = "" if self.mode == "json" else '"stream": true, '
        return f'{{"model": "{self.model}", "temperature": 0.2, {stream}"messages": '


TAIL = ', "max_tokens": 256}'


def direct_targets(upstreams: Mapping[str, Upstream]) -> list[Target]:
    """Ask the upstreams themselves."""
    return [Target(DIRECT, mode, upstream.port, upstream) for mode, upstream in upstreams.items()]


def start_proxy(
    folder: Path, upstreams: Mapping[str, Upstream], running: list[Program]
) -> list[Target]:
    """Start nginx as a plain proxy in front of all upstreams."""
    ports = {mode: free_port() for mode in MODES}
    servers = "".join(
        PROXY.format(mode=mode, port=port, upstream=upstreams[mode].port)
        for mode, port in ports.items()
    )
    program = start_nginx("proxy", servers, folder / "proxy")
    running.append(program)
    wait_for(program, ports["json"], "/health", START_TIMEOUT_S)
    return [Target(NGINX, m, port, upstreams[m], program) for m, port in ports.items()]


def start_floor(
    folder: Path, upstreams: Mapping[str, Upstream], running: list[Program]
) -> list[Target]:
    """Start the pass-through."""
    port = free_port()
    pairs = [f"{mode}={upstream.base_url}" for mode, upstream in upstreams.items()]
    command = [sys.executable, str(FOLDER / "passthrough.py"), str(port), *pairs]
    program = start("passthrough", command, folder)
    running.append(program)
    wait_for(program, port, "/health", START_TIMEOUT_S)
    return [
        Target(FLOOR, mode, port, upstream, program, path=f"/{mode}/v1/chat/completions")
        for mode, upstream in upstreams.items()
    ]
