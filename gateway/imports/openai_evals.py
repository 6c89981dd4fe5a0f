"""Reads the logs of OpenAI Evals (``oaieval``): JSON Lines of events.

The form: openai/evals, evals/record.py (`LocalRecorder`): a line with the run's `spec`, a line for
each event, numbered without gaps, and a line with the `final_report`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.expected_tokens import expected_tokens
from gateway.imports.contents import Content, Records
from gateway.imports.records import (
    UNCLEAR,
    Answer,
    InvalidImport,
    Model,
    Record,
    Skipped,
    question_of,
)

NAME: Final = "OpenAI Evals"
INVALID: Final = "__invalid__"
"""What a judge is said to have chosen whose words could not be read; it gets the lowest score."""


def recognises(content: Content, fields: Mapping[str, Any]) -> bool:
    """Tell by the first line, the run's spec."""
    spec = fields.get("spec")
    names = spec.keys() if isinstance(spec, dict) else set()
    return isinstance(content, Records) and bool({"eval_name", "base_eval"} & names)


def read(contents: Sequence[Content]) -> Iterator[Answer | Skipped]:
    """Yield the answer of each sample.

    Raises:
        InvalidImport: A field is missing or wrong, or lines are missing.
    """
    for content in contents:
        if isinstance(content, Records):
            yield from _run(content)


@dataclass(slots=True)
class _Sample:
    """What the events of a sample come to; of its calls, the first is the answer's."""

    first: Record | None = None
    calls: int = 0
    grades: dict[str, Any] = field(default_factory=dict)
    is_judged: bool = False
    has_failed: bool = False


def _run(content: Records) -> Iterator[Answer | Skipped]:
    lines = iter(content)
    spec = next(lines)
    samples: dict[str, _Sample] = {}
    events, is_finished = 0, False
    for line in lines:
        if "final_report" in line.fields:
            is_finished = True
        elif line.need("event_id", "a count") != events:
            raise line.wrong(
                "event_id", f"must be {events}: an event is missing, or is there twice"
            )
        else:
            events += 1
            _add(line, samples.setdefault(line.need("sample_id", "a text"), _Sample()))
    if not is_finished:
        raise InvalidImport(
            f"{content.path}: has no final report; the run was not finished, or the file is cut"
        )
    for item, sample in samples.items():
        yield _answer(spec, item, sample)


def _add(event: Record, sample: _Sample) -> None:
    data = Record(event.need("data", "an object"), f"{event.place}, data")
    kind = event.need("type", "a text")
    if kind == "sampling":
        sample.calls += 1
        sample.first = sample.first or data
    elif kind == "match":
        sample.grades["correct"] = data.need("correct", "true or false")
    elif kind == "error":
        sample.has_failed = True
    elif kind == "metrics":
        choice = data.fields.get("choice")
        sample.is_judged = sample.is_judged or choice is not None
        for name, value in data.fields.items():
            if isinstance(value, bool | int | float) or value is None:
                sample.grades[name] = None if choice == INVALID else value


def _answer(spec: Record, item: str, sample: _Sample) -> Answer | Skipped:
    place = f"{spec.place.rpartition(', ')[0]}, sample {item}"
    if sample.has_failed or sample.first is None:
        return Skipped(place, "the call failed")
    if not sample.grades:
        return Skipped(place, "not graded")
    # A judge's call is recorded after the answer's, in the same way; where answers were given by
    # the data (`metaeval`), it is the only one.
    if sample.calls != 1 + sample.is_judged:
        return Skipped(place, UNCLEAR)
    call = sample.first
    question = question_of(call.fields.get("prompt"), f"{call.place}, `prompt`")
    usage = call.find("usage", "an object") or {}
    counts = Record(usage, f"{call.place}, usage")
    prompt = counts.find("prompt_tokens", "a count")
    completion = counts.find("completion_tokens", "a count")
    is_counted = bool(prompt) and completion is not None
    return Answer(
        place=place,
        item=item,
        task=spec.need("spec.eval_name", "a text"),
        query=question.text,
        model=_model(spec, call),
        grades=sample.grades,
        expected=(question.expected_tokens, expected_tokens(_sampled(call))),
        prompt_tokens=prompt if is_counted else None,
        completion_tokens=completion if is_counted else None,
    )


def _sampled(call: Record) -> str:
    """The answer's text; a list of one in newer logs."""
    found = call.fields.get("sampled")
    listed = found if isinstance(found, list) else [found]
    if not listed or not isinstance(listed[0], str):
        raise call.wrong("sampled", "must be the answer's text")
    return listed[0]


def _model(spec: Record, call: Record) -> Model:
    """The first of the run's models, which answers; the last of several judges."""
    asked = spec.find("spec.completion_fns", "a list") or [spec.find("spec.model_name", "a text")]
    if not isinstance(asked[0], str) or not asked[0]:
        raise spec.wrong("spec.completion_fns", "must name the model")
    host, _, name = asked[0].rpartition("/")
    return Model(asked[0], name, host or None, None, call.find("model", "a text"))
