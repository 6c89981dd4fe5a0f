"""CPU time per request of the client that calls providers, alone, here and in other checkouts.

    python benchmarks/gateway_speed/client.py [OTHER_CHECKOUT ...]

Each checkout's client runs in a process of its own under uvloop, with 32 connections to an upstream
in another process. Rounds are interleaved; each figure is the least of them, in microseconds.
"""

import argparse
import asyncio
import json
import multiprocessing
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvloop

ROOT = Path(__file__).resolve().parents[2]
CONNECTIONS, REQUESTS, ROUNDS = 32, 200, 3
CHUNKS, PAUSE_S = 20, 0.001
KINDS = {
    "json": "JSON",
    "paced": "stream of 20 chunks, 1 ms apart",
    "stream": "stream of 20 chunks, no pause",
}
ANSWER = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"Hello!"}}]}'
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"word "}}]}\n\n'
CHUNK, END = b"%x\r\n%s\r\n" % (len(EVENT), EVENT), b"0\r\n\r\n"
BODY = b'{"model":"m","messages":[{"role":"user","content":"Say hello to everybody."}]}'
HEADERS = {
    "content-type": "application/json",
    "accept": "application/json, text/event-stream",
    "accept-encoding": "identity",
    "user-agent": "waypost",
    "authorization": "Bearer sk-0123456789abcdef0123456789abcdef",
    "x-request-id": "req_0123456789abcdef0123456789abcdef",
}


class Upstream(asyncio.Protocol):
    """Answers each request by the last part of its path."""

    def connection_made(self, transport: Any) -> None:
        """Keep the transport."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer, where a head has come; a body after it is of no interest."""
        if b"\r\n\r\n" not in data:
            return
        kind = data.split(b" ", 2)[1].rpartition(b"/")[2]
        if kind == b"paced":
            self.pacing = asyncio.ensure_future(self._pace())
        else:
            whole = WHOLE % (len(ANSWER), ANSWER)
            self.transport.write(whole if kind == b"json" else HEAD + CHUNK * CHUNKS + END)

    async def _pace(self) -> None:
        self.transport.write(HEAD)
        for _ in range(CHUNKS):
            self.transport.write(CHUNK)
            await asyncio.sleep(PAUSE_S)
        self.transport.write(END)


def serve(told: Connection) -> None:
    """Run the upstream; tell its port."""

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(run())


async def measure(kind: str, port: int) -> float:
    """Return the microseconds of CPU that one request takes."""
    from gateway.providers.http import HttpClient  # noqa: PLC0415 (of the checkout on the path)

    http = HttpClient.open()
    times = {"connect_timeout_s": 60.0, "timeout_s": 60.0}
    url = f"http://127.0.0.1:{port}/v1/{kind}"

    async def ask(n: int) -> None:
        for _ in range(n):
            answer = await http.request("POST", url, headers=HEADERS, body=BODY, **times)
            if kind == "json":
                await answer.read(1_000_000, 60.0)
            else:
                while await answer.next_chunk(60.0):
                    pass
            answer.close()

    await asyncio.gather(*(ask(20) for _ in range(CONNECTIONS)))
    before_s = time.process_time()
    await asyncio.gather(*(ask(REQUESTS) for _ in range(CONNECTIONS)))
    used_s = time.process_time() - before_s
    await http.aclose()
    return used_s / (CONNECTIONS * REQUESTS) * 1e6


def main() -> None:
    """Print a table: a row per kind of answer, a column per checkout."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("others", nargs="*", type=Path, help="other checkouts")
    parser.add_argument("--port", type=int, help="of the upstream: measure the client on the path")
    given = parser.parse_args()
    if given.port:
        print(json.dumps({kind: uvloop.run(measure(kind, given.port)) for kind in KINDS}))
        return
    here, there = multiprocessing.Pipe()
    upstream = multiprocessing.Process(target=serve, args=(there,), daemon=True)
    upstream.start()
    command = (sys.executable, __file__, "--port", str(here.recv()))
    checkouts = [ROOT, *(other.resolve() for other in given.others)]
    found: dict[Path, list[dict[str, float]]] = {checkout: [] for checkout in checkouts}
    for _ in range(ROUNDS):
        for checkout, rounds in found.items():
            environment = {"PYTHONPATH": str(checkout), "PATH": ""}
            ran = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
            rounds.append(json.loads(ran.stdout))
    upstream.terminate()
    print(f"| | {' | '.join(checkout.name for checkout in checkouts)} |")
    print("|---|" + "---:|" * len(checkouts))
    for kind, title in KINDS.items():
        least = [min(one[kind] for one in rounds) for rounds in found.values()]
        print(f"| {title} | {' | '.join(f'{figure:.1f}' for figure in least)} |")


if __name__ == "__main__":
    main()
