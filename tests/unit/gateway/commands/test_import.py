import json
from importlib import import_module

import numpy as np
import orjson
import pyarrow.parquet
import pytest
from click.testing import CliRunner

from gateway.commands import evaluate, train
from gateway.problems.datasets import read_dataset
from tests.fakes.evaluation_files import INSPECT, LANGFUSE, LM_EVAL, PROMPTFOO
from tests.fakes.evaluation_tables import SUBJECTS, invoke
from tests.fakes.evaluations import made_up

import_ = import_module("gateway.commands.import_")


@pytest.fixture
def run(tmp_path):
    """Import with the command, from and to a folder of its own."""

    def run(*arguments, fails: bool = False, out="rows.parquet"):
        where = ("--out", tmp_path / out)
        return invoke(import_.command, *arguments, *where, fails=fails)

    return run


def test_writes_the_table_that_training_reads(run, tmp_path):
    output = run(INSPECT, "--metric", "match")
    assert f"wrote {tmp_path / 'rows.parquet'}: 18 rows, 5 queries, 2 models" in output
    assert "skipped: 2 times: the call failed (first: " in output
    assert "not in the pool of these settings: claude-haiku-4-5, gpt-4o-mini" in output
    dataset = read_dataset(tmp_path / "rows.parquet")
    assert dataset.models == ("claude-haiku-4-5", "gpt-4o-mini")
    assert len(dataset.query_ids) == 5


def test_csv_holds_the_same_rows(run, tmp_path):
    run(LM_EVAL, "--metric", "strict-match", "--metric", "acc", "--skip-unpriced", out="r.csv")
    run(LM_EVAL, "--metric", "strict-match", "--metric", "acc", "--skip-unpriced")
    csv, parquet = read_dataset(tmp_path / "r.csv"), read_dataset(tmp_path / "rows.parquet")
    assert csv.texts == parquet.texts
    assert "\n" in csv.texts[0]
    assert csv.splits == parquet.splits
    np.testing.assert_allclose(csv.quality, parquet.quality)
    np.testing.assert_allclose(csv.cost_usd, parquet.cost_usd)


def test_a_question_lists_the_choices_and_writes_nothing(run, tmp_path):
    output = run(PROMPTFOO, fails=True)
    assert "promptfoo: brevity | content | score | success" in output
    assert not list(tmp_path.iterdir())


def test_a_dry_run_reports_and_writes_nothing(run, tmp_path):
    output = run(PROMPTFOO, "--metric", "score", "--dry-run")
    assert "gpt-4o-mini" in output
    assert "nothing is written (--dry-run)" in output
    assert not list(tmp_path.iterdir())


def test_json_is_all_that_is_printed(tmp_path):
    out = str(tmp_path / "rows.parquet")
    arguments = [str(LANGFUSE), "--metric", "thumbs", "--json", "--out", out]
    result = CliRunner().invoke(import_.command, arguments)
    report = json.loads(result.stdout)
    assert report["object"] == "waypost.import"
    assert (report["rows"], report["queries"]) == (2, 2)
    assert report["skipped"]["not graded"] == 1
    assert result.stderr == f"wrote {out}: 2 rows, 2 queries, 2 models\n"


def test_settings_and_a_map_name_the_pools_models(run, tmp_path):
    (tmp_path / "waypost.toml").write_text(
        "[providers.openai]\n"
        'kind = "openai"\nbase_url = "http://127.0.0.1:9/v1"\napi_key = "k"\n'
        '[models.small]\nprovider = "openai"\nupstream_name = "gpt-4o-mini"\n'
        "price = { input_usd_per_mtok = 1, output_usd_per_mtok = 1 }\n"
        '[models.large]\nprovider = "openai"\n'
        "price = { input_usd_per_mtok = 2, output_usd_per_mtok = 2 }\n"
    )
    (tmp_path / "map.toml").write_text('[models]\n"anthropic/claude-haiku-4-5" = "large"\n')
    settings = ("--config", tmp_path / "waypost.toml", "--map", tmp_path / "map.toml")
    output = run(INSPECT, "--metric", "match", *settings)
    assert "not in the pool" not in output
    assert read_dataset(tmp_path / "rows.parquet").models == ("large", "small")


@pytest.mark.parametrize(
    "content", ["[models", "[models]\na = 1", '[models]\na = ""', '[names]\na = "b"', "models = 3"]
)
def test_a_map_that_is_none_is_refused(run, tmp_path, content):
    (tmp_path / "map.toml").write_text(content)
    arguments = ("--metric", "match", "--map", tmp_path / "map.toml")
    assert "map.toml: " in run(INSPECT, *arguments, fails=True)


def test_an_import_that_leaves_nothing_is_an_error(run, tmp_path):
    results = orjson.loads((PROMPTFOO / "results.json").read_bytes())
    for result in results["results"]["results"]:
        result["failureReason"] = 2
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "results.json").write_bytes(orjson.dumps(results))
    output = run(tmp_path / "in", fails=True)
    assert "skipped: 10 times: the call failed" in output
    assert "no graded answer is left, so nothing is written" in output


def test_an_output_that_cannot_be_written_is_named(run, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot be written" in run(PROMPTFOO, "--metric", "score", out="file/r.csv", fails=True)
    result = CliRunner().invoke(import_.command, [str(PROMPTFOO), "--out", "rows.txt"])
    assert "the name must end in .parquet or .csv" in result.output


def promptfoo_results(n_queries: int) -> bytes:
    """A run of many questions, on which models differ by subject."""
    rows = made_up(n_queries, seed=3)
    results = [
        {
            "promptIdx": 0,
            "testIdx": query,
            "prompt": {"raw": SUBJECTS[task].format(query, query + 1), "label": ""},
            "provider": {"id": f"openai:chat:{model}", "label": ""},
            "score": float(rows.quality[query, at]),
            "success": bool(rows.quality[query, at] > 0.5),
            "cost": float(rows.cost_usd[query, at]),
            "failureReason": 0,
            "gradingResult": {"pass": True, "score": 1, "reason": ""},
            "response": {"output": "words"},
        }
        for query, task in enumerate(rows.tasks)
        for at, model in enumerate(rows.models)
    ]
    stats = {"successes": len(results), "failures": 0, "errors": 0}
    return orjson.dumps(
        {"evalId": "e", "results": {"version": 3, "results": results, "stats": stats}}
    )


def test_an_imported_table_trains_a_router_and_measures_it(run, tmp_path):
    (tmp_path / "results.json").write_bytes(promptfoo_results(160))
    run(tmp_path / "results.json", "--metric", "score")
    rows, router = tmp_path / "rows.parquet", tmp_path / "r.safetensors"
    assert pyarrow.parquet.read_table(rows).num_rows == 640
    output = invoke(
        train.command, rows, "--estimator", "ridge", "--encoder", "static", "--out", router
    )
    assert "and 4 models" in output
    picture = ("--picture", tmp_path / "f.png")
    output = invoke(evaluate.command, rows, "--artifact", router, "--bootstrap", 20, *picture)
    assert "verdict on ridge-" in output
    assert "the best single model" in output
