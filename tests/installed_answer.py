"""Starts the `waypost` that is installed beside this Python, and gets an answer through it.

Run by `python3 dev.py wheel` in an environment that holds the wheel, what it requires, and nothing
else: so this file needs the standard library alone. Other packages of our packages' names are found
before those of the environment; Waypost must not take them for its own.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ANSWER = "Paris"
LONGEST_S = 300.0
OUR_NAMES = ("gateway", "router_models", "federation", "budget", "migrations")


class Upstream(BaseHTTPRequestHandler):
    """An OpenAI-compatible host with one model and one answer."""

    def do_GET(self) -> None:
        self.reply({"object": "list", "data": [{"id": "small", "object": "model"}]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        message = {"role": "assistant", "content": ANSWER}
        self.reply(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 1,
                "model": "small",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10},
            }
        )

    def reply(self, table: dict[str, Any]) -> None:
        content = json.dumps(table).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Stay silent."""


def ask(url: str, key: str) -> str:
    """Ask `auto` one question; returns the answer."""
    body = {"model": "auto", "messages": [{"role": "user", "content": "The capital of France?"}]}
    request = urllib.request.Request(
        f"{url}/chat/completions",
        data=json.dumps(body).encode(),
        headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return str(json.load(response)["choices"][0]["message"]["content"])


def write_packages_of_our_names(folder: Path) -> Path:
    """Write packages that are not ours and cannot even be imported; returns where they lie."""
    for name in OUR_NAMES:
        package = folder / "others" / name
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(f"raise ImportError('not the {name} of Waypost')")
    return folder / "others"


def main() -> None:
    """Start, ask, stop."""
    upstream = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "waypost.toml")
        # Where the embedded models are installed, one of them might answer.
        config.write_text("[embedded]\nenabled = false\n")
        environ = {
            "PATH": os.environ["PATH"],
            "OPENAI_API_KEY": "sk-upstream",
            "OPENAI_BASE_URL": f"http://127.0.0.1:{upstream.server_port}/v1",
            "PYTHONPATH": str(write_packages_of_our_names(Path(folder))),
            "WAYPOST_DATA_DIR": str(Path(folder, "data")),
            "WAYPOST_CONFIG": str(config),
        }
        waypost = Path(sys.executable).with_name("waypost")
        serve = [str(waypost), "serve", "--port", "0", "--admin-port", "0"]
        with subprocess.Popen(
            serve, env=environ, cwd=folder, stdout=subprocess.PIPE, text=True
        ) as gateway:
            assert gateway.stdout is not None
            said = ""
            # A gateway that says nothing more must fail this check, not hold it up for ever.
            watchdog = threading.Timer(LONGEST_S, gateway.kill)
            watchdog.start()
            while not (serves := re.search(r"Waypost serves (\S+)", said)):
                line = gateway.stdout.readline()
                assert line, f"the gateway ended before it served:\n{said}"
                said += line
            key = re.search(r"your key: in (.+)", said)
            assert key is not None, f"the gateway did not say where the first key is:\n{said}"
            answer = ask(serves[1], Path(key[1]).read_text().strip())
            gateway.terminate()
            gateway.wait()
            watchdog.cancel()
    assert answer == ANSWER, answer
    print(f"waypost serve, installed from a wheel, answers: {answer}")


if __name__ == "__main__":
    main()
