"""Every sample gives what its README says: rows, queries, models, means and costs."""

import gzip
import shutil

import orjson
import pytest

from gateway.imports.records import InvalidImport
from gateway.imports.tools import find
from tests.fakes.evaluation_files import (
    CLAUDE,
    GPT,
    INSPECT,
    LANGFUSE,
    LM_EVAL,
    PROMPTFOO,
    SAMPLES,
    as_document,
    costs,
    imported,
    means,
    members,
    write_archive,
)

HAIKU = "claude-haiku-4-5-20251001"


@pytest.mark.parametrize(
    ("folder", "metrics", "rows", "queries", "expected"),
    [
        (
            LM_EVAL,
            ("strict-match", "acc"),
            14,
            7,
            {"gpt-4o-mini-2024-07-18": (7, 0.5714), "Qwen/Qwen3-4B": (7, 0.4286)},
        ),
        (
            LM_EVAL,
            ("flexible-extract", "acc"),
            14,
            7,
            {"gpt-4o-mini-2024-07-18": (7, 0.7143), "Qwen/Qwen3-4B": (7, 0.5714)},
        ),
        (
            LM_EVAL,
            ("flexible-extract", "acc_norm"),
            14,
            7,
            {"gpt-4o-mini-2024-07-18": (7, 0.8571), "Qwen/Qwen3-4B": (7, 0.5714)},
        ),
        (INSPECT, ("match",), 18, 5, {"gpt-4o-mini": (10, 0.8), "claude-haiku-4-5": (8, 1.0)}),
        (INSPECT, ("tone",), 18, 5, {"gpt-4o-mini": (10, 0.7), "claude-haiku-4-5": (8, 0.9375)}),
        (PROMPTFOO, ("score",), 9, 5, {"gpt-4o-mini": (5, 0.7), HAIKU: (4, 1.0)}),
        (PROMPTFOO, ("success",), 9, 5, {"gpt-4o-mini": (5, 0.6), HAIKU: (4, 1.0)}),
        (
            LANGFUSE,
            ("correctness",),
            6,
            4,
            {"gpt-4o-mini": (3, 0.8), HAIKU: (2, 0.85), "internal-gardener-v2": (1, 0.8)},
        ),
        (LANGFUSE, ("thumbs",), 2, 2, {"gpt-4o-mini": (1, 1.0), HAIKU: (1, 0.0)}),
    ],
)
def test_a_sample_gives_the_rows_and_means_that_its_readme_says(
    folder, metrics, rows, queries, expected
):
    found, report = imported(folder, metrics=metrics)
    assert len(found) == report.rows == rows
    assert report.queries == queries
    assert means(report) == expected
    assert report.ignored == ()


def test_costs_are_the_files_else_tokens_times_the_list_price():
    _, inspect = imported(INSPECT, metrics=("match",))
    assert costs(inspect) == {"gpt-4o-mini": 0.0001005, "claude-haiku-4-5": 0.000748}
    _, promptfoo = imported(PROMPTFOO, metrics=("score",))
    assert costs(promptfoo)[HAIKU] == 0.000359
    _, langfuse = imported(LANGFUSE, metrics=("correctness",))
    assert costs(langfuse)["gpt-4o-mini"] == 0.00002715
    assert costs(langfuse)[HAIKU] == 0.000167


def test_an_answer_from_a_cache_costs_what_its_text_would_and_says_that_this_is_an_estimate():
    rows, _ = imported(PROMPTFOO, metrics=("score",))
    (cached,) = [row for row in rows if row.cost_from == "estimate"]
    assert "refund rule" in cached.text
    assert 5e-6 < cached.cost_usd < 3e-5


def test_failures_are_counted_and_never_graded():
    assert imported(INSPECT, metrics=("match",))[1].skipped == {"the call failed": 2}
    assert imported(PROMPTFOO, metrics=("score",))[1].skipped == {"the call failed": 1}
    assert imported(LANGFUSE, metrics=("correctness",))[1].skipped == {
        "score 'tone' is categorical, no grade": 1,
        "score 'note' is text, no grade": 1,
        "one grade of several calls: it is not known whose it is": 2,
        "the call failed": 1,
        "not graded": 1,
    }


def test_the_query_is_the_last_user_message():
    rows, _ = imported(LANGFUSE, metrics=("correctness",))
    assert "And for a pot?" in {row.text for row in rows}


def test_no_user_session_metadata_or_answer_is_copied():
    rows, report = imported(LANGFUSE, metrics=("correctness",))
    written = repr((rows, report))
    for word in ("user-7", "session", "garden-desk", "A patio rose", "Two knuckles"):
        assert word not in written


def test_a_source_does_not_say_where_on_the_machine_the_file_lay():
    rows, _ = imported(PROMPTFOO, metrics=("score",))
    assert rows[0].source == "results.json, results.results[0]"


def test_the_forms_in_which_inspect_wrote_before_give_the_same_rows(tmp_path):
    rows, _ = imported(GPT, CLAUDE, metrics=("match",))
    for log in (GPT, CLAUDE):
        (tmp_path / f"{log.stem}.json").write_bytes(orjson.dumps(as_document(log)))
    (tmp_path / "old").mkdir()
    for log in (GPT, CLAUDE):
        write_archive(tmp_path / "old" / log.name, members(log))
    documents, _ = imported(*tmp_path.glob("*.json"), metrics=("match",))
    archives, _ = imported(tmp_path / "old", metrics=("match",))
    key = [(row.query_id, row.model, row.score, row.cost_usd, row.item) for row in rows]
    for others in (documents, archives):
        other = [(row.query_id, row.model, row.score, row.cost_usd, row.item) for row in others]
        assert sorted(other) == sorted(key)


def test_json_lines_of_promptfoo_give_the_same_rows(tmp_path):
    results = orjson.loads((PROMPTFOO / "results.json").read_bytes())["results"]["results"]
    lines = tmp_path / "results.jsonl"
    lines.write_bytes(b"\n".join(orjson.dumps(one) for one in results))
    assert means(imported(lines, metrics=("score",))[1]) == {
        "gpt-4o-mini": (5, 0.7),
        HAIKU: (4, 1.0),
    }


def test_asked_and_answered_are_one_model_where_a_file_says_both():
    _, report = imported(
        LM_EVAL, INSPECT, metrics=("strict-match", "acc", "match"), skip_unpriced=True
    )
    assert means(report)["gpt-4o-mini"][0] == 17
    assert "gpt-4o-mini-2024-07-18" not in means(report)


def test_several_files_of_several_tools_are_read_at_once():
    _, report = imported(SAMPLES, metrics=("strict-match", "acc", "match", "score", "correctness"))
    assert report.files == {
        "lm-evaluation-harness": 6,
        "Inspect": 2,
        "promptfoo": 1,
        "Langfuse": 2,
    }
    assert report.rows == 14 + 18 + 9 + 6


def test_what_is_in_no_known_form_is_refused_by_name_and_reported_in_a_folder(tmp_path):
    folder = tmp_path / "results"
    shutil.copytree(PROMPTFOO, folder)
    (folder / "notes.json").write_text('{"a": 1}')
    assert imported(folder, metrics=("score",))[1].ignored == (str(folder / "notes.json"),)
    with pytest.raises(InvalidImport, match=r"notes\.json: is not in a form of lm-evaluation"):
        find((folder / "notes.json",))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty"),
        (b'{"results": {', "is no whole JSON"),
        (gzip.compress(b"{}", mtime=0), "is compressed; unpack it first"),
        (b"[" * 5000 + b"]" * 5000, "is no whole JSON"),
        (b"[1, 2]", "entry 1: must be a JSON object, not 1"),
        (b"PK\x03\x04 and no more", "is no whole zip archive"),
    ],
    ids=["empty", "cut", "compressed", "deep", "numbers", "zip"],
)
def test_what_cannot_be_read_says_why(tmp_path, content, complaint):
    file = tmp_path / "results.json"
    file.write_bytes(content)
    with pytest.raises(InvalidImport, match=complaint):
        find((file,))


def test_a_path_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InvalidImport, match="nowhere does not exist"):
        find((tmp_path / "nowhere",))
    with pytest.raises(InvalidImport, match="no file is in a form of"):
        find((tmp_path,))


def test_a_file_that_two_tools_may_have_written_is_refused(tmp_path):
    (sample, *_) = next(LM_EVAL.rglob("samples_*")).read_bytes().splitlines()
    result = orjson.loads((PROMPTFOO / "results.json").read_bytes())["results"]["results"][0]
    file = tmp_path / "both.jsonl"
    file.write_bytes(b"\n\n" + orjson.dumps({**orjson.loads(sample), **result}) + b"\n")
    with pytest.raises(InvalidImport, match="may be of lm-evaluation-harness or promptfoo"):
        find((file,))
