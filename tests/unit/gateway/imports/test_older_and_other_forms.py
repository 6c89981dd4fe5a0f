"""What the samples do not have: forms of older versions, and fields that are wrong in one place."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.imports import contents
from gateway.imports.records import InvalidImport, Record, question_of
from tests.fakes.evaluation_files import (
    CLAUDE,
    GPT,
    LANGFUSE,
    LM_EVAL,
    PROMPTFOO,
    as_document,
    imported,
    means,
    members,
    write_archive,
)

LM_METRICS = ("strict-match", "acc")


def rewritten(file: Path, change: Callable[[Any], Any]) -> None:
    """Change each JSON value of a file: its lines', or the one that it is."""
    raw = file.read_bytes()
    values = raw.splitlines() if file.suffix == ".jsonl" else [raw]
    file.write_bytes(b"\n".join(orjson.dumps(change(orjson.loads(one))) for one in values) + b"\n")


def set_in(path: str, value: Any) -> Callable[[Any], Any]:
    """Make a change that sets a field, whose path has dots and numbers in it."""

    def change(whole: Any) -> Any:
        *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        holder = whole
        for key in way:
            holder = holder[key]
        holder[last] = value
        return whole

    return change


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """One model's run of lm-evaluation-harness."""
    return Path(shutil.copytree(LM_EVAL / "gpt-4o-mini-2024-07-18", tmp_path / "run"))


def test_a_run_of_an_older_harness_names_its_model_among_the_arguments(runs):
    (results,) = runs.glob("results_*")
    for arguments in ("model=gpt-4o-mini,base_url=http://x", {"model": "gpt-4o-mini"}):

        def change(whole: Any, arguments: Any = arguments) -> Any:
            whole.pop("model_name", None)
            return {**whole, "config": {"model_args": arguments}}

        rewritten(results, change)
        assert means(imported(runs, metrics=LM_METRICS)[1]) == {"gpt-4o-mini": (7, 0.5714)}


def test_a_run_that_names_no_model_is_refused(runs):
    (results,) = runs.glob("results_*")
    rewritten(results, lambda whole: {**whole, "model_name": "", "config": {}})
    with pytest.raises(InvalidImport, match="`model_name` is missing"):
        imported(runs, metrics=LM_METRICS)


def test_arguments_of_an_older_harness_are_lists(runs):
    def change(line: Any) -> Any:
        pairs = [list(one.values()) for one in line["arguments"].values()]
        return {**line, "arguments": pairs}

    whole = imported(runs, metrics=LM_METRICS)[0]
    for samples in runs.glob("samples_*"):
        rewritten(samples, change)
    assert imported(runs, metrics=LM_METRICS)[0] == whole


def test_a_chat_that_the_harness_sent_is_read_by_its_last_user_message(runs):
    chat = orjson.dumps([{"role": "user", "content": "A?"}, {"role": "user", "content": "B?"}])
    for samples in runs.glob("samples_*"):
        rewritten(samples, set_in("arguments.gen_args_0.arg_0", [chat.decode()]))
    assert {row.text for row in imported(runs, metrics=LM_METRICS)[0]} == {"B?"}


def test_samples_without_counts_of_documents_are_read(runs):
    (results,) = runs.glob("results_*")
    rewritten(results, lambda whole: {k: v for k, v in whole.items() if k != "n-samples"})
    assert imported(runs, metrics=LM_METRICS)[1].rows == 7


def test_a_metric_of_which_less_is_better_needs_its_scale(runs):
    (results,) = runs.glob("results_*")
    rewritten(results, set_in("higher_is_better.guild_tools.acc", False))  # noqa: FBT003
    with pytest.raises(InvalidImport, match="of 'acc' less is better"):
        imported(runs, metrics=LM_METRICS)


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        ("metrics", ["f1"], "names a metric that the line does not have"),
        ("arguments", {}, "must hold the prompt of each request"),
        ("arguments", [[]], "must hold the prompt of each request"),
        ("arguments.gen_args_0.arg_0", 3, "the prompt must be a text or messages, not 3"),
        ("doc_id", 0, "was there before with the same filter"),
    ],
)
def test_a_wrong_field_of_the_harness_is_named(runs, path, value, complaint):
    (samples,) = runs.glob("samples_guild_tools*")
    rewritten(samples, set_in(path, value))
    with pytest.raises(InvalidImport, match=complaint):
        imported(runs, metrics=LM_METRICS)


def test_an_answer_that_is_no_text_and_other_prompts_of_one_document_are_refused(runs):
    (samples,) = runs.glob("samples_guild_math*")
    lines = samples.read_bytes().splitlines()
    other = orjson.loads(lines[-1])
    other["arguments"]["gen_args_0"]["arg_0"] = "Another?"
    samples.write_bytes(b"\n".join([*lines[:-1], orjson.dumps(other)]))
    with pytest.raises(InvalidImport, match="document 3 has another prompt"):
        imported(runs, metrics=LM_METRICS)
    samples.write_bytes(b"\n".join(lines))
    rewritten(samples, set_in("resps", [[]]))
    with pytest.raises(InvalidImport, match="`resps` must hold the answer"):
        imported(runs, metrics=LM_METRICS)


def test_files_of_a_run_belong_together_by_name(runs):
    (samples,) = runs.glob("samples_guild_tools*")
    shutil.copy(samples, runs / "tools.jsonl")
    with pytest.raises(InvalidImport, match=r"must be called samples_TASK_TIME\.jsonl"):
        imported(runs, metrics=LM_METRICS)
    (results,) = runs.glob("results_*")
    results.unlink()
    with pytest.raises(InvalidImport, match="must lie beside it: it names the model"):
        imported(samples, metrics=LM_METRICS)


def inspected(folder: Path, change: Callable[[Any], Any]) -> Path:
    """Inspect's log as a document, changed."""
    log = folder / "log.json"
    log.write_bytes(orjson.dumps(as_document(GPT)))
    rewritten(log, change)
    return log


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("samples.0.invalidation", {"author": "a"}, "declared invalid in the log"),
        ("samples.0.scores", {}, "not graded"),
        (
            "samples.0.messages",
            [{"role": "assistant", "content": "a"}] * 2,
            "one grade of several calls: it is not known whose it is",
        ),
        ("samples.0.scores.match.value", float("nan"), "the judge failed"),
        ("samples.0.input", "", "the last user message has no text"),
    ],
)
def test_what_inspect_did_not_grade_is_skipped(tmp_path, path, value, reason):
    _, report = imported(inspected(tmp_path, set_in(path, value)), metrics=("match",))
    assert report.skipped == {reason: 1}
    assert report.rows == 9


def test_inspects_messages_attachments_caches_and_scores_of_several_values(tmp_path):
    chat = [
        {"role": "user", "content": "What is a fender?"},
        {"role": "assistant", "content": "A cushion."},
        {"role": "user", "content": [{"type": "text", "text": "attachment://k1"}]},
    ]
    answer = {"role": "assistant", "content": "words"}

    def change(whole: Any) -> Any:
        whole["eval"]["model"] = "gpt-4o-mini"
        whole["status"] = "error"
        (sample, *_) = whole["samples"]
        sample |= {"input": chat, "messages": [*chat, answer]}
        sample["attachments"] = {"k1": "And a bollard?"}
        sample["scores"] = {"both": {"value": {"first": "C", "second": 0.25}}}
        sample["output"]["usage"] = {
            "input_tokens": 10,
            "output_tokens": 5,
            "input_tokens_cache_read": 90,
            "total_tokens": 105,
        }
        return {**whole, "samples": [sample]}

    (row,), _ = imported(inspected(tmp_path, change), metrics=("both/second",))
    assert (row.text, row.score, row.prompt_tokens) == ("And a bollard?", 0.25, 100)


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        ("samples", None, "the log was written without them"),
        ("samples.0", 3, r"`samples\[0\]` must be an object"),
        ("samples.1.epoch", 2, "sample t2, epoch 2 is there twice"),
        ("samples.0.scores.match", 3, "must be an object with a `value`"),
        ("samples.0.input", "attachment://k1", "lacks a text that `input` refers to"),
        ("samples.0.input", 3, "the prompt must be a text or messages"),
        ("results.total_samples", 11, "has 10 samples, and its results say 11"),
    ],
)
def test_a_wrong_field_of_inspect_is_named(tmp_path, path, value, complaint):
    with pytest.raises(InvalidImport, match=complaint):
        imported(inspected(tmp_path, set_in(path, value)), metrics=("match",))


def test_other_members_of_an_archive_are_not_looked_at(tmp_path):
    log = write_archive(tmp_path / "a.eval", {**members(CLAUDE), "notes.json": 3})
    assert imported(log, metrics=("match",))[1].rows == 8
    log = write_archive(tmp_path / "b.eval", {**members(CLAUDE), "header.json": 3})
    with pytest.raises(InvalidImport, match=r"header\.json: must be a JSON object, not 3"):
        imported(log, metrics=("match",))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """The results of promptfoo."""
    return Path(shutil.copy(PROMPTFOO / "results.json", tmp_path / "results.json"))


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        ("results.results.0", 3, r"`results.results\[0\]` must be an object"),
        ("results.results.0.failureReason", 7, "must be 0, 1 or 2, not 7"),
        ("results.results.0.provider.id", "", "`provider.id` is empty"),
        ("results.results.0.cost", -1, "must be what one call cost in USD, not -1"),
        ("results.stats.errors", 0, "has 10 results, and its statistics say 9"),
    ],
)
def test_a_wrong_field_of_promptfoo_is_named(results, path, value, complaint):
    rewritten(results, set_in(path, value))
    with pytest.raises(InvalidImport, match=complaint):
        imported(results, metrics=("score",))


def test_a_test_without_assertions_grades_nothing(results):
    rewritten(results, set_in("results.results.0.gradingResult.reason", "No assertions"))
    assert imported(results, metrics=("score",))[1].skipped["not graded"] == 1


def test_a_provider_of_ones_own_is_a_name_as_a_whole_and_chats_are_read(results):
    def change(whole: Any) -> Any:
        for one in whole["results"]["results"]:
            one["provider"] = {"id": "file://desk.py:answer"}
            one["prompt"]["raw"] = '[{"role": "user", "content": "Why?"}]'
        return whole

    rewritten(results, change)
    rows, report = imported(results, metrics=("score",), prices=("file://desk.py:answer=1,1",))
    assert means(report).keys() == {"file://desk.py:answer"}
    assert {row.text for row in rows} == {"Why?"}


def test_scores_and_calls_of_langfuse_that_come_twice_count_once(tmp_path):
    for folder in ("observations_v2", "scores"):
        (tmp_path / folder).mkdir()
        for name in ("1.jsonl", "2.jsonl"):
            shutil.copy(LANGFUSE / folder / "2026-10-01.jsonl", tmp_path / folder / name)
    rows, report = imported(tmp_path, metrics=("correctness",))
    assert len(rows) == 6
    assert report.skipped["the same call again"] == 10
    assert report.skipped["the same score again"] == 11


def test_scores_of_langfuse_without_a_call_and_calls_without_a_model_are_skipped(tmp_path):
    shutil.copytree(LANGFUSE, tmp_path / "export")
    (scores,) = (tmp_path / "export" / "scores").iterdir()
    (calls,) = (tmp_path / "export" / "observations_v2").iterdir()
    extra = orjson.loads(scores.read_bytes().splitlines()[0])
    more = [
        {**extra, "id": "x1", "trace_id": "t99"},
        {**extra, "id": "x2", "trace_id": None, "session_id": "s"},
        {**extra, "id": "x3", "value": 0.7},
    ]
    scores.write_bytes(scores.read_bytes() + b"\n".join(map(orjson.dumps, more)))
    rewritten(
        calls,
        lambda one: {**one, "provided_model_name": ""} if one["id"] == "o2" else one,
    )
    rows, report = imported(tmp_path / "export", metrics=("correctness",))
    assert report.skipped["scores of a call that the export does not have"] == 1
    assert report.skipped["a score of no trace"] == 1
    assert report.skipped["names no model"] == 1
    assert 0.8 in [pytest.approx(row.score) for row in rows]


def test_a_boolean_score_of_langfuse_is_0_or_1(tmp_path):
    shutil.copytree(LANGFUSE, tmp_path / "export")
    (scores,) = (tmp_path / "export" / "scores").iterdir()
    rewritten(scores, lambda one: {**one, "value": 3} if one["id"] == "s2" else one)
    with pytest.raises(InvalidImport, match="`value` must be 0 or 1, not 3"):
        imported(tmp_path / "export", metrics=("thumbs",))


def test_documents_and_lines_that_are_too_large_are_refused(results, tmp_path, monkeypatch):
    monkeypatch.setattr(contents, "MAX_DOCUMENT_BYTES", 1000)
    with pytest.raises(InvalidImport, match="is larger than 0 MiB"):
        imported(results, metrics=("score",))
    monkeypatch.setattr(contents, "MAX_LINE_BYTES", 1000)
    (tmp_path / "lines.jsonl").write_bytes(b'{"a": "' + b"x" * 2000 + b'"}\n')
    with pytest.raises(InvalidImport, match="line 1: is longer than 0 MiB"):
        imported(tmp_path / "lines.jsonl")


def test_a_file_that_may_not_be_read_or_is_another_than_json_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_bytes(b"3")
    with pytest.raises(InvalidImport, match=r"a\.json: must be a JSON object, not 3"):
        imported(tmp_path / "a.json")
    (tmp_path / "b.json").write_bytes(b'{"a": NaN')
    with pytest.raises(InvalidImport, match="is no whole JSON"):
        imported(tmp_path / "b.json")

    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InvalidImport, match="cannot be read: Permission denied"):
        imported(tmp_path / "a.json")


def test_a_file_is_read_once_however_often_it_is_named():
    file = PROMPTFOO / "results.json"
    assert imported(file, PROMPTFOO, file, metrics=("score",))[1].rows == 9


def test_prompts_of_every_form_are_told_apart():
    for prompt, text in (
        ("Why?", "Why?"),
        ("[sic] why?", "[sic] why?"),
        ('{"a": 1}', '{"a": 1}'),
        ({"messages": [{"role": "user", "content": "Why?"}]}, "Why?"),
        ([{"role": "system", "content": "Be brief."}], "Be brief."),
    ):
        assert question_of(prompt, "here").text == text
    with pytest.raises(InvalidImport, match="is no Unicode text"):
        question_of("\ud800", "here")


def test_a_field_that_lies_in_no_object_is_named():
    with pytest.raises(InvalidImport, match=r"here: `a\.b` lies in what is no object but a text"):
        Record({"a": "x"}, "here").find("a.b", "a text")
