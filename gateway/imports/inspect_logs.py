"""Reads logs of Inspect AI: ``.eval`` archives and the older JSON documents.

The form: UKGovernmentBEIS/inspect_ai, src/inspect_ai/log/_log.py (`EvalLog`, `EvalSample`).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from gateway.expected_tokens import expected_tokens
from gateway.imports.contents import Archive, Content, Document
from gateway.imports.records import (
    UNCLEAR,
    Answer,
    InvalidImport,
    Model,
    Record,
    Skipped,
    Verdict,
    question_of,
)
from gateway.wire import text_of

NAME: Final = "Inspect"
LETTERS: Final[Mapping[object, float]] = {
    letter: Verdict(worth) for letter, worth in (("C", 1), ("P", 0.5), ("I", 0), ("N", 0))
}
"""Right, partly right, wrong, no answer: `value_to_float` of Inspect."""
_HOSTS: Final = {"grok": "x-ai", "bedrock": "aws", "azureai": "azure", "vertex": "google"}
"""Where Inspect calls models, in the price catalogue's words; the others are the same."""


def recognises(content: Content, fields: Mapping[str, Any]) -> bool:
    """Tell an archive by its members, a document by its fields."""
    if isinstance(content, Archive):
        names = content.names()
        return "header.json" in names or "_journal/start.json" in names
    return isinstance(fields.get("eval"), dict) and {"plan", "status"} <= fields.keys()


def read(contents: Sequence[Content]) -> Iterator[Answer | Skipped]:
    """Yield the answer of each sample and epoch.

    Raises:
        InvalidImport: A field is missing or wrong, or samples are missing.
    """
    for content in contents:
        if isinstance(content, Archive):
            header = content.record("header.json")
            names = [name for name in content.names() if name.startswith("samples/")]
            yield from _log(header, (content.record(name) for name in names), len(names))
        elif isinstance(content, Document):
            header = content.record()
            listed = header.find("samples", "a list")
            if listed is None:
                raise header.wrong("samples", "is missing: the log was written without them")
            samples = (_entry(header, at, one) for at, one in enumerate(listed))
            yield from _log(header, samples, len(listed))


def _entry(header: Record, at: int, sample: object) -> Record:
    if not isinstance(sample, dict):
        raise header.wrong(f"samples[{at}]", "must be an object")
    return Record(sample, f"{header.place}, samples[{at}]")


def _log(header: Record, samples: Iterator[Record], found: int) -> Iterator[Answer | Skipped]:
    asked, task = header.need("eval.model", "a text"), header.need("eval.task", "a text")
    if header.need("status", "a text") == "success":
        expected = header.need("results.total_samples", "a count")
        if expected != found:
            raise InvalidImport(
                f"{header.place}: has {found} samples, and its results say {expected}; the log is "
                "cut: copy it anew"
            )
    seen: set[tuple[Any, Any]] = set()
    for sample in samples:
        key = (sample.need("id", "an id"), sample.need("epoch", "a count"))
        if key in seen:
            raise InvalidImport(f"{sample.place}: sample {key[0]}, epoch {key[1]} is there twice")
        seen.add(key)
        yield _sample(sample, asked, task)


def _sample(sample: Record, asked: str, task: str) -> Answer | Skipped:
    scores = sample.find("scores", "an object")
    if sample.find("error", "an object") is not None:
        return Skipped(sample.place, "the call failed")
    if sample.find("invalidation", "an object") is not None:
        return Skipped(sample.place, "declared invalid in the log")
    if not scores:
        return Skipped(sample.place, "not graded")
    if _calls(sample) > 1:
        return Skipped(sample.place, UNCLEAR)
    question = question_of(_input(sample), f"{sample.place}, `input`")
    output = Record(sample.need("output", "an object"), f"{sample.place}, output")
    prompt, completion = _tokens(output)
    answer = output.find("completion", "a text") or ""
    return Answer(
        place=sample.place,
        item=f"{sample.fields['id']}, epoch {sample.fields['epoch']}",
        task=task,
        query=question.text,
        model=_model(asked, output.find("model", "a text")),
        grades=_grades(sample, scores),
        expected=(question.expected_tokens, expected_tokens(answer)),
        prompt_tokens=prompt,
        completion_tokens=completion,
    )


def _model(asked: str, answered: str | None) -> Model:
    host, _, name = asked.partition("/")
    return Model(asked, name or asked, _HOSTS.get(host, host) if name else None, None, answered)


def _calls(sample: Record) -> int:
    """How many answers the model gave, those of the sample's own example dialogue left out."""
    messages = sample.find("messages", "a list") or []
    spoken = [one for one in messages if isinstance(one, dict) and one.get("role") == "assistant"]
    given = sample.fields.get("input")
    shown = [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []
    return len(spoken) - len([one for one in shown if one.get("role") == "assistant"])


def _input(sample: Record) -> object:
    """The sample's input; long texts may lie among its attachments."""
    given, attached = sample.fields.get("input"), sample.find("attachments", "an object") or {}

    def resolved(text: str) -> str:
        key = text.removeprefix("attachment://")
        found = attached.get(key) if key != text else text
        if not isinstance(found, str):
            raise sample.wrong("attachments", "lacks a text that `input` refers to")
        return found

    if isinstance(given, str):
        return resolved(given)
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        return given
    return [{**one, "content": resolved(text_of(one.get("content")))} for one in given]


def _tokens(output: Record) -> tuple[int | None, int | None]:
    """Tokens of the answer's call alone: a sample's `model_usage` has the graders' too."""
    prompt = output.find("usage.input_tokens", "a count")
    completion = output.find("usage.output_tokens", "a count")
    if prompt is None or completion is None:
        return None, None
    cached = sum(
        output.find(f"usage.input_tokens_cache_{kind}", "a count") or 0
        for kind in ("read", "write")
    )
    # Some providers count cached tokens as input and some beside it; the total says which.
    total = output.find("usage.total_tokens", "a count")
    return prompt + (cached if total == prompt + cached + completion else 0), completion


def _grades(sample: Record, scores: Mapping[str, Any]) -> dict[str, Any]:
    grades: dict[str, Any] = {}
    for scorer, score in scores.items():
        if not isinstance(score, dict) or "value" not in score:
            raise sample.wrong(f"scores.{scorer}", "must be an object with a `value`")
        value = score["value"]
        if isinstance(value, dict):
            grades |= {f"{scorer}/{name}": _number(one) for name, one in value.items()}
        else:
            grades[scorer] = _number(value)
    return grades


def _number(value: object) -> object:
    return LETTERS.get(value, value) if isinstance(value, str) else value
