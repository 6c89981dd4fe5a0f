"""Counts the gateway's instructions per request with callgrind, here and in other checkouts.

    python benchmarks/gateway_speed/instructions.py [OTHER_CHECKOUT ...]

Instructions repeat within 1 to 2 % on a quiet machine, where CPU time does not. They leave out the
kernel, and what the gateway does without requests is subtracted. One gateway after the other is
started under callgrind (50 times slower); each gets `REQUESTS` requests of every kind, one at a
time. The upstream is in this process, and all checkouts run with this interpreter and its packages.
Paths that a checkout does not serve are left out. It needs valgrind (Debian: `apt-get install
valgrind`).
"""

import asyncio
import http.client
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from answers import json_answer, stream_events
from gateway_under_test import MODELS, ports_of, prepare, train_router
from processes import ROOT, CannotMeasure, Program, free_port, start, wait_for
from queries import queries
from upstreams import Upstream

REQUESTS = 300
WARM_UP = 150
START_TIMEOUT_S = 600.0
IDLE_S = 20.0
"""How long the gateway is watched without requests: what it does by the clock is subtracted."""
SETTLE_S = 10.0
"""Under callgrind the log's thread needs as long to write what was recorded."""
CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
KINDS = {
    "auto, new query": (CHAT, "auto", False, False),
    "auto, query seen before": (CHAT, "auto", False, True),
    "model named": (CHAT, MODELS[4], False, True),
    "auto, stream of 20 chunks": (CHAT, "auto", True, True),
    "Messages, query seen before": (MESSAGES, "auto", False, True),
    "Messages, stream of 20 chunks": (MESSAGES, "auto", True, True),
    "Responses, query seen before": (RESPONSES, "auto", False, True),
    "Responses, stream of 20 chunks": (RESPONSES, "auto", True, True),
}
"""By name: the path, the model, whether it is a stream, and whether all ask the same."""


def main() -> None:
    """Print a table: a row per kind of request, a column per checkout."""
    if shutil.which("valgrind") is None:
        raise CannotMeasure("valgrind is not installed; on Debian: apt-get install valgrind")
    checkouts = [ROOT, *(Path(name).resolve() for name in sys.argv[1:])]
    with tempfile.TemporaryDirectory() as scratch:
        upstream = Upstream("json", serve_upstream())
        router = train_router(Path(scratch, "kept"), "static")
        measured = []
        for number, checkout in enumerate(checkouts):
            os.environ["PYTHONPATH"] = str(checkout)
            folder = Path(scratch, str(number))
            measured.append(measure(checkout, folder, upstream, router))
    print("instructions per request, thousands", *checkouts, sep=" | ")
    for kind in KINDS:
        base = measured[0][kind]
        counts = [each.get(kind, math.nan) for each in measured]
        ratios = [f"{count / 1e3:,.0f} ({count / base:.4f})" for count in counts]
        print(kind, *ratios, sep=" | ")


def measure(checkout: Path, folder: Path, upstream: Upstream, router: Path) -> dict[str, float]:
    """Return the instructions per request of each kind."""
    config, key = prepare(folder, upstream, "static", router)
    port, _ = ports_of(config)
    out = folder / "callgrind"
    callgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]
    command = [*callgrind, sys.executable, "-P", "-m", "gateway", "serve", "--config", str(config)]
    program = start("gateway", command, folder)
    try:
        wait_for(program, port, "/ready", START_TIMEOUT_S)
        time.sleep(SETTLE_S)
        control(program, "--zero")
        time.sleep(IDLE_S)
        idle_per_s = total(dump(program, folder)) / IDLE_S
        texts = queries(10**6, seed=1)
        found: dict[str, float] = {}
        for kind, (path, model, is_stream, is_same) in KINDS.items():
            if not serves(port, key, path):
                continue
            asked = {"model": model, "stream": is_stream}
            send(port, key, path, asked, repeated(texts, WARM_UP, is_same=is_same))
            time.sleep(SETTLE_S)
            control(program, "--zero")
            began_s = time.monotonic()
            send(port, key, path, asked, repeated(texts, REQUESTS, is_same=is_same))
            time.sleep(SETTLE_S)
            idle = idle_per_s * (time.monotonic() - began_s)
            found[kind] = (total(dump(program, folder)) - idle) / REQUESTS
            print(checkout.name, kind, f"{found[kind]:,.0f}", file=sys.stderr, flush=True)
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


def send(port: int, key: str, path: str, asked: dict[str, Any], texts: list[str]) -> None:
    """Ask one query after the other on one connection."""
    limit = "max_output_tokens" if path == RESPONSES else "max_tokens"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    for text in texts:
        turns = [{"role": "user", "content": text}]
        body = asked | {"input" if path == RESPONSES else "messages": turns, limit: 256}
        connection.request("POST", path, json.dumps(body), headers)
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
    """Answer chat completions in a thread of this process; returns the port."""
    port, is_up = free_port(), threading.Event()
    heads = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b"
    whole, events = json_answer(), b"".join(stream_events())
    answers = {
        False: heads % (b"application/json", len(whole), whole),
        True: heads % (b"text/event-stream", len(events), events),
    }

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                writer.close()
                return
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            body = await reader.readexactly(int(length[1])) if length else b"{}"
            writer.write(answers[json.loads(body).get("stream") is True])

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", port)
        is_up.set()
        await server.serve_forever()

    threading.Thread(target=asyncio.run, args=(run(),), daemon=True).start()
    is_up.wait()
    return port


if __name__ == "__main__":
    main()
