"""Files that are cut or changed give no wrong row: an error that names them, or a counted skip."""

import shutil
from collections import Counter
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.imports.records import InvalidImport
from gateway.imports.table import ImportedRow
from tests.fakes import helm_files, openai_evals_files
from tests.fakes.evaluation_files import (
    CLAUDE,
    INSPECT,
    LANGFUSE,
    LM_EVAL,
    PROMPTFOO,
    as_document,
    imported,
)

METRICS = ("strict-match", "acc", "match", "score", "correctness")
OTHERS: tuple[Any, ...] = (None, 7, -3, 0.5, True, "words", [], {}, ["words"], {"a": 1}, "")
ABSURD = (-3, -0.5, 1e300, 10**12)
"""Numbers that nothing in the samples can be; any other number might be right."""


@dataclass(frozen=True)
class Sample:
    """A file of a sample, as it lies in its folder, and the metrics that grade that folder."""

    folder: Path
    file: str
    metrics: tuple[str, ...]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """Every file of JSON of every tool; of Inspect a document, whose fields can be changed."""
    inspect, evals, run = (tmp_path_factory.mktemp(name) for name in ("inspect", "evals", "helm"))
    (inspect / "log.json").write_bytes(orjson.dumps(as_document(CLAUDE)))
    judged = [openai_evals_files.sampling("Is it right?"), ("metrics", {"choice": "Y", "score": 1})]
    asked = [openai_evals_files.sampling(f"Which rope, {n}?") for n in range(3)]
    openai_evals_files.write(
        evals, {f"h.{n}": [one, *judged] for n, one in enumerate(asked)}, is_finished=True
    )
    items = ("id1", "id2", "id3")
    helm_files.write(
        run,
        [helm_files.state(item, f"Which rope, {item}?") for item in items],
        [helm_files.stats(item, helm_files.stat("em", n / 2)) for n, item in enumerate(items)]
        + [helm_files.stats("id1", helm_files.stat("num_prompt_tokens", 9.0))]
        + [helm_files.stats("id1", helm_files.stat("num_output_tokens", 9.0))],
    )
    found = [
        Sample(folder, str(file.relative_to(folder)), metrics)
        for folder, metrics in (
            (LM_EVAL, ("strict-match", "acc")),
            (PROMPTFOO, ("score",)),
            (LANGFUSE, ("correctness",)),
            (inspect, ("match",)),
            (evals, ("score",)),
            (run, ("em",)),
        )
        for file in sorted(folder.rglob("*.json*"))
    ]
    assert len(found) == 14
    return found


def paths_in(value, path=()):
    """Yield the way to each value of a JSON document."""
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in items:
        yield (*path, key)
        yield from paths_in(inner, (*path, key))


def changed(value, path, other, *, is_drop):
    whole = deepcopy(value)
    holder = whole
    for key in path[:-1]:
        holder = holder[key]
    if is_drop:
        del holder[path[-1]]
    else:
        holder[path[-1]] = other
    return whole


def is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def key_of(row: ImportedRow):
    return row.query_id, row.model, row.score, row.task, row.metric


def check(folder: Path, sample: Sample) -> None:
    """Compare what a changed folder gives with what the whole one gives."""
    whole, before = imported(sample.folder, metrics=sample.metrics)
    try:
        rows, after = imported(folder, metrics=sample.metrics)
    except InvalidImport:
        return
    lost = Counter(map(key_of, whole)) - Counter(map(key_of, rows))
    assert not Counter(map(key_of, rows)) - Counter(map(key_of, whole)), "a row of its own"
    known = {row.source: row for row in whole}
    for row in rows:
        same = known[row.source]
        assert row.cost_from == "estimate" or row.cost_usd == pytest.approx(same.cost_usd)
        assert row.prompt_tokens in (None, same.prompt_tokens)
        assert row.completion_tokens in (None, same.completion_tokens)
    counted = sum((Counter(after.skipped) - Counter(before.skipped)).values())
    assert not lost or counted or after.ignored


def written(sample: Sample, folder: str, content: bytes) -> Path:
    copy = Path(folder) / "copy"
    shutil.copytree(sample.folder, copy)
    (copy / sample.file).write_bytes(content)
    return copy


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_field_that_is_dropped_or_of_another_type_gives_no_wrong_row(samples, data):
    sample = data.draw(st.sampled_from(samples))
    raw = (sample.folder / sample.file).read_bytes()
    is_lines = sample.file.endswith(".jsonl")
    value = [orjson.loads(line) for line in raw.splitlines()] if is_lines else orjson.loads(raw)
    fields = [path for path in paths_in(value) if isinstance(path[-1], str)]
    path = data.draw(st.sampled_from(fields))
    is_drop = data.draw(st.booleans())
    old = value
    for key in path:
        old = old[key]
    others = [
        other
        for other in (*OTHERS, *ABSURD)
        if (type(other) is not type(old) and not (is_number(other) and is_number(old)))
        or other in ABSURD
    ]
    other = data.draw(st.sampled_from(others))
    new = changed(value, path, other, is_drop=is_drop)
    content = b"\n".join(map(orjson.dumps, new)) if is_lines else orjson.dumps(new)
    with TemporaryDirectory() as folder:
        check(written(sample, folder, content), sample)


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_a_file_that_is_cut_is_an_error_that_names_it(samples, data):
    sample = data.draw(st.sampled_from(samples))
    raw = (sample.folder / sample.file).read_bytes()
    cut = data.draw(st.integers(0, len(raw) - 2))
    # Lines that end before the cut are whole: such a file is a smaller export.
    content = raw[:cut] if not raw[:cut].endswith((b"\n", b"}")) else raw[: cut - 1]
    with TemporaryDirectory() as folder:
        copy = written(sample, folder, content)
        with pytest.raises(InvalidImport, match=Path(sample.file).name):
            imported(copy, metrics=sample.metrics)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_an_archive_whose_bytes_are_changed_or_cut_gives_no_other_row(data):
    raw = bytearray(CLAUDE.read_bytes())
    whole = Counter(key_of(row) for row in imported(CLAUDE, metrics=("match",))[0])
    at = data.draw(st.integers(4, len(raw) - 1))
    if data.draw(st.booleans()):
        raw[at] ^= data.draw(st.integers(1, 255))
    else:
        raw = raw[:at]
    with TemporaryDirectory() as folder:
        log = Path(folder) / CLAUDE.name
        log.write_bytes(raw)
        with suppress(InvalidImport):
            rows, _ = imported(log, metrics=("match",))
            assert Counter(map(key_of, rows)) == whole


def test_documents_that_are_missing_from_a_task_are_noticed(tmp_path):
    shutil.copytree(LM_EVAL, tmp_path / "runs")
    file = next((tmp_path / "runs" / "Qwen__Qwen3-4B").glob("samples_guild_tools*"))
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(InvalidImport, match="has 2 documents, and the results say 3"):
        imported(tmp_path / "runs", metrics=METRICS[:2])
    file.unlink()
    _, report = imported(tmp_path / "runs", metrics=METRICS[:2])
    assert report.skipped == {"a task whose samples file is not there": 1}


def test_the_inspect_sample_is_the_one_that_is_changed_here():
    assert imported(INSPECT, metrics=("match",))[1].rows == 18
