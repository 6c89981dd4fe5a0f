from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from gateway.commands import train
from gateway.commands.train import carve
from gateway.evaluation_log.evaluation_log import EvaluationLog
from gateway.evaluation_log.grades import GradeBook
from gateway.routing.encoders import load_encoder
from gateway.settings.config import EvaluationLogSettings
from gateway.storage.database import create_database_engine
from router_models.artifacts.artifact import load
from router_models.encoders.request_shape import SUFFIX, append_shape
from router_models.errors import InvalidEvaluations
from router_models.statistics import select
from tests.fakes.evaluation_tables import SUBJECTS, invoke, table_of, with_a_gap
from tests.fakes.evaluations import made_up
from tests.fakes.patience import PATIENCE_S
from tests.fakes.schemas import with_schema
from tests.fakes.turns import make_turn


@pytest.fixture
def data(tmp_path):
    return table_of(tmp_path)


@pytest.fixture
def artifact(data, tmp_path):
    out = tmp_path / "r.safetensors"
    invoke(train.command, data, "--estimator", "ridge", "--encoder", "static", "--out", out)
    return out


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


def test_compares_kinds_by_default_and_says_how_they_did(data, tmp_path):
    out = tmp_path / "r.safetensors"
    output = invoke(train.command, data, "--encoder", "static", "--out", out)
    compared = load(out.read_bytes(), load_encoder("static")).manifest.training["compared"]
    assert compared.keys() == {"kmeans", "ridge", "kmeans + ridge"}
    said = output.partition("compared by that gain: ")[2].splitlines()[0].split(", ")
    assert sorted(said) == sorted(f"{kind} {gain:+.4f}" for kind, gain in compared.items())


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
    assert set(load(out.read_bytes(), load_encoder("static")).models) == set(rows.models)


async def log_turns(
    database_url: str, folder: Path, n_queries: int, requests: Sequence[Mapping[str, Any]] = ({},)
) -> None:
    """Serve and grade made-up turns, as a gateway and its callers would.

    Each kind of request, of which there may be two, has a model that answers it right.
    """
    engine = create_database_engine(database_url)
    with_schema(engine)
    log = EvaluationLog(engine, EvaluationLogSettings(), folder / "spool")
    log.start()
    encoder, rows = load_encoder("static"), made_up(n_queries)
    embeddings = encoder.encode([SUBJECTS[task].format(i, i) for i, task in enumerate(rows.tasks)])
    for number, text in enumerate(embeddings):
        application = number // 2 % len(requests)
        encoder_id, embedding = append_shape(encoder.id, text, requests[application])
        turn = make_turn(
            number,
            served_model=rows.models[number % 2],
            encoder_id=encoder_id,
            query_embedding=embedding,
        )
        log.record(turn)
        await GradeBook(log, engine, count=lambda answer, grade: None).record_grade(
            turn.request_id,
            team_id=turn.team_id,
            grader="test",
            score=float(number % 2 == application),
        )
    await log.aclose(PATIENCE_S)
    engine.dispose()


async def test_learns_from_the_graded_turns_of_the_log_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("WAYPOST_DATA_DIR", str(tmp_path))
    await log_turns(f"sqlite:///{tmp_path}/waypost.db", tmp_path, 120)
    out = tmp_path / "r.safetensors"
    invoke(train.command, "--encoder", "static", "--out", out)
    assert len(load(out.read_bytes(), load_encoder("static")).models) == 2


async def test_learns_from_whole_requests_where_the_log_has_them(tmp_path, monkeypatch):
    monkeypatch.setenv("WAYPOST_DATA_DIR", str(tmp_path))
    requests: Sequence[Mapping[str, Any]] = (
        {},
        {"tools": [{"type": "web_search"}], "tool_choice": "required"},
    )
    await log_turns(f"sqlite:///{tmp_path}/waypost.db", tmp_path, 120, requests)
    out = tmp_path / "r.safetensors"
    name = f"static-cheap-1{SUFFIX}"
    assert name in invoke(train.command, "--encoder", "static", "--out", out)
    assert load(out.read_bytes(), load_encoder("static")).manifest.encoder_id == name


def test_says_where_grades_come_from_when_the_log_has_none(tmp_path, monkeypatch):
    monkeypatch.setenv("WAYPOST_DATA_DIR", str(tmp_path))
    assert "/v1/feedback" in invoke(train.command, "--encoder", "static", fails=True)


def test_says_which_rows_it_left_out_and_which_it_averaged(data, tmp_path):
    arguments = (with_a_gap(data), "--estimator", "ridge", "--out", tmp_path / "r")
    assert "row 1, query_id 'q0', model 'cheap'" in invoke(train.command, *arguments, fails=True)
    output = invoke(train.command, *arguments, "--skip-incomplete")
    assert (
        "rows left out because they lack 'cost_usd': 1 (row 1, query_id 'q0', model 'cheap')"
        in output
    )
    assert (
        "rows that repeat a query and a model: 1 (row 641, query_id 'q1', model 'coder')" in output
    )


def test_says_what_is_wrong_with_the_table(tmp_path):
    output = invoke(train.command, tmp_path / "none.parquet", fails=True)
    assert output == f"Error: {tmp_path / 'none.parquet'} does not exist\n"
