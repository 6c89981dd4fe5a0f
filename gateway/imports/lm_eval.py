"""Reads what lm-evaluation-harness writes with ``--log_samples``.

A folder per model: ``results_TIME.json`` names it, and ``samples_TASK_TIME.jsonl`` holds a line per
document and filter (EleutherAI/lm-evaluation-harness, lm_eval/loggers/evaluation_tracker.py).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from gateway.expected_tokens import expected_tokens
from gateway.imports.contents import Content, Document, Records
from gateway.imports.records import (
    Answer,
    InvalidImport,
    Model,
    Record,
    Skipped,
    messages_in,
    question_of,
)

NAME: Final = "lm-evaluation-harness"
_SAMPLES: Final = re.compile(r"samples_(?P<task>.+)_(?P<time>\d{4}-\d\d-\d\dT[\d.:-]+)\.jsonl")
_FIELDS: Final = frozenset({"doc_id", "doc", "arguments", "resps", "filter", "target"})


def recognises(content: Content, fields: Mapping[str, Any]) -> bool:
    """Tell by their fields the results of a run and its samples, one of which may be missing."""
    if isinstance(content, Records):
        return len(_FIELDS - fields.keys()) <= 1
    return {"results", "configs", "n-shot"} <= fields.keys()


def read(contents: Sequence[Content]) -> Iterator[Answer | Skipped]:
    """Yield a document's answer with the metrics of all its filters.

    Raises:
        InvalidImport: A field is missing or wrong, documents are missing, or the run's results are
            not beside its samples.
    """
    for content in contents:
        if isinstance(content, Records):
            yield from _task(content)
        elif isinstance(content, Document):
            yield from _unlogged(content)


def _unlogged(results: Document) -> Iterator[Skipped]:
    """Name the tasks of a run whose answers were not kept."""
    time = results.path.name.removeprefix("results_").removesuffix(".json")
    for task in results.record().find("n-samples", "an object") or {}:
        if not results.path.with_name(f"samples_{task}_{time}.jsonl").is_file():
            yield Skipped(f"{results.path}, {task}", "a task whose samples file is not there")


def _task(samples: Records) -> Iterator[Answer]:
    named = _SAMPLES.fullmatch(samples.path.name)
    if named is None:
        raise InvalidImport(
            f"{samples.path}: must be called samples_TASK_TIME.jsonl, as lm-evaluation-harness "
            "calls it: the name says which results it belongs to"
        )
    file = samples.path.with_name(f"results_{named['time']}.json")
    if not file.is_file():
        raise InvalidImport(f"{samples.path}: {file.name} must lie beside it: it names the model")
    results, task = Document(file).record(), named["task"]
    model = _model(results)
    better = (results.find("higher_is_better", "an object") or {}).get(task)
    better = better if isinstance(better, dict) else {}
    answers: dict[object, Answer] = {}
    for line in samples:
        item = line.need("doc_id", "a count")
        grades, lower = _grades(line, better)
        known = answers.get(item)
        if known is None:
            answers[item] = _answer(line, str(item), task, model, grades, lower)
        elif grades.keys() & known.grades.keys():
            raise InvalidImport(
                f"{line.place}: document {item} was there before with the same filter; two runs "
                "are mixed in this file: export them apart"
            )
        else:
            if _answer(line, str(item), task, model, grades, lower).query != known.query:
                raise InvalidImport(
                    f"{line.place}: document {item} has another prompt than in a line before"
                )
            answers[item] = replace(
                known,
                grades={**known.grades, **grades},
                lower_is_better=known.lower_is_better | lower,
            )
    _complete(results, task, len(answers), samples)
    yield from answers.values()


def _complete(results: Record, task: str, found: int, samples: Records) -> None:
    counts = (results.find("n-samples", "an object") or {}).get(task)
    if counts is None:
        return
    counted = Record({"n": counts}, f"{results.place}, n-samples of {task}")
    expected = counted.need("n.effective", "a count")
    if expected != found:
        raise InvalidImport(
            f"{samples.path}: has {found} documents, and the results say {expected}; the file is "
            "cut: copy it anew"
        )


def _model(results: Record) -> Model:
    """The name of a run's model; older versions have it only among the arguments."""
    name = results.find("model_name", "a text")
    if not name:
        arguments = (results.find("config", "an object") or {}).get("model_args")
        if isinstance(arguments, str):
            pairs = (pair.partition("=") for pair in arguments.split(","))
            arguments = {key.strip(): value.strip() for key, _, value in pairs}
        arguments = arguments if isinstance(arguments, dict) else {}
        name = arguments.get("pretrained") or arguments.get("model")
    if not isinstance(name, str) or not name:
        raise results.wrong("model_name", "is missing")
    return Model(name, name)


def _grades(line: Record, better: Mapping[str, Any]) -> tuple[dict[str, Any], frozenset[str]]:
    which = line.need("filter", "a text")
    names = line.need("metrics", "a list")
    grades, lower = {}, set()
    for name in names:
        if not isinstance(name, str) or name not in line.fields:
            raise line.wrong("metrics", "names a metric that the line does not have")
        metric = name if which == "none" else f"{name},{which}"
        grades[metric] = line.fields[name]
        if better.get(name) is False:
            lower.add(metric)
    return grades, frozenset(lower)


def _answer(
    line: Record,
    item: str,
    task: str,
    model: Model,
    grades: Mapping[str, Any],
    lower: frozenset[str],
) -> Answer:
    requests = _requests(line)
    prompt = requests[0][0]
    if isinstance(prompt, list) and len(prompt) == 1 and messages_in(prompt[0]):
        prompt = prompt[0]  # a chat as JSON text, which the harness wraps (`JsonChatStr`)
    question = question_of(prompt, f"{line.place}, `arguments`")
    expected = (question.expected_tokens, _answer_tokens(line, requests))
    return Answer(
        line.place, item, task, question.text, model, grades, expected, lower_is_better=lower
    )


def _requests(line: Record) -> list[tuple[Any, Any]]:
    """The prompt of each request for a document, and what it was asked to continue with."""
    arguments = line.fields.get("arguments")
    if isinstance(arguments, dict):  # since 0.4.3
        pairs = [
            (one.get("arg_0"), one.get("arg_1")) if isinstance(one, dict) else None
            for one in arguments.values()
        ]
    else:
        listed = line.need("arguments", "a list")
        pairs = [
            (one[0], one[1] if len(one) > 1 else None) if isinstance(one, list) and one else None
            for one in listed
        ]
    found = [pair for pair in pairs if pair is not None]
    if not found or len(found) < len(pairs):
        raise line.wrong("arguments", "must hold the prompt of each request")
    return found


def _answer_tokens(line: Record, requests: Sequence[tuple[Any, Any]]) -> float:
    """Estimate how long the answer was; where choices were ranked, how long the longest is."""
    choices = [text for _, text in requests if isinstance(text, str)]
    if choices:
        return max(map(expected_tokens, choices))
    answer: Any = line.need("resps", "a list")
    while isinstance(answer, list) and answer:
        answer = answer[0]
    if not isinstance(answer, str):
        raise line.wrong("resps", "must hold the answer as a text")
    return expected_tokens(answer)
