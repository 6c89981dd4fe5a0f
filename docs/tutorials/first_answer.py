"""Your first answer: start a gateway without any configuration, ask `auto`, see who was chosen.

Run by `python3 dev.py run`. The gateway keeps its data in `.waypost/` beside the project.
"""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openai import OpenAI

DATA_DIR = Path(__file__).resolve().parents[2] / ".waypost"
WAYPOST = (sys.executable, "-m", "gateway")
QUESTION = "What is the capital of France? Answer with one word."
READY_TIMEOUT_S = 60


def main() -> None:
    """Start, ask, stop."""
    environ = {**os.environ, "WAYPOST_DATA_DIR": str(DATA_DIR)}
    question = " ".join(sys.argv[1:]) or QUESTION
    print("Starting `waypost serve` ...", flush=True)
    serve = [*WAYPOST, "serve", "--port", "0", "--admin-port", "0"]
    with subprocess.Popen(serve, env=environ, stdout=subprocess.PIPE, text=True) as gateway:
        try:
            url = address(gateway)
            wait_until_ready(url)
            ask(url, new_key(environ), question)
        finally:
            gateway.terminate()
    print("\nTo keep a gateway running:  .venv/bin/waypost serve")


def ask(url: str, key: str, question: str) -> None:
    """Show what the router thinks of a question, then stream the answer with the OpenAI SDK."""
    client = OpenAI(base_url=url, api_key=key)
    body: dict[str, Any] = {
        "model": "auto",
        "messages": [{"role": "user", "content": question}],
    }
    route: Any = client.post("/route", body=body, cast_to=object)
    print_route(question, route)
    stream = client.chat.completions.create(
        **body, stream=True, stream_options={"include_usage": True}
    )
    print("Answer: ", end="")
    for chunk in stream:
        for choice in chunk.choices:
            print(choice.delta.content or "", end="", flush=True)
        if chunk.usage is not None:
            turn = json.dumps(chunk.model_extra["waypost"], indent=2)
            print("\nTurn:   " + turn.replace("\n", "\n        "))


def print_route(question: str, route: Mapping[str, Any]) -> None:
    """Print what the router expects of each model; an arrow marks the chosen one."""
    print(f"\nYou:    {question}")
    print(f"Router:    {'model':<24}{'quality':>9}{'USD/1000':>10}{'utility':>9}")
    for candidate in route["candidates"]:
        mark = "->" if candidate["model"] == route["model"] else "  "
        quality, cost, utility = (candidate[k] or 0.0 for k in ("quality", "cost_usd", "utility"))
        figures = f"{quality:>9.3f}{cost * 1000:>10.5f}{utility:>9.3f}"
        print(f"        {mark} {candidate['model']:<24}{figures}")


def address(gateway: "subprocess.Popen[str]") -> str:
    """Read the gateway's address from its first lines."""
    assert gateway.stdout is not None
    for line in gateway.stdout:
        print(f"  {line}", end="")
        if line.startswith("Waypost serves "):
            return line.split()[2]
    raise SystemExit("the gateway ended before it served")


def wait_until_ready(url: str) -> None:
    """Wait until the embedded model has loaded."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url.removesuffix("/v1") + "/ready"):
                return
        except urllib.error.HTTPError:
            time.sleep(0.1)
    raise SystemExit(f"the gateway was not ready after {READY_TIMEOUT_S} s")


def new_key(environ: Mapping[str, str]) -> str:
    """Create a virtual key, as an operator would."""
    create = [*WAYPOST, "keys", "create", "--team", "default", "--name", "first-answer"]
    created = subprocess.run(create, env=environ, check=True, stdout=subprocess.PIPE, text=True)
    return next(word for word in created.stdout.split() if word.startswith("wp-"))


if __name__ == "__main__":
    main()
