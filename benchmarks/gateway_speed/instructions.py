"""Counts the gateway's instructions per request with callgrind, here and in other checkouts.

    python benchmarks/gateway_speed/instructions.py [--requests N] [OTHER_CHECKOUT ...]

Instructions repeat within 1 to 2 % on a quiet machine, where CPU time does not. They leave out the
kernel, and what the gateway does without requests is subtracted. One gateway after the other is
started under callgrind (50 times slower); each gets the same number of requests of every kind, one
at a time. The upstream is in this process, and all checkouts run with this interpreter and its
packages. Paths that a checkout does not serve are left out. It needs valgrind (Debian: `apt-get
install valgrind`).
"""

import argparse
import http.client
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from answers import (
    json_answer,
    message_answer,
    message_events,
    response_answer,
    response_events,
    stream_events,
)
from gateway_under_test import MODELS, ports_of, prepare, train_router
from processes import ROOT, CannotMeasure, Program, start, wait_for
from queries import queries
from raw_http import EVENTS, JSON, serve, whole
from upstreams import Upstream

REQUESTS = 300
WARM_UP = 0.5
"""Of the requests of a kind, so many are sent before the count begins."""
START_TIMEOUT_S = 3600.0
IDLE_S = 10.0
"""How long the gateway is watched without requests: what it does by the clock is subtracted."""
SETTLE_S = 10.0
"""Under callgrind the log's thread needs as long to write what was recorded."""
BATCHES = """[evaluation_log]
flush_interval_s = 3.0
"""
"""Turns take 50 times longer than usual; the log is to write as many of them at once as usual."""
CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
SAME_WIRE = """
[providers.anthropic]
kind = "anthropic"
base_url = "{base_url}"
api_key = "sk-upstream"
[providers.openai]
base_url = "{base_url}"
api_key = "sk-upstream"
responses = true
[models.claude]
provider = "anthropic"
upstream_name = "claude-sonnet-4-5"
price = {{ input_usd_per_mtok = 3.0, output_usd_per_mtok = 15.0 }}
[models.gpt]
provider = "openai"
upstream_name = "answers-1"
price = {{ input_usd_per_mtok = 3.0, output_usd_per_mtok = 15.0 }}
"""
"""Of a second gateway: two models whose hosts speak the wire that they are asked on."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of request.

    Attributes:
        is_same: All ask the same.
        beside: The request for chat completions that it is compared with.
    """

    path: str
    model: str = "auto"
    is_stream: bool = False
    is_same: bool = True
    beside: str | None = None


KNOWN, STREAM = "auto, query seen before", "auto, stream of 20 chunks"
NAMED, NAMED_STREAM = "model named", "model named, stream of 20 chunks"
KINDS: Mapping[str, Kind] = {
    "auto, new query": Kind(CHAT, is_same=False),
    KNOWN: Kind(CHAT),
    NAMED: Kind(CHAT, MODELS[4]),
    STREAM: Kind(CHAT, is_stream=True),
    NAMED_STREAM: Kind(CHAT, MODELS[4], is_stream=True),
    "Messages, translated": Kind(MESSAGES, beside=KNOWN),
    "Messages, translated, stream": Kind(MESSAGES, is_stream=True, beside=STREAM),
    "Responses, translated": Kind(RESPONSES, beside=KNOWN),
    "Responses, translated, stream": Kind(RESPONSES, is_stream=True, beside=STREAM),
}
LATEST = "Responses, translated"
"""The kind that came last to the gateway."""
SAME_WIRE_KINDS: Mapping[str, Kind] = {
    "Messages to Anthropic": Kind(MESSAGES, "claude", beside=NAMED),
    "Messages to Anthropic, stream": Kind(MESSAGES, "claude", is_stream=True, beside=NAMED_STREAM),
    "Responses to OpenAI": Kind(RESPONSES, "gpt", beside=NAMED),
    "Responses to OpenAI, stream": Kind(RESPONSES, "gpt", is_stream=True, beside=NAMED_STREAM),
}


def main() -> None:
    """Print a table: a row per kind of request, and columns for each checkout."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=REQUESTS, help="of each kind")
    parser.add_argument("others", nargs="*", type=Path, help="other checkouts")
    given = parser.parse_args()
    if shutil.which("valgrind") is None:
        raise CannotMeasure("valgrind is not installed; on Debian: apt-get install valgrind")
    checkouts = [ROOT, *(each.resolve() for each in given.others)]
    with tempfile.TemporaryDirectory() as scratch:
        upstream = Upstream("json", serve_upstream())
        router = train_router(Path(scratch, "kept"), "static")
        os.environ["PYTHONSAFEPATH"] = "1"  # so that commands too are the checkout's own
        measured: list[dict[str, float]] = [{} for _ in checkouts]
        for kinds, settings in ((KINDS, ""), (SAME_WIRE_KINDS, SAME_WIRE)):
            for number, checkout in enumerate(checkouts):
                if settings and LATEST not in measured[number]:
                    continue  # it would not know these settings
                os.environ["PYTHONPATH"] = str(checkout)
                folder = Path(scratch, f"{number}{'-same-wire' if settings else ''}")
                config, key = prepare(folder, upstream, "static", router)
                with config.open("a") as file:
                    file.write(BATCHES + settings.format(base_url=upstream.base_url))
                measured[number] |= measure_gateway(checkout, config, key, kinds, given.requests)
    print_table([each.name for each in checkouts], measured)


def print_table(names: list[str], measured: list[dict[str, float]]) -> None:
    """Print thousands of instructions per request, beside chat and beside the first checkout."""
    print("| | " + " | ".join(f"{name} | times chat" for name in names) + " |")
    print("|---|" + "---:|" * 2 * len(names))
    for name, kind in {**KINDS, **SAME_WIRE_KINDS}.items():
        cells = []
        for found in measured:
            count = found.get(name, math.nan)
            ratio = count / measured[0].get(name, math.nan)
            own = "" if found is measured[0] else f" ({ratio:.3f})"
            chat = found.get(kind.beside, math.nan) if kind.beside else math.nan
            cells += [f"{count / 1e3:,.0f}{own}", f"{count / chat:.2f}"]
        print(f"| {name} | " + " | ".join(cells).replace("nan (nan)", "").replace("nan", "") + " |")


def measure_gateway(
    checkout: Path, config: Path, key: str, kinds: Mapping[str, Kind], requests: int
) -> dict[str, float]:
    """Run one gateway; return the instructions per request of each kind that it serves."""
    folder, (port, _) = config.parent, ports_of(config)
    out = folder / "callgrind"
    callgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]
    callgrind.append("--instr-atstart=no")  # so that the start takes a fifth of the time
    command = [*callgrind, sys.executable, "-P", "-m", "gateway", "serve", "--config", str(config)]
    program = start("gateway", command, folder)
    try:
        wait_for(program, port, "/ready", START_TIMEOUT_S)
        control(program, "--instr=on")
        time.sleep(SETTLE_S)
        control(program, "--zero")
        time.sleep(IDLE_S)
        idle_per_s = total(dump(program, folder)) / IDLE_S
        texts = queries(10**6, seed=1)
        found: dict[str, float] = {}
        for name, kind in kinds.items():
            if not serves(port, key, kind.path):
                continue
            send(port, key, kind, repeated(texts, int(requests * WARM_UP), is_same=kind.is_same))
            time.sleep(SETTLE_S)
            control(program, "--zero")
            began_s = time.monotonic()
            send(port, key, kind, repeated(texts, requests, is_same=kind.is_same))
            time.sleep(SETTLE_S)
            idle = idle_per_s * (time.monotonic() - began_s)
            found[name] = (total(dump(program, folder)) - idle) / requests
            print(checkout.name, name, f"{found[name]:,.0f}", file=sys.stderr, flush=True)
        return found
    finally:
        program.stop()


def repeated(texts: Iterator[str], n: int, *, is_same: bool) -> list[str]:
    """Take `n` queries, or the first of them `n` times."""
    return [next(texts)] * n if is_same else [next(texts) for _ in range(n)]


def serves(port: int, key: str, path: str) -> bool:
    """Whether the gateway has an endpoint there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("POST", path, "{}", {"authorization": f"Bearer {key}"})
    status = connection.getresponse().status
    connection.close()
    return status != http.HTTPStatus.NOT_FOUND


def send(port: int, key: str, kind: Kind, texts: list[str]) -> None:
    """Ask one query after the other on one connection."""
    limit = "max_output_tokens" if kind.path == RESPONSES else "max_tokens"
    messages = "input" if kind.path == RESPONSES else "messages"
    asked: dict[str, Any] = {"model": kind.model, "stream": kind.is_stream, limit: 256}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    for text in texts:
        turns = [{"role": "user", "content": text}]
        connection.request("POST", kind.path, json.dumps(asked | {messages: turns}), headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise CannotMeasure(f"the gateway answered {answer.status}: {content.decode()[:500]}")
    connection.close()


def control(program: Program, command: str) -> None:
    """Have callgrind set its counters back, or write them to a file."""
    subprocess.run(
        ["callgrind_control", command, str(program.pid)], check=True, capture_output=True
    )


def dump(program: Program, folder: Path) -> Path:
    """Have callgrind write its counters since the last time; returns the file."""
    control(program, "--dump")
    return max(folder.glob("callgrind.*"), key=lambda path: path.stat().st_mtime)


def total(path: Path) -> int:
    """Sum the instructions of all threads in one dump."""
    found = re.findall(r"^(?:totals|summary): (\d+)", path.read_text(), re.MULTILINE)
    if not found:
        raise CannotMeasure(f"{path} holds no total")
    return int(found[-1])


def serve_upstream() -> int:
    """Answer every wire in a thread of this process; returns the port."""
    wires = {
        CHAT: (json_answer(), stream_events()),
        MESSAGES: (message_answer(), message_events()),
        RESPONSES: (response_answer(), response_events()),
    }
    answers = {
        path: (whole(JSON, one), whole(EVENTS, b"".join(events)))
        for path, (one, events) in wires.items()
    }
    return serve(lambda path, asked: answers[path][asked.get("stream") is True])


if __name__ == "__main__":
    main()
