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
from pathlib import Path

from openai import OpenAI

DATA_DIR = Path(__file__).resolve().parents[2] / ".waypost"
WAYPOST = (sys.executable, "-m", "gateway")
QUESTION = "Which number is larger, 17 or 71? Answer with the number."


def main() -> None:
    environ = {**os.environ, "WAYPOST_DATA_DIR": str(DATA_DIR)}
    print("Starting `waypost serve` ...", flush=True)
    gateway = subprocess.Popen([*WAYPOST, "serve", "--port", "0"], env=environ, stdout=subprocess.PIPE, text=True)
    try:
        url = address(gateway)
        wait_until_ready(url)
        key = new_key(environ)
        ask(url, key, QUESTION)
    finally:
        gateway.terminate()
        gateway.wait()
    print("\nTo keep a gateway running:  .venv/bin/waypost serve")


def ask(url: str, key: str, question: str) -> None:
    """Show what the router thinks of a question, then stream the answer with the OpenAI SDK."""
    client = OpenAI(base_url=url, api_key=key)
    messages = [{"role": "user", "content": question}]
    route = client.post("/route", body={"model": "auto", "messages": messages}, cast_to=object)
    print(f"\nYou:    {question}\nRouter: {'model':<24}{'quality':>9}{'USD/1000':>10}{'utility':>9}")
    for candidate in route["candidates"]:
        mark = "->" if candidate["model"] == route["model"] else "  "
        quality, cost, utility = (candidate[k] or 0.0 for k in ("quality", "cost_usd", "utility"))
        print(f"     {mark} {candidate['model']:<24}{quality:>9.3f}{cost * 1000:>10.5f}{utility:>9.3f}")
    stream = client.chat.completions.create(
        model="auto", messages=messages, stream=True, stream_options={"include_usage": True}
    )
    print("Answer: ", end="")
    for chunk in stream:
        for choice in chunk.choices:
            print(choice.delta.content or "", end="", flush=True)
        if chunk.usage is not None:
            print("\nTurn:   " + json.dumps(chunk.model_extra["waypost"], indent=2).replace("\n", "\n        "))


def address(gateway: subprocess.Popen[str]) -> str:
    """Read the gateway's address from its first lines."""
    for line in gateway.stdout:
        print(f"  {line}", end="")
        if line.startswith("Waypost serves "):
            return line.split()[2]
    raise SystemExit("the gateway ended before it served")


def wait_until_ready(url: str) -> None:
    """Wait until the embedded model has loaded."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url.removesuffix("/v1") + "/ready"):
                return
        except urllib.error.HTTPError:
            time.sleep(0.1)
    raise SystemExit("the gateway was not ready after a minute")


def new_key(environ: dict[str, str]) -> str:
    """Create a virtual key, as an operator would."""
    created = subprocess.run(
        [*WAYPOST, "keys", "create", "--team", "default", "--name", "first-answer"],
        env=environ, check=True, stdout=subprocess.PIPE, text=True,
    )
    return next(word for word in created.stdout.split() if word.startswith("wp-"))


if __name__ == "__main__":
    main()
