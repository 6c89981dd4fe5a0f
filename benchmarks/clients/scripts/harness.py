"""What every script of this folder shares: where the gateway is, what to ask, what must come back.

Runs in the environment of the client alone, so that it imports nothing else.
"""

import asyncio
import base64
import inspect
import json
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

URL = os.environ["WAYPOST_URL"]
"""Without ``/v1``."""
KEY = os.environ["WAYPOST_KEY"]
COLUMNS: dict[str, str] = json.loads(os.environ["WAYPOST_MODELS"])
MODEL = ""
"""The one that is asked now; each of the models in `COLUMNS` is, in turn."""
EMBEDDINGS = "text-embedding-3-small"
VECTOR = [0.25, -0.5, 0.125, 1.0]

ASK = "Name the capital of Norway."
ANSWER = "The capital of Norway is Oslo."
ASK_WEATHER = 'What is the weather? Look it up. <<call get_weather {"city":"Oslo"}>>'
WEATHER = "sunny, 17 degrees"
ANSWER_WEATHER = f"Done: {WEATHER}"
ASK_CITY = 'Describe the city. <<json {"city":"Oslo","population":700000}>>'
CITY = {"city": "Oslo", "population": 700000}
ASK_IMAGE = "What do you see?"
ANSWER_IMAGE = "I see images: 1"
ASK_REFUSED = "Work at night. <<refuse>>"
REFUSAL = "the model is too tired"
USAGE = (21, 7)
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGA"
    "WjR9awAAAABJRU5ErkJggg=="
)
IMAGE = f"data:image/png;base64,{PIXEL}"
PATIENCE_S = 120

Check = Callable[[], Awaitable[None] | None]


def same(found: Any, expected: Any) -> None:
    """Fail unless they are equal."""
    if found != expected:
        raise AssertionError(f"expected {expected!r}, found {found!r}")


def holds(found: Any, part: str) -> None:
    """Fail unless the text `found` has `part` in it, wherever its lines are broken."""
    if part not in " ".join(str(found).split()):
        raise AssertionError(f"expected {part!r} in {found!r}")


def refuses(check: Callable[[], Any]) -> Check:
    """Expect `check` to raise what the provider said."""

    async def refused() -> None:
        try:
            result = check()
            if inspect.isawaitable(result):
                result = await result
        except Exception as error:  # noqa: BLE001 (whatever class a client has)
            holds(f"{error!r} {error}", REFUSAL)
        else:
            raise AssertionError(f"no error, but {result!r}")

    return refused


def write_files() -> None:
    """Write what agents are asked to look at into the folder where they run."""
    Path("note.txt").write_text("buy milk\n")
    Path("picture.png").write_bytes(base64.b64decode(PIXEL))


def run(
    modes: Mapping[str, Mapping[str, Check]], leaves_out: Mapping[str, Sequence[str]] = {}
) -> None:
    """Check each capability with each model; print a line of JSON for each.

    Args:
        leaves_out: Columns whose models a mode cannot be asked for.
    """
    signal.signal(signal.SIGALRM, _too_late)
    for column, model in COLUMNS.items():
        globals()["MODEL"] = model
        taking_part = {m: c for m, c in modes.items() if column not in leaves_out.get(m, ())}
        for mode, checks in taking_part.items():
            for capability, check in checks.items():
                told = {"mode": mode, "capability": capability, "column": column}
                print(json.dumps({**told, "error": _failure(check)}), flush=True)


def _failure(check: Check) -> str | None:
    signal.alarm(PATIENCE_S)
    try:
        done = check()
        if inspect.isawaitable(done):
            asyncio.run(_finish(done))
    except BaseException as error:  # noqa: BLE001 (what a client raises is the result)
        return f"{type(error).__name__}: {error}"[:1500]
    finally:
        signal.alarm(0)
    return None


async def _finish(done: Awaitable[None]) -> None:
    await done


def _too_late(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise TimeoutError(f"nothing came of it in {PATIENCE_S} s")
