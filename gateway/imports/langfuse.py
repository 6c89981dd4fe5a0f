"""Reads Langfuse's blob export: observations and scores, as JSON Lines or JSON.

The form: https://langfuse.com/docs/api-and-data-platform/features/export-to-blob-storage. Users,
sessions and metadata are not looked at.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.expected_tokens import expected_tokens
from gateway.imports.contents import Content, Records
from gateway.imports.records import UNCLEAR, Answer, Model, Record, Skipped, question_of

NAME: Final = "Langfuse"
TASK: Final = "langfuse"
_CALL: Final = "GENERATION"
_OBSERVATION: Final = frozenset({"id", "trace_id", "type", "input", "output", "usage_details"})
_SCORE: Final = frozenset({"id", "trace_id", "name", "value", "data_type", "source"})
_GRADES: Final = ("NUMERIC", "BOOLEAN")


def recognises(content: Content, fields: Mapping[str, Any]) -> bool:
    """Tell observations and scores by their fields, one of which may be missing."""
    kinds = (_OBSERVATION, _SCORE)
    return isinstance(content, Records) and any(_has(fields, kind) for kind in kinds)


def _has(fields: Mapping[str, Any], kind: frozenset[str]) -> bool:
    return len(kind - fields.keys()) <= 1


def read(contents: Sequence[Content]) -> Iterator[Answer | Skipped]:
    """Yield each call that a score is of.

    A score of a trace is its call's where there is only one.

    Raises:
        InvalidImport: A field is missing or wrong.
    """
    files = [one for one in contents if isinstance(one, Records)]
    scores = _Scores()
    for file in files:
        if _is_scores(file):
            for record in file:
                yield from scores.add(record)
    observed = [file for file in files if not _is_scores(file)]
    calls = _calls_of(observed)
    seen: set[str] = set()
    for file in observed:
        for record in file:
            if not _is_call(record):
                continue
            key = record.need("id", "a text")
            if key in seen:
                yield Skipped(record.place, "the same call again")
                continue
            seen.add(key)
            yield _call(record, scores, calls)
    yield from scores.unused(calls, seen)


def _calls_of(observed: Sequence[Records]) -> Counter[str]:
    """Count the calls of each trace; one that was exported twice is one."""
    traces: dict[str, str] = {}
    for file in observed:
        for one in file:
            if _is_call(one):
                traces[one.need("id", "a text")] = one.need("trace_id", "a text")
    return Counter(traces.values())


def _is_scores(file: Records) -> bool:
    first = next(iter(file), None)
    fields = {} if first is None else first.fields
    return _has(fields, _SCORE) and not _has(fields, _OBSERVATION)


def _is_call(record: Record) -> bool:
    return bool(record.need("type", "a text") == _CALL)


@dataclass(slots=True)
class _Scores:
    """Grades by the call or trace that they are of, each a name's list."""

    of_calls: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    of_traces: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    places: dict[tuple[str, str], str] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    def add(self, record: Record) -> Iterator[Skipped]:
        """Keep a score, or say why it grades no answer."""
        key, name = record.need("id", "a text"), record.need("name", "a text")
        kind = record.need("data_type", "a text")
        if key in self.seen:
            yield Skipped(record.place, "the same score again")
            return
        self.seen.add(key)
        if kind not in _GRADES:
            yield Skipped(record.place, f"score {name!r} is {kind.lower()}, no grade")
            return
        trace, call = record.find("trace_id", "a text"), record.find("observation_id", "a text")
        if not trace:
            yield Skipped(record.place, "a score of no trace")
            return
        value = record.find("value", "a number")
        if kind == "BOOLEAN" and value not in (None, 0, 1):
            raise record.wrong("value", f"must be 0 or 1, not {value}")
        place, owner = (self.of_calls, call) if call else (self.of_traces, trace)
        place.setdefault(owner, defaultdict(list))[name].append(
            bool(value) if kind == "BOOLEAN" and value is not None else value
        )
        self.places[(trace, call or "")] = record.place

    def of(self, call: str, trace: str, *, is_only: bool) -> Mapping[str, Any]:
        """Return what a call is graded; the mean where several graded it by one name."""
        of_trace = self.of_traces.get(trace, {}) if is_only else {}
        return {
            name: _mean(all_) for name, all_ in {**of_trace, **self.of_calls.get(call, {})}.items()
        }

    def unused(self, calls: Mapping[str, int], seen: set[str]) -> Iterator[Skipped]:
        """Name scores of calls that are not in the export."""
        for (trace, call), place in self.places.items():
            if (call and call not in seen) or (not call and trace not in calls):
                yield Skipped(place, "scores of a call that the export does not have")


def _mean(values: Sequence[Any]) -> Any:
    known = [value for value in values if value is not None]
    if len(known) <= 1:
        return known[0] if known else None
    return sum(known) / len(known)


def _call(record: Record, scores: _Scores, calls: Mapping[str, int]) -> Answer | Skipped:
    trace = record.need("trace_id", "a text")
    if record.need("level", "a text") == "ERROR":
        return Skipped(record.place, "the call failed")
    grades = scores.of(record.need("id", "a text"), trace, is_only=calls[trace] == 1)
    if not grades:
        if trace in scores.of_traces:
            return Skipped(record.place, UNCLEAR)
        return Skipped(record.place, "not graded")
    name = record.find("provided_model_name", "a text")
    if not name:
        return Skipped(record.place, "names no model")
    question = question_of(record.fields.get("input"), f"{record.place}, `input`")
    prompt, completion = _tokens(record)
    output = record.find("output", "a text") or ""
    return Answer(
        place=record.place,
        item=record.fields["id"],
        task=TASK,
        query=question.text,
        model=Model(name, name),
        grades=grades,
        expected=(question.expected_tokens, expected_tokens(output)),
        prompt_tokens=prompt,
        completion_tokens=completion,
        cost_usd=record.cost_usd("total_cost"),
    )


def _tokens(record: Record) -> tuple[int | None, int | None]:
    """Sum the kinds of tokens read and written: cached ones stand beside the others."""
    usage = record.find("usage_details", "an object") or {}
    counts = Record(usage, f"{record.place}, usage_details")
    sums: list[int | None] = []
    for start in ("input", "output"):
        found = [counts.need(name, "a count") for name in usage if name.startswith(start)]
        sums.append(sum(found) if found else None)
    prompt, completion = sums
    return (prompt, completion) if prompt and completion is not None else (None, None)
