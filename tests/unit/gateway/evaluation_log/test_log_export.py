import csv
import json
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from sqlalchemy import Engine

from gateway.evaluation_log.evaluation_log import EvaluationLog
from gateway.evaluation_log.grades import GradeRecord
from gateway.evaluation_log.log_export import (
    COLUMNS,
    UNASKED_WEIGHT,
    DatabaseRows,
    EvaluationRow,
    Selection,
    split_of,
    write_csv,
)
from gateway.evaluation_log.log_parquet import write_parquet
from gateway.problems.datasets import read_dataset
from gateway.settings.config import EvaluationLogSettings
from gateway.storage.database import create_database_engine
from gateway.types import TurnRecord
from router_models.encoders.request_shape import SUFFIX, WIDTH
from tests.fakes.schemas import with_schema
from tests.fakes.turns import START_UNIX_S, make_turn

SETTINGS = EvaluationLogSettings(retention_days=None)


@pytest.fixture
def engine(tmp_path: Path):
    engine = create_database_engine(f"sqlite:///{tmp_path / 'waypost.db'}")
    with_schema(engine)
    yield engine
    engine.dispose()


def make_grade(number: int, answer_id: str, score: float, **changes) -> GradeRecord:
    known = {"team_id": "default", "grader": "me", "source": "feedback", "comment": None}
    return GradeRecord(
        grade_id=f"g{number}",
        answer_id=answer_id,
        score=score,
        created_at_unix_s=START_UNIX_S + number,
        **(known | changes),
    )


async def fill(engine: Engine, tmp_path: Path, *records) -> None:
    log = EvaluationLog(engine, SETTINGS, tmp_path / "spool")
    for record in records:
        log.record_grade(record) if isinstance(record, GradeRecord) else log.record(record)
    log.start()
    await log.aclose()


def read(engine: Engine, batch_rows: int = 1000, **selection) -> list[EvaluationRow]:
    batches = DatabaseRows(engine).iter_evaluations(Selection(**selection), batch_rows)
    return [row for batch in batches for row in batch]


async def test_a_graded_turn_becomes_an_evaluation(engine, tmp_path):
    turn = make_turn(1, query_text="What?", served_model="large")
    await fill(engine, tmp_path, turn, make_grade(1, "req_000001", 0.75))

    (row,) = read(engine)

    assert (row.model, row.chosen_model, row.propensity) == ("large", "small", 0.9)
    assert (row.score, row.score_source, row.cost_usd) == (0.75, "feedback", 12.345678901)
    assert (row.task, row.text, row.encoder_id) == ("gsm8k", "What?", "static-cheap-1")
    assert row.query_embedding is not None
    assert row.query_embedding.tolist() == [0.5, -1.0, 1.0]
    assert [c["model"] for c in json.loads(row.candidates)] == ["small", "large"]
    assert row.created_at == datetime.fromtimestamp(START_UNIX_S + 1, UTC)
    assert row.split == split_of(row.query_id)


async def test_turns_without_grade_answer_embedding_or_cost_are_left_out(engine, tmp_path):
    turns = [
        make_turn(0),
        make_turn(1, served_model=None),
        make_turn(2, query_embedding=None),
        make_turn(3, cost_nusd=None),
        make_turn(4),
    ]
    grades = [make_grade(n, f"req_{n:06d}", 1.0) for n in (1, 2, 3, 4)]
    await fill(engine, tmp_path, *turns, *grades)

    assert [row.request_id for row in read(engine)] == ["req_000004"]
    whole = read(engine, is_whole=True)
    assert len(whole) == 5
    assert (whole[0].score, whole[2].query_embedding, whole[3].cost_usd) == (None, None, None)


async def test_a_grade_of_another_team_does_not_count(engine, tmp_path):
    await fill(engine, tmp_path, make_turn(1), make_grade(1, "req_000001", 1.0, team_id="blue"))

    assert read(engine) == []
    assert read(engine, is_whole=True)[0].score is None


async def test_verifiers_count_before_callers_and_callers_before_judges(engine, tmp_path):
    await fill(
        engine,
        tmp_path,
        *(make_turn(n) for n in range(3)),
        make_grade(0, "req_000000", 1.0),
        make_grade(1, "dec_000000", 0.5, source="judge"),
        make_grade(2, "chatcmpl-000000", 0.0, source="verifier"),
        make_grade(3, "req_000001", 1.0),
        make_grade(4, "req_000001", 0.5, source="judge"),
        make_grade(5, "req_000002", 0.25),
    )

    assert [row.score for row in read(engine)] == [0.0, 1.0, 0.25]


async def test_the_latest_grade_of_each_grader_is_averaged(engine, tmp_path):
    await fill(
        engine,
        tmp_path,
        make_turn(1),
        make_grade(1, "req_000001", 0.0, grader="ann"),
        make_grade(2, "dec_000001", 1.0, grader="ann"),
        make_grade(3, "req_000001", 0.5, grader="bob"),
    )

    assert [row.score for row in read(engine)] == [0.75]


async def test_checks_and_signals_count_together_by_their_weights(engine, tmp_path):
    await fill(
        engine,
        tmp_path,
        make_turn(1),
        make_grade(1, "req_000001", 0.0, grader="loop", source="check", weight=0.6),
        make_grade(2, "req_000001", 1.0, grader="thanked", source="signal", weight=0.2),
    )

    (row,) = read(engine, with_checks=True)
    assert (row.score, row.score_source, row.score_weight) == (0.25, "check", UNASKED_WEIGHT)


async def test_turns_that_only_checks_and_signals_graded_are_left_out_unless_asked_for(
    engine, tmp_path
):
    await fill(
        engine,
        tmp_path,
        *(make_turn(n) for n in range(3)),
        make_grade(0, "req_000000", 0.0, grader="loop", source="check"),
        make_grade(1, "req_000001", 0.0, grader="loop", source="check"),
        make_grade(2, "req_000001", 1.0),
    )

    (row,) = read(engine)
    assert (row.request_id, row.score, row.score_source) == ("req_000001", 1.0, "feedback")
    assert len(read(engine, with_checks=True)) == 2
    assert [row.score for row in read(engine, is_whole=True)] == [0.0, 1.0, None]


async def test_a_grade_without_weight_says_nothing(engine, tmp_path):
    await fill(engine, tmp_path, make_turn(1), make_grade(1, "req_000001", 0.0, weight=0.0))

    assert [row.score for row in read(engine)] == [None]


async def test_rows_are_selected_by_time_team_and_encoder(engine, tmp_path):
    turns = [
        make_turn(0),
        make_turn(1, team_id="blue"),
        make_turn(2, encoder_id="minilm-1"),
        make_turn(3),
    ]
    await fill(engine, tmp_path, *turns)

    def ids(**selection) -> list[int]:
        return [int(row.request_id[-1]) for row in read(engine, is_whole=True, **selection)]

    moment = datetime.fromtimestamp(START_UNIX_S + 2, UTC)
    assert ids() == [0, 1, 2, 3]
    assert ids(since=moment) == [2, 3]
    assert ids(until=moment) == [0, 1]
    assert ids(team_ids=["blue"]) == [1]
    assert ids(team_ids=[]) == []
    assert ids(encoder_id="minilm-1") == [2]


async def test_the_latest_rows_are_counted_from_the_end(engine, tmp_path):
    turns = [make_turn(n, started_at_unix_s=START_UNIX_S + n // 2) for n in range(10)]
    await fill(engine, tmp_path, *turns)

    def latest(rows: int, **selection) -> list[int]:
        whole = Selection(is_whole=True, **selection)
        batches = DatabaseRows(engine).iter_latest(rows, whole)
        return [int(row.request_id[-1]) for batch in batches for row in batch]

    assert latest(4) == [6, 7, 8, 9]
    assert latest(3) == [6, 7, 8, 9]
    assert latest(100) == list(range(10))
    assert latest(1, team_ids=["blue"]) == []


async def test_batches_neither_skip_nor_repeat_turns_of_the_same_moment(engine, tmp_path):
    turns = [make_turn(n, started_at_unix_s=START_UNIX_S + n // 5) for n in range(23)]
    await fill(engine, tmp_path, *turns)

    rows = read(engine, batch_rows=4, is_whole=True)

    assert [row.request_id for row in rows] == [turn.request_id for turn in turns]


async def test_the_same_query_has_the_same_id_and_split_whatever_answered(engine, tmp_path):
    vector = np.array([1, 2, 3], np.float32)
    turns = [
        make_turn(0, query_embedding=vector, served_model="small"),
        make_turn(1, query_embedding=vector, served_model="large"),
        make_turn(2, query_embedding=vector, encoder_id="minilm-1"),
    ]
    await fill(engine, tmp_path, *turns)

    first, second, other = (row.query_id for row in read(engine, is_whole=True))

    assert first == second != other


def asked(number: int, vector: np.ndarray, shape: float | None = None, **changes) -> TurnRecord:
    if shape is None:
        return make_turn(number, query_embedding=vector, **changes)
    whole = np.concatenate([vector, np.full(WIDTH, shape, np.float32)])
    encoder_id = f"static-cheap-1{SUFFIX}"
    return make_turn(number, query_embedding=whole, encoder_id=encoder_id, **changes)


async def test_a_text_with_other_tools_is_another_query_of_the_same_split(engine, tmp_path):
    texts = [np.array([number, 2, 3], np.float32) for number in range(20)]
    shapes = (None, 0.1, 0.2)
    await fill(
        engine,
        tmp_path,
        *(asked(3 * n + m, text, s) for n, text in enumerate(texts) for m, s in enumerate(shapes)),
    )

    rows = read(engine, is_whole=True, encoder_id="static-cheap-1")

    assert len({row.query_id for row in rows}) == 60
    splits = [{row.split for row in rows[start : start + 3]} for start in range(0, 60, 3)]
    assert all(len(found) == 1 for found in splits)
    assert len(set.union(*splits)) > 1
    assert len(read(engine, is_whole=True, encoder_id=f"static-cheap-1{SUFFIX}")) == 40


async def test_training_reads_texts_and_whole_requests_from_one_export(engine, tmp_path):
    vector = np.array([1, 2, 3], np.float32)
    await fill(
        engine,
        tmp_path,
        asked(0, vector, query_text="Where?"),
        asked(1, vector, 0.1, query_text="Where?"),
        *(make_grade(n, f"req_{n:06d}", 1.0) for n in range(2)),
    )
    file = tmp_path / "log.parquet"
    write_parquet(DatabaseRows(engine).iter_evaluations(), file)

    dataset = read_dataset(file)

    assert dataset.encoder_id == f"static-cheap-1{SUFFIX}"
    shapes = np.array([[0.0], [0.1]], np.float32).repeat(WIDTH, axis=1)
    np.testing.assert_array_equal(dataset.embeddings, np.hstack([[vector, vector], shapes]))


def test_splits_have_their_shares():
    splits = [split_of(str(number)) for number in range(5000)]

    assert abs(splits.count("train") / 5000 - 0.7) < 0.03
    assert abs(splits.count("val") / 5000 - 0.1) < 0.03
    assert abs(splits.count("test") / 5000 - 0.2) < 0.03


async def test_a_parquet_export_is_what_training_reads(engine, tmp_path):
    turns = [make_turn(n, served_model=("small", "large")[n % 2]) for n in range(10)]
    grades = [make_grade(n, f"req_{n:06d}", n / 10) for n in range(10)]
    await fill(engine, tmp_path, *turns, *grades)
    file = tmp_path / "log.parquet"

    assert write_parquet(DatabaseRows(engine).iter_evaluations(batch_rows=3), file) == 10

    dataset = read_dataset(file)
    assert dataset.models == ("large", "small")
    assert dataset.encoder_id == "static-cheap-1"
    assert dataset.embeddings is not None
    assert dataset.embeddings.shape == (10, 3)
    assert np.nanmax(dataset.quality) == pytest.approx(0.9)
    table = pyarrow.parquet.read_table(file)
    assert table.column_names == list(COLUMNS)
    assert table["text"].null_count == 10


async def test_a_csv_export_has_the_same_columns(engine, tmp_path):
    await fill(engine, tmp_path, make_turn(1), make_grade(1, "req_000001", 1.0))
    file = tmp_path / "log.csv"

    assert write_csv(DatabaseRows(engine).iter_evaluations(), file) == 1

    with file.open(newline="") as lines:
        (row,) = csv.DictReader(lines)
    assert list(row) == [field.name for field in fields(EvaluationRow)]
    assert json.loads(row["query_embedding"]) == [0.5, -1.0, 1.0]
    assert (row["text"], row["score"]) == ("", "1.0")
    assert datetime.fromisoformat(row["created_at"]).tzinfo is not None


async def test_an_empty_log_makes_an_empty_table(engine, tmp_path):
    assert write_parquet(DatabaseRows(engine).iter_evaluations(), tmp_path / "log.parquet") == 0
    assert pyarrow.parquet.read_table(tmp_path / "log.parquet").num_rows == 0
