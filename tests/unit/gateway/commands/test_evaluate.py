import json
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
import pytest
from click.testing import CliRunner

from gateway.commands import evaluate, train
from gateway.problems.datasets import read_dataset
from gateway.routing.encoders import load_encoder
from router_models.artifacts.artifact import dump
from router_models.training.settings import RidgeSettings
from router_models.training.train import fit
from router_models.types import COMPLETION_MTOK
from tests.fakes.evaluation_tables import invoke, table_of, with_a_gap
from tests.fakes.evaluations import DIMENSION, made_up


@pytest.fixture
def data(tmp_path):
    return table_of(tmp_path)


@pytest.fixture
def artifact(data, tmp_path):
    out = tmp_path / "r.safetensors"
    invoke(train.command, data, "--estimator", "ridge", "--encoder", "static", "--out", out)
    return out


@pytest.fixture
def measure(data, tmp_path):
    """Evaluate with these arguments, in little time."""

    def run(*arguments, fails: bool = False) -> str:
        picture = ("--picture", tmp_path / "f.png")
        return invoke(evaluate.command, data, "--bootstrap", 20, *picture, *arguments, fails=fails)

    return run


def sparse(data) -> None:
    """Leave one answer to each query."""
    rows = pyarrow.parquet.read_table(data)
    kept = [4 * query + query % 4 for query in range(rows.num_rows // 4)]
    pyarrow.parquet.write_table(rows.take(pa.array(kept)), data)


def test_an_artefact_is_measured_beside_references_and_baselines(measure, artifact, tmp_path):
    output = measure("--artifact", artifact)
    for name in ("best single", "cheapest", "oracle", "random mix", "ridge-2"):
        assert name in output
    for baseline in ("TF-IDF + ridge", "kNN", "clusters (Avengers-Pro)"):
        assert f"\n{baseline}" in output
    assert "kmeans, trained here" not in output
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    verdict = output.split("verdict on ridge-")[1]
    assert "the best single model (dear)" in verdict
    for name in ("random mix", "TF-IDF + ridge", "kNN", "clusters (Avengers-Pro)"):
        assert f"Better than {name}" in verdict or f"Against {name}" in verdict


def test_json_holds_everything_and_nothing_else_is_printed(data, artifact, tmp_path):
    arguments = ["--bootstrap", "20", "--picture", str(tmp_path / "f.png"), "--json"]
    result = CliRunner().invoke(
        evaluate.command, [str(data), "--artifact", str(artifact), *arguments]
    )
    found = json.loads(result.stdout)
    (router,) = found["verdict"]
    assert found["object"] == "waypost.evaluation"
    assert set(found["frontier"]["frontiers"][router]["common_auc"]) == {"value", "low", "high"}
    assert found["predictions"][router]["models"]["dear"]["answers"] == 53
    assert found["frontier"]["differences"][router][0]["mean_quality"] is None
    assert result.stderr == f"wrote {tmp_path / 'f.png'}\n"


def test_a_willingness_to_pay_adds_a_comparison_there(measure, artifact):
    output = measure("--artifact", artifact, "--willingness-to-pay", 0.001)
    assert "at the willingness to pay that was asked for" in output
    assert "utility" in output


@pytest.mark.parametrize("paid", ["inf", "nan", "0"])
def test_a_willingness_to_pay_that_is_no_finite_amount_is_refused(data, paid):
    result = CliRunner().invoke(evaluate.command, [str(data), "--willingness-to-pay", paid])
    assert result.exit_code == 2
    assert "is not a number of USD above 0" in result.output


def test_a_table_is_measured_with_a_router_trained_on_it_where_none_is_given(measure):
    output = measure("--encoder", "static", "--split", "val", "--bootstrap", 0)
    assert "verdict on kmeans, trained here" in output
    assert "without intervals no verdict" in output
    assert "[0." not in output


def test_a_log_of_one_answer_per_query_is_judged_by_predictions(measure, artifact, data):
    sparse(data)
    output = measure("--artifact", artifact)
    assert "predictions of the quality of 53 answers" in output
    assert "`waypost frontier`" in output
    assert "AUC common" not in output


def test_models_that_answered_few_queries_are_left_out_and_named(measure, artifact, data):
    rows = pyarrow.parquet.read_table(data)
    is_rare = pc.and_(pc.equal(rows["model"], "coder"), pc.not_equal(rows["query_id"], "q2"))
    is_missing = pc.and_(pc.equal(rows["model"], "writer"), pc.equal(rows["query_id"], "q5"))
    kept = rows.filter(pc.invert(pc.or_(is_rare, is_missing)))
    pyarrow.parquet.write_table(kept, data)
    output = measure("--artifact", artifact)
    assert "they answered less than 80% of the queries: coder (2%)\n" in output
    assert "1 of 53 queries lack an answer of some model, so only" in output
    assert "52 queries, 3 models" in output


def test_rows_without_a_cost_are_named_or_left_out(measure, artifact, data):
    with_a_gap(data)
    arguments = ("--artifact", artifact)
    assert "model 'cheap'); fill them in" in measure(*arguments, fails=True)
    output = measure(*arguments, "--skip-incomplete")
    assert "rows left out because they lack 'cost_usd': 1" in output
    assert "rows that repeat a query and a model: 1" in output


def test_a_table_without_text_has_no_baseline_of_words(artifact, data, tmp_path):
    encoder = load_encoder("static")
    dataset = read_dataset(data).embedded(encoder)
    queries, models = dataset.quality.shape
    pyarrow.parquet.write_table(
        pa.table(
            {
                "query_id": [name for name in dataset.query_ids for _ in range(models)],
                "query_embedding": [
                    row.tolist()
                    for row in dataset.embedded(encoder).evaluations().embeddings
                    for _ in range(models)
                ],
                "encoder_id": [encoder.id] * (queries * models),
                "model": list(dataset.models) * queries,
                "score": dataset.quality.reshape(-1),
                "cost_usd": dataset.cost_usd.reshape(-1),
            }
        ),
        tmp_path / "log.parquet",
    )
    output = invoke(
        evaluate.command,
        *(tmp_path / "log.parquet", "--artifact", artifact),
        *("--bootstrap", 20, "--picture", tmp_path / "f.png"),
    )
    assert "the table has no text, so TF-IDF + ridge is left out" in output
    assert "by task" not in output


def test_nothing_is_trained_where_train_rows_are_measured(measure, artifact):
    output = measure(
        *("--artifact", artifact, "--split", "train", "--encoder", "minilm"),
        *("--bootstrap", 0, "--drop-hidden-reasoning"),
    )
    assert "no router is trained for comparison" in output
    assert "3 models" in output


def test_there_is_nothing_to_say_without_a_router(measure):
    assert "no router is trained" in measure("--split", "train", "--encoder", "static")


def test_routers_of_other_models_are_refused(measure, artifact, data):
    rows = pyarrow.parquet.read_table(data)
    renamed = [f"other-{model}" for model in rows["model"].to_pylist()]
    column = rows.column_names.index("model")
    pyarrow.parquet.write_table(rows.set_column(column, "model", [renamed]), data)
    assert "no model in common" in measure("--artifact", artifact, fails=True)


@dataclass(frozen=True)
class OtherEncoder:
    id: str = "other-9"
    sha256: str = "00" * 32
    dimension: int = DIMENSION


def test_a_router_of_an_encoder_that_is_not_here_is_refused(measure, tmp_path):
    rows = made_up(40)
    content = dump(
        fit(rows, rows, RidgeSettings(), 0),
        OtherEncoder(),
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        training={},
        provenance={},
    )
    (tmp_path / "other").write_bytes(content)
    output = measure("--artifact", tmp_path / "other", fails=True)
    assert "encoder 'other-9', which is not packaged here" in output


def test_a_router_without_a_guard_is_measured_as_it_is(data, tmp_path):
    encoder = load_encoder("static")
    rows = read_dataset(data).embedded(encoder).evaluations("train")
    content = dump(
        fit(rows, rows, RidgeSettings(), 0),
        encoder,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        training={},
        provenance={},
    )
    (tmp_path / "bare").write_bytes(content)
    loaded = evaluate.open_artifact(tmp_path / "bare")
    assert loaded.router.serving_estimator is loaded.router.estimator


def test_bytes_that_are_no_artefact_are_refused(measure, tmp_path):
    (tmp_path / "bad").write_bytes(b"nothing")
    assert measure("--artifact", tmp_path / "bad", fails=True).startswith("Error: ")


def test_a_router_of_tokens_is_measured_in_usd_on_a_table_that_counts_them(tmp_path):
    data = table_of(tmp_path, with_tokens=True)
    out, picture = tmp_path / "r.safetensors", tmp_path / "f.png"
    invoke(train.command, data, "--estimator", "ridge", "--encoder", "static", "--out", out)
    loaded = evaluate.open_artifact(out)
    assert loaded.router.unit == COMPLETION_MTOK
    rows = read_dataset(data).embedded(loaded.encoder).evaluations("test")
    found = evaluate.predict_for(loaded.router, rows).prediction
    assert found.cost_usd.sum() == pytest.approx(rows.cost_usd.sum(), rel=0.1)
    uncounted = table_of(tmp_path)
    options = ("--bootstrap", 0, "--picture", picture, "--artifact", out)
    output = invoke(evaluate.command, uncounted, *options, fails=True)
    assert "these rows lack counts of prompt and completion tokens" in output
