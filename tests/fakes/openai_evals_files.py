"""Logs of OpenAI Evals, in the form in which the tool writes them; all words are made up."""

from pathlib import Path
from typing import Any

import orjson

SPEC = {
    "completion_fns": ["gpt-4o-mini"],
    "eval_name": "harbour.test.v1",
    "base_eval": "harbour",
    "split": "test",
    "run_config": {},
    "created_by": "somebody",
    "run_id": "r1",
}


def sampling(question: str, **more: Any) -> tuple[str, dict[str, Any]]:
    prompt = [
        {"role": "system", "content": "Answer briefly."},
        {"role": "user", "content": question},
    ]
    usage = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}
    return "sampling", {
        "prompt": prompt,
        "sampled": ["words"],
        "model": "gpt-4o-mini-2024-07-18",
        "usage": usage,
        **more,
    }


def match(*, correct: Any = True) -> tuple[str, dict[str, Any]]:
    return "match", {"correct": correct, "expected": "x", "picked": "y"}


def write(folder: Path, samples, spec=SPEC, *, is_finished: bool = True) -> Path:
    events = [(item, kind, data) for item, each in samples.items() for kind, data in each]
    lines: list[dict[str, Any]] = [{"spec": spec}]
    lines += [
        {
            "run_id": "r1",
            "event_id": number,
            "sample_id": item,
            "type": kind,
            "data": data,
            "created_by": "somebody",
            "created_at": "2026-10-01 08:00:00",
        }
        for number, (item, kind, data) in enumerate(events)
    ]
    lines += [{"final_report": {"accuracy": 0.5}}] * is_finished
    log = folder / "run.jsonl"
    log.write_bytes(b"\n".join(map(orjson.dumps, lines)) + b"\n")
    return log
