"""Turn budgets at work: `python -m benchmarks.turn_budgets_live.run`.

A real gateway in front of its embedded pool, conversations of four verifiable questions, asked with
and without turn budgets. About ten minutes of CPU; writes results.json beside itself.
"""

import argparse
import asyncio
import json
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import httpx2

from benchmarks.turn_budgets_live.conversations import (
    BUDGET_TOKENS,
    CHOICES,
    MODEL,
    TURNS,
    Conversation,
    draw,
    learn_policy,
    read_prompts,
    seal,
)
from budget.policies.policy import SplitPolicy
from gateway.artifacts.store import policy_store
from gateway.settings.config import GatewaySettings
from router_models.verifiers.verifiers import verify

HERE: Final = Path(__file__).parent
SETTINGS: Final = """
data_dir = "{data}"
[server]
port = 0
admin_port = 0
[embedded]
enabled = true
parallel = {at_once}
context_tokens = 16384
"""
ARMS: Final = ("off", "static", "split", "tab")
AT_ONCE: Final = 8
SERVES: Final = re.compile(r"Waypost serves (http://127\.0\.0\.1:\d+)/v1")
KEY: Final = re.compile(r"your key: in (.+)")


@dataclass(frozen=True, slots=True)
class TurnResult:
    """One turn as it went."""

    task: str
    score: float
    tokens: int
    allotted_tokens: int | None
    finish_reason: str


@asynccontextmanager
async def gateway(data: Path) -> AsyncIterator[httpx2.AsyncClient]:
    """Run `waypost serve` on a data directory; yields a client with its key."""
    config = data / "waypost.toml"
    config.write_text(SETTINGS.format(data=data, at_once=AT_ONCE))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "serve", "--config", str(config)),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        said = ""
        while not SERVES.search(said):
            line = await process.stdout.readline()
            if not line:
                raise SystemExit(f"the gateway did not start:\n{said}")
            said += line.decode()
        found = SERVES.search(said)
        assert found is not None
        headers = {"authorization": f"Bearer {_first_key(said)}"}
        async with httpx2.AsyncClient(base_url=found[1], headers=headers, timeout=600) as http:
            await _until_ready(http)
            yield http
    finally:
        process.terminate()
        await process.wait()


def _first_key(said: str) -> str:
    """Read the key from the file that the gateway names when it first starts."""
    found = KEY.search(said)
    assert found is not None
    return Path(found[1]).read_text().strip()


async def _until_ready(http: httpx2.AsyncClient) -> None:
    while not (await http.get("/ready")).is_success:  # noqa: ASYNC110 (another process's state)
        await asyncio.sleep(0.5)


async def converse(
    http: httpx2.AsyncClient, arm: str, conversation: Conversation, name: str
) -> list[TurnResult]:
    """Ask the turns of one conversation in order, each with the whole history."""
    messages: list[dict[str, str]] = []
    results = []
    for prompt in conversation:
        messages.append({"role": "user", "content": prompt.text})
        body: dict[str, Any] = {"model": MODEL, "messages": messages}
        if arm == "static":
            body["max_tokens"] = BUDGET_TOKENS // TURNS
        if arm in ("split", "tab"):
            body["waypost"] = {"conversation_id": name, "turn_budget": BUDGET_TOKENS}
        response = await http.post("/v1/chat/completions", json=body)
        if response.status_code == 429:
            results.append(TurnResult(prompt.task, 0.0, 0, 0, "refused"))
            messages.append({"role": "assistant", "content": ""})
            continue
        response.raise_for_status()
        answer = response.json()
        choice = answer["choices"][0]
        allotted = answer["waypost"].get("turn_budget", {}).get("allotted_tokens")
        results.append(
            TurnResult(
                prompt.task,
                verify(prompt.verifier, choice["message"]["content"]),
                answer["usage"]["completion_tokens"],
                allotted,
                choice["finish_reason"],
            )
        )
        messages.append({"role": "assistant", "content": choice["message"]["content"]})
    return results


async def measure(seeds: int, conversations: int, out: Path) -> None:
    """Hold every conversation once in every arm; each seed is kept as soon as it is done."""
    to_learn, to_ask = read_prompts()
    results: dict[str, Any] = {
        "model": MODEL,
        "budget_tokens": BUDGET_TOKENS,
        "choices": CHOICES,
        "seeds": [],
        "arms": {arm: [] for arm in ARMS},
    }
    with tempfile.TemporaryDirectory() as folder:
        store = policy_store(GatewaySettings(data_dir=Path(folder)))
        split = SplitPolicy(CHOICES, TURNS)
        versions = [store.put(data).version for data in (seal(split), learn_policy(to_learn))]
        async with gateway(Path(folder)) as http:
            for seed in range(seeds):
                asked = draw(to_ask, conversations, 100 + seed)
                for version, arms in zip(versions, (ARMS[:3], ARMS[3:]), strict=True):
                    store.activate(version)
                    await _until_proposes(http, version)
                    for arm, held in (await hold(http, arms, asked, seed)).items():
                        results["arms"][arm] += held
                results["seeds"] += [seed] * conversations
                out.write_text(json.dumps(results) + "\n")  # noqa: ASYNC240 (nobody waits)


async def hold(
    http: httpx2.AsyncClient, arms: Sequence[str], asked: Sequence[Conversation], seed: int
) -> dict[str, list[list[dict[str, Any]]]]:
    """Hold these conversations in each of `arms`."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def held(arm: str, number: int) -> list[dict[str, Any]]:
        async with gate:
            turns = await converse(http, arm, asked[number], f"{arm}-{seed}-{number}")
            return [asdict(turn) for turn in turns]

    waiting = {arm: [asyncio.create_task(held(arm, n)) for n in range(len(asked))] for arm in arms}
    return {arm: await asyncio.gather(*tasks) for arm, tasks in waiting.items()}


async def _until_proposes(http: httpx2.AsyncClient, version: str) -> None:
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Hello"}],
        "waypost": {"turn_budget": BUDGET_TOKENS},
    }
    while True:
        told = (await http.post("/v1/route", json=body)).json()["turn_budget"]
        if told["policy_version"] == version:
            return
        await asyncio.sleep(0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--conversations", type=int, default=6, help="of each seed")
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.seeds, arguments.conversations, arguments.out))


if __name__ == "__main__":
    main()
