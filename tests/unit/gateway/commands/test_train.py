from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from click.testing import CliRunner

from gateway.commands import evaluate, train
from gateway.commands.train import carve
from gateway.evaluation_log.evaluation_log import EvaluationLog
from gateway.evaluation_log.grades import GradeBook
from gateway.problems.datasets import read_dataset
from gateway.routing.encoders import load_encoder
from gateway.settings.config import EvaluationLogSettings
from gateway.storage.database import create_database_engine
from router_models.artifacts.artifact import dump, load
from router_models.errors import InvalidEvaluations
from router_models.statistics import select
from router_models.training.settings import RidgeSettings
from router_models.training.train import fit
from tests.fakes.evaluations import DIMENSION, made_up
from tests.fakes.patience import PATIENCE_S
from tests.fakes.schemas import with_schema
from tests.fakes.turns import make_turn

SUBJECTS = {
    "sums": "Work out {} plus {} and give the number.",
    "code": "def f(x): return x * {} + {}  # what does f(2) return?",
    "letters": "Dear editor, write {} lines of praise and {} of blame.",
    "riddles": "Who walks on {} legs at dawn and {} at dusk?",
}


def table_of(folder: Path, n_queries: int = 160, splits=("train", "val", "test")) -> Path:
    rows = made_up(n_queries, seed=3)
    texts = [SUBJECTS[task].format(i, i + 1) for i, task in enumerate(rows.tasks)]
    ids = [f"q{i}" for i in range(n_queries)]
    n_models = len(rows.models)
    long = {
        "query_id": np.repeat(ids, n_models),
        "model": list(rows.models) * n_queries,
        "score": rows.quality.reshape(-1),
        "cost_usd": rows.cost_usd.reshape(-1),
        "hidden_reasoning": [False, False, False, True] * n_queries,
    }
    queries = {
        "query_id": ids,
        "text": texts,
        "task": list(rows.tasks),
        "split": [splits[i % len(splits)] for i in range(n_queries)],
    }
    pyarrow.parquet.write_table(pa.table(long), folder / "t.parquet")
    pyarrow.parquet.write_table(pa.table(queries), folder / "t.queries.parquet")
    return folder / "t.parquet"


@pytest.fixture
def data(tmp_path):
    return table_of(tmp_path)


@pytest.fixture
def artifact(data, tmp_path):
    out = tmp_path / "r.safetensors"
    invoke(train.command, data, "--estimator", "ridge", "--encoder", "static", "--out", out)
    return out


def invoke(command, *arguments, fails: bool = False) -> str:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert result.exit_code == int(fails), result.output
    return result.output


def test_writes_an_artefact_that_the_gateway_can_load(artifact):
    router = load(artifact.read_bytes(), load_encoder("static"))
    assert router.models == ("cheap", "coder", "dear", "writer")
    assert router.manifest.kind == "ridge"
    assert router.guard is not None
    assert router.manifest.training["seed"] == 0


def test_prints_what_was_learned_and_where_it_lies(data, tmp_path):
    out = tmp_path / "r.safetensors"
    output = invoke(train.command, data, "--estimator", "knn", "--encoder", "static", "--out", out)
    assert "learned from 54 queries and 4 models (216 evaluations)" in output
    assert "gain over the best single model on rows that it had not seen: +0." in output
    assert f"wrote {out}" in output


def test_names_the_artefact_after_its_version_by_default(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    invoke(train.command, data, "--estimator", "ridge", "--encoder", "static")
    (found,) = tmp_path.glob("ridge-*.safetensors")
    assert found.stem == load(found.read_bytes(), load_encoder("static")).version


def test_leaves_models_out_when_asked(data, tmp_path):
    out = tmp_path / "r.safetensors"
    arguments = ("--estimator", "ridge", "--encoder", "static", "--out", out)
    output = invoke(train.command, data, *arguments, "--drop-hidden-reasoning")
    assert "3 models" in output
    output = invoke(train.command, data, *arguments, "--model", "cheap", "--model", "coder")
    assert "2 models" in output


def test_carves_validation_out_of_train_where_there_is_none(tmp_path):
    data = table_of(tmp_path, splits=("train",))
    out = tmp_path / "r.safetensors"
    invoke(train.command, data, "--estimator", "ridge", "--encoder", "static", "--out", out)
    provenance = load(out.read_bytes(), load_encoder("static")).manifest.provenance
    assert provenance["train_queries"] + provenance["validation_queries"] == 160
    assert provenance["validation_queries"] > 0


def test_carves_the_same_rows_every_time_and_none_twice():
    rows = made_up(400)
    train_rows, held_out = carve(rows)
    assert len(train_rows.quality) + len(held_out.quality) == 400
    assert 20 < len(held_out.quality) < 90
    np.testing.assert_array_equal(carve(rows)[1].embeddings, held_out.embeddings)


@pytest.mark.parametrize("seed", range(30))
def test_carves_something_out_of_a_few_queries_too(seed):
    rows = select(made_up(40, seed=seed), np.arange(40) % 3)
    train_rows, held_out = carve(rows)
    assert len(train_rows.quality) > 0
    assert len(held_out.quality) > 0


def test_says_that_one_query_asked_again_and_again_leaves_none_to_hold_out():
    with pytest.raises(InvalidEvaluations, match="all 40 rows are one query"):
        carve(select(made_up(1), np.zeros(40, int)))


def test_learns_from_a_log_in_which_every_query_has_one_answer(tmp_path):
    rows = made_up(120, share_answered=0.0)
    asked = np.isfinite(rows.quality).argmax(axis=1)
    picked = np.arange(120), asked
    log = {
        "query_id": [f"q{i}" for i in range(120)],
        "text": [SUBJECTS[task].format(i, i) for i, task in enumerate(rows.tasks)],
        "model": [rows.models[column] for column in asked],
        "score": rows.quality[picked],
        "cost_usd": rows.cost_usd[picked],
    }
    pyarrow.parquet.write_table(pa.table(log), tmp_path / "log.parquet")
    out = tmp_path / "r.safetensors"
    output = invoke(train.command, tmp_path / "log.parquet", "--encoder", "static", "--out", out)
    assert "validation quality" not in output
    assert load(out.read_bytes(), load_encoder("static")).manifest.kind == "kmeans"


async def log_turns(database_url: str, folder: Path, n_queries: int) -> None:
    """Serve and grade made-up turns, as a gateway and its callers would."""
    engine = create_database_engine(database_url)
    with_schema(engine)
    log = EvaluationLog(engine, EvaluationLogSettings(), folder / "spool")
    log.start()
    encoder, rows = load_encoder("static"), made_up(n_queries)
    embeddings = encoder.encode([SUBJECTS[task].format(i, i) for i, task in enumerate(rows.tasks)])
    for number, embedding in enumerate(embeddings):
        turn = make_turn(
            number,
            served_model=rows.models[number % 2],
            encoder_id=encoder.id,
            query_embedding=embedding,
        )
        log.record(turn)
        await GradeBook(log, engine, count=lambda answer, grade: None).record_grade(
            turn.request_id, team_id=turn.team_id, grader="test", score=float(number % 2)
        )
    await log.aclose(PATIENCE_S)
    engine.dispose()


async def test_learns_from_the_graded_turns_of_the_log_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("WAYPOST_DATA_DIR", str(tmp_path))
    await log_turns(f"sqlite:///{tmp_path}/waypost.db", tmp_path, 120)
    out = tmp_path / "r.safetensors"
    invoke(train.command, "--encoder", "static", "--out", out)
    assert len(load(out.read_bytes(), load_encoder("static")).models) == 2


def test_says_where_grades_come_from_when_the_log_has_none(tmp_path, monkeypatch):
    monkeypatch.setenv("WAYPOST_DATA_DIR", str(tmp_path))
    assert "/v1/feedback" in invoke(train.command, "--encoder", "static", fails=True)


def test_says_what_is_wrong_with_the_table(tmp_path):
    output = invoke(train.command, tmp_path / "none.parquet", fails=True)
    assert output == f"Error: {tmp_path / 'none.parquet'} does not exist\n"


def test_evaluates_an_artefact_beside_the_references(data, artifact, tmp_path):
    picture = tmp_path / "f.png"
    output = invoke(
        evaluate.command, data, "--artifact", artifact, "--picture", picture, "--bootstrap", 20
    )
    for name in ("best single", "oracle", "random mix", "ridge-2", "knn, trained here"):
        assert name in output
    assert "kmeans, trained here" not in output
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_evaluates_what_it_trains_itself_without_an_artefact(data, tmp_path):
    output = invoke(
        evaluate.command,
        *(data, "--encoder", "static", "--bootstrap", 0, "--split", "val"),
        *("--picture", tmp_path / "f.png"),
    )
    assert "kmeans, trained here" in output
    assert "[" not in output.splitlines()[2]


def test_trains_nothing_where_train_rows_are_measured(data, artifact, tmp_path):
    output = invoke(
        evaluate.command,
        *(data, "--artifact", artifact, "--split", "train", "--encoder", "minilm"),
        *("--bootstrap", 0, "--picture", tmp_path / "f.png", "--drop-hidden-reasoning"),
    )
    assert "no router is trained for comparison" in output
    assert "3 models" in output


def test_refuses_to_evaluate_routers_of_other_models(data, artifact, tmp_path):
    rows = pyarrow.parquet.read_table(data)
    renamed = [f"other-{model}" for model in rows["model"].to_pylist()]
    column = rows.column_names.index("model")
    pyarrow.parquet.write_table(rows.set_column(column, "model", [renamed]), data)
    output = invoke(evaluate.command, data, "--artifact", artifact, fails=True)
    assert "no model in common" in output


@dataclass(frozen=True)
class OtherEncoder:
    id: str = "other-9"
    sha256: str = "00" * 32
    dimension: int = DIMENSION


def test_refuses_to_evaluate_a_router_of_an_encoder_it_does_not_have(data, tmp_path):
    rows = made_up(40)
    content = dump(
        fit(rows, rows, RidgeSettings(), 0),
        OtherEncoder(),
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        training={},
        provenance={},
    )
    (tmp_path / "other").write_bytes(content)
    output = invoke(evaluate.command, data, "--artifact", tmp_path / "other", fails=True)
    assert "encoder 'other-9', which is not packaged here" in output


def test_evaluates_a_router_without_a_guard(data, tmp_path):
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


def test_refuses_to_evaluate_bytes_that_are_no_artefact(data, tmp_path):
    (tmp_path / "bad").write_bytes(b"nothing")
    output = invoke(evaluate.command, data, "--artifact", tmp_path / "bad", fails=True)
    assert output.startswith("Error: ")
