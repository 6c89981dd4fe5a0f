"""Builds what ships with the embedded pool: prompts, measured prices, evaluations, routers.

    python -m benchmarks.embedded_pool.run prompts --questions reasoning_qa.parquet
    python -m benchmarks.embedded_pool.run ask       # resumable; about 15 minutes on two cores
    python -m benchmarks.embedded_pool.run prices
    python -m benchmarks.embedded_pool.run score
    python -m benchmarks.embedded_pool.run routers

Generation is greedy and prices are constants of `gateway.embedded.variants`, so that everything but
`prices` gives the same files again.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.embedded_pool import prompts, routers
from gateway.commands.calibrate import report, write_rows
from gateway.embedded.process import EmbeddedPool
from gateway.embedded.routers import DATA
from gateway.embedded.variants import embedded_models
from gateway.embedded.weights import find_weights
from gateway.problems.calibration import (
    CalibrationRow,
    GivenAnswer,
    parse_prompts,
    read_json_lines,
    score,
)
from gateway.problems.datasets import split_of
from gateway.settings.config import EmbeddedSettings, process_environment
from gateway.types import HostedModel, Usage

HERE = Path(__file__).parent
PROMPTS = DATA / "prompts.jsonl"
EVALUATIONS = DATA / "evaluations.parquet"
ANSWERS = HERE / "results" / "answers.jsonl"
CONCURRENCY = 6


async def open_pool(threads: int, parallel: int) -> EmbeddedPool:
    settings = EmbeddedSettings(threads=threads, parallel=parallel)
    log = Path(tempfile.gettempdir()) / "waypost-embedded-pool.log"
    pool = EmbeddedPool(find_weights(settings), settings, log, process_environment())
    await pool.start()
    if not await pool.wait_ready(120):
        raise SystemExit(pool.problem)
    return pool


def client(pool: EmbeddedPool) -> httpx2.AsyncClient:
    headers = {"authorization": f"Bearer {pool.api_key}"}
    return httpx2.AsyncClient(base_url=pool.base_url, headers=headers, timeout=600)


async def answer(http: httpx2.AsyncClient, arm: HostedModel, text: str) -> dict[str, Any]:
    """Ask as the gateway does: the arm's prompt before the query, its defaults in the body."""
    messages = [{"role": "user", "content": text}]
    if arm.system_prompt is not None:
        messages.insert(0, {"role": "system", "content": arm.system_prompt})
    body = {"model": arm.upstream_name, "messages": messages, **arm.request_defaults}
    started_at = time.monotonic()
    response = await http.post("/chat/completions", json=body)
    response.raise_for_status()
    given = response.json()
    details = given["usage"].get("prompt_tokens_details") or {}
    return {
        "text": given["choices"][0]["message"]["content"],
        "prompt_tokens": given["usage"]["prompt_tokens"],
        "cached_tokens": details.get("cached_tokens", 0),
        "completion_tokens": given["usage"]["completion_tokens"],
        "latency_s": round(time.monotonic() - started_at, 3),
    }


async def ask(threads: int) -> None:
    """Put every prompt to every arm; answers already in the file are kept."""
    ANSWERS.parent.mkdir(exist_ok=True)
    done = {(row["model"], row["query_id"]) for row in read_answers()}
    questions = parse_prompts(read_json_lines(PROMPTS))
    pairs = [
        (arm, question)
        for question in questions
        for arm in embedded_models().values()
        if (arm.name, question.query_id) not in done
    ]
    waiting = iter(pairs)
    pool = await open_pool(threads, CONCURRENCY)
    async with client(pool) as http:
        with ANSWERS.open("a", encoding="utf-8") as out:

            async def work() -> None:
                for arm, question in waiting:
                    row = {"model": arm.name, "query_id": question.query_id}
                    row |= await answer(http, arm, question.text)
                    out.write(json.dumps(row) + "\n")
                    out.flush()

            await asyncio.gather(*(work() for _ in range(CONCURRENCY)))
    await pool.aclose()


def read_answers() -> list[dict[str, Any]]:
    if not ANSWERS.exists():
        return []
    return [json.loads(line) for line in ANSWERS.read_text(encoding="utf-8").splitlines()]


def evaluate() -> list[CalibrationRow]:
    """Verify and price the stored answers."""
    questions = {q.query_id: q for q in parse_prompts(read_json_lines(PROMPTS))}
    arms, rows = embedded_models(), []
    for row in read_answers():
        usage = Usage(row["prompt_tokens"], row["completion_tokens"], row["cached_tokens"])
        given = GivenAnswer(
            text=row["text"],
            prompt_tokens=row["prompt_tokens"],
            completion_tokens=row["completion_tokens"],
            cost_usd=arms[row["model"]].price.cost_nusd(usage) / 1e9,
            latency_s=row["latency_s"],
        )
        question = questions[row["query_id"]]
        rows.append(score(row["model"], question, given, split_of(question.text)))
    return rows


def print_by_task(rows: Sequence[CalibrationRow]) -> None:
    models = sorted({row.model for row in rows})
    print("task".ljust(12), *(model.removeprefix("smollm2-135m").rjust(8) for model in models))
    for task in sorted({row.task for row in rows}):
        cells = [
            statistics.fmean(r.score for r in rows if r.task == task and r.model == model)
            for model in models
        ]
        print(task.ljust(12), *(f"{cell:8.2f}" for cell in cells))


async def measure_prices() -> None:
    """Measure CPU seconds per token of the child, one request at a time with one thread."""
    pool = await open_pool(threads=1, parallel=1)
    arm = embedded_models()["smollm2-135m"]
    clock_ticks = os.sysconf("SC_CLK_TCK")

    def cpu_s() -> float:
        fields = Path(f"/proc/{pool.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / clock_ticks

    async def cost_of(http: httpx2.AsyncClient, text: str, tokens: int) -> tuple[float, Any]:
        before = cpu_s()
        body = {"messages": [{"role": "user", "content": text}], "max_tokens": tokens}
        body |= {"temperature": 0, "ignore_eos": True, "model": arm.upstream_name}
        usage = (await http.post("/chat/completions", json=body)).json()["usage"]
        return cpu_s() - before, usage

    per_prompt, per_completion, per_cached = [], [], []
    async with client(pool) as http:
        await cost_of(http, "Warm up.", 8)
        for repeat in range(5):
            long = f"{repeat}: " + "A quick brown fox jumps over a lazy dog and runs away. " * 40
            spent, usage = await cost_of(http, long, 1)
            per_prompt.append(spent / usage["prompt_tokens"])
            again, usage = await cost_of(http, long, 1)
            per_cached.append(again / usage["prompt_tokens"])
            await cost_of(http, f"{repeat} Tell me a long story.", 1)
            spent, usage = await cost_of(http, f"{repeat} Tell me a long story.", 129)
            per_completion.append(spent / 128)
    await pool.aclose()
    for name, values in (
        ("prompt", per_prompt),
        ("cached", per_cached),
        ("completion", per_completion),
    ):
        print(
            f"CPU s per {name} token: median {statistics.median(values):.6f}, "
            f"{min(values):.6f} to {max(values):.6f}"
        )


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=("prompts", "ask", "prices", "score", "routers"))
    parser.add_argument("--questions", type=Path, help="Table of published questions.")
    parser.add_argument("--per-task", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    if options.stage == "prompts":
        prompts.write(prompts.build(options.questions, options.per_task), PROMPTS)
    elif options.stage == "ask":
        asyncio.run(ask(options.threads))
    elif options.stage == "prices":
        asyncio.run(measure_prices())
    elif options.stage == "score":
        rows = evaluate()
        write_rows(rows, EVALUATIONS)
        print_by_task(rows)
        report(rows)
    else:
        routers.build(EVALUATIONS, DATA, HERE / "results" / "routers.md")


if __name__ == "__main__":
    main(sys.argv[1:])
