"""Reads the runs of HELM (``helm-run``): a folder with three files that belong together.

``scenario_state.json`` has what was asked and answered, ``per_instance_stats.json`` every metric of
every answer, ``run_spec.json`` the run's name. The form: stanford-crfm/helm,
src/helm/benchmark/adaptation/request_state.py and src/helm/benchmark/metrics/statistic.py.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from gateway.expected_tokens import expected_tokens
from gateway.imports.contents import Content, Document, Records
from gateway.imports.records import (
    UNCLEAR,
    Answer,
    InvalidImport,
    Model,
    Record,
    Skipped,
    question_of,
)

NAME: Final = "HELM"
_TOKENS: Final = ("num_prompt_tokens", "num_output_tokens")
_MODELS: Final = ("model=", "model_deployment=")


class _Key(NamedTuple):
    """One try at one question; a question that was changed to test robustness is another."""

    instance: str
    trial: int


def recognises(content: Content, fields: Mapping[str, Any]) -> bool:
    """Tell each of a run's three files by its fields."""
    if isinstance(content, Records):
        return {"instance_id", "stats"} <= fields.keys()
    return "adapter_spec" in fields and bool({"request_states", "scenario_spec"} & fields.keys())


def read(contents: Sequence[Content]) -> Iterator[Answer | Skipped]:
    """Yield the answers of runs.

    Raises:
        InvalidImport: A field is missing or wrong, or a file of a run is.
    """
    for content in contents:
        if isinstance(content, Document):
            state = content.record()
            if "request_states" in state.fields:
                yield from _run(state, content.path)


def _run(state: Record, path: Path) -> Iterator[Answer | Skipped]:
    beside = [path.with_name(name) for name in ("run_spec.json", "per_instance_stats.json")]
    missing = [file for file in beside if not file.is_file()]
    if missing:
        raise InvalidImport(f"{path}: {missing[0].name} must lie beside it, as HELM writes it")
    task = _task(Document(beside[0]).record())
    grades = _grades(Records(beside[1], are_lines=False))
    states = []
    for at, one in enumerate(state.need("request_states", "a list")):
        if not isinstance(one, dict):
            raise state.wrong(f"request_states[{at}]", "must be an object")
        states.append(Record(one, f"{path}, request_states[{at}]"))
    asked = Counter(_key(one) for one in states if not _is_aside(one))
    for one in states:
        yield _answer(one, task, grades, asked)


def _task(spec: Record) -> str:
    """The run's name without the model: ``mmlu:subject=anatomy``."""
    name = spec.need("name", "a text")
    scenario, _, arguments = name.partition(":")
    kept = [one for one in arguments.split(",") if one and not one.startswith(_MODELS)]
    return f"{scenario}:{','.join(kept)}" if kept else scenario


def _key(state: Record) -> _Key:
    return _Key(str(state.need("instance.id", "an id")), state.need("train_trial_index", "a count"))


def _is_aside(state: Record) -> bool:
    """Whether a call is of a changed question, or asked only to calibrate the others."""
    is_changed = state.find("instance.perturbation", "an object") is not None
    return is_changed or state.find("request_mode", "a text") == "calibration"


def _grades(stats: Records) -> Mapping[_Key, dict[str, Any]]:
    """Collect the metrics of each try; those of one name and two values are no one grade."""
    found: dict[_Key, dict[str, Any]] = defaultdict(dict)
    for entry in stats:
        if entry.find("perturbation", "an object") is not None:
            continue
        key = _Key(
            str(entry.need("instance_id", "an id")), entry.need("train_trial_index", "a count")
        )
        for at, one in enumerate(entry.need("stats", "a list")):
            if not isinstance(one, dict):
                raise entry.wrong(f"stats[{at}]", "must be an object")
            stat = Record(one, f"{entry.place}, stats[{at}]")
            name, value = stat.need("name.name", "a text"), _mean(stat)
            if found[key].setdefault(name, value) != value:
                found[key][name] = [found[key][name], value]
    return found


def _mean(stat: Record) -> float | None:
    """The value of one answer; None where nothing was measured."""
    count = stat.need("count", "a count")
    mean: float | None = stat.need("mean", "a number") if count else None
    return mean


def _answer(
    state: Record, task: str, grades: Mapping[_Key, dict[str, Any]], asked: Mapping[_Key, int]
) -> Answer | Skipped:
    key = _key(state)
    if _is_aside(state):
        return Skipped(state.place, "a changed question, or a call to calibrate")
    if not state.find("result.success", "true or false"):
        return Skipped(state.place, "the call failed")
    if asked[key] > 1:
        return Skipped(state.place, UNCLEAR)
    if key not in grades:
        return Skipped(state.place, "not graded")
    prompt = state.find("request.messages", "a list") or state.need("request.prompt", "a text")
    question = question_of(prompt, f"{state.place}, `request`")
    spelled = state.need("request.model", "a text")
    measured = {name: value for name, value in grades[key].items() if name not in _TOKENS}
    tokens = [_count(grades[key].get(name), name, state) for name in _TOKENS]
    is_counted = bool(tokens[0]) and tokens[1] is not None
    return Answer(
        place=state.place,
        item=f"{key.instance}, trial {key.trial}",
        task=task,
        query=question.text,
        model=Model(spelled, spelled.rpartition("/")[2]),
        grades=measured,
        expected=(question.expected_tokens, expected_tokens(_completion(state))),
        prompt_tokens=tokens[0] if is_counted else None,
        completion_tokens=tokens[1] if is_counted else None,
    )


def _count(value: object, name: str, state: Record) -> int | None:
    """HELM counts in floats."""
    if value is None:
        return None
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    return int(Record({name: whole}, state.place).need(name, "a count"))


def _completion(state: Record) -> str:
    completions = state.need("result.completions", "a list")
    if not completions or not isinstance(completions[0], dict):
        raise state.wrong("result.completions", "must hold the answer")
    return str(Record(completions[0], f"{state.place}, completion").need("text", "a text"))
