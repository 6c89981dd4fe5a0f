"""Runs of HELM, in the form in which the tool writes them; all words are made up."""

from pathlib import Path
from typing import Any

import orjson

SPEC = {
    "name": "harbour:subject=ropes,model=openai_gpt-4o-mini",
    "scenario_spec": {"class_name": "harbour", "args": {}},
    "adapter_spec": {"method": "generation", "model": "openai/gpt-4o-mini"},
}
WORSE = {"name": "typos", "robustness": True}


def state(item: str, question: str, **more: Any) -> dict[str, Any]:
    return {
        "instance": {"id": item, "input": {"text": question}, "references": []},
        "train_trial_index": 0,
        "request": {"model": "openai/gpt-4o-mini", "prompt": question, "max_tokens": 100},
        "result": {"success": True, "cached": True, "completions": [{"text": "words"}]},
        **more,
    }


def stat(name: str, mean: float | None) -> dict[str, Any]:
    if mean is None:
        return {"name": {"name": name, "split": "test"}, "count": 0, "sum": 0}
    return {"name": {"name": name, "split": "test"}, "count": 1, "sum": mean, "mean": mean}


def stats(item: str, *each: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"instance_id": item, "train_trial_index": 0, "stats": list(each), **more}


def write(folder: Path, states, measured, spec=SPEC) -> Path:
    files = {
        "scenario_state.json": {"adapter_spec": SPEC["adapter_spec"], "request_states": states},
        "per_instance_stats.json": measured,
        "run_spec.json": spec,
    }
    for name, content in files.items():
        (folder / name).write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
    return folder
