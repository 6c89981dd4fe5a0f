from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from gateway.problems.datasets import read_dataset, split_of
from router_models.errors import InvalidEvaluations
from tests.fakes.encoders import FakeEncoder
from tests.fakes.evaluation_tables import write_table

LONG = {
    "query_id": ["q1", "q1", "q2", "q2"],
    "task": ["sums"] * 4,
    "domain": ["maths"] * 4,
    "model": ["a", "b", "a", "b"],
    "score": [1.0, 0.0, 0.5, 1.0],
    "prompt_tokens": [10] * 4,
    "completion_tokens": [5] * 4,
    "cost_usd": [0.1, 0.2, 0.3, 0.4],
}
QUERIES = {
    "query_id": ["q1", "q2"],
    "task": ["sums", "code"],
    "domain": ["maths", "python"],
    "text": ["one", "three"],
    "split": ["train", "test"],
}
EXPORT = {
    "query_id": ["q1", "q2"],
    "query_embedding": [[1.0, 2.0], [3.0, 4.0]],
    "encoder_id": ["fake-1", "fake-1"],
    "task": [None, "code"],
    "model": ["a", "b"],
    "score": [1.0, 0.0],
    "cost_usd": [0.1, 0.2],
    "prompt_tokens": [1, 2],
    "completion_tokens": [3, 4],
}


def long_form(folder: Path, suffix: str = ".parquet", rows=LONG, queries=QUERIES) -> Path:
    write_table(folder / f"t.queries{suffix}", queries)
    return write_table(folder / f"t{suffix}", rows)


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_reads_the_long_form_with_its_queries(tmp_path, suffix):
    dataset = read_dataset(long_form(tmp_path, suffix))
    assert dataset.models == ("a", "b")
    assert dataset.texts == ("one", "three")
    assert dataset.splits == ("train", "test")
    assert dataset.tasks == ("sums", "code")
    assert dataset.domains == ("maths", "python")
    np.testing.assert_allclose(dataset.quality, [[1.0, 0.0], [0.5, 1.0]])
    np.testing.assert_allclose(dataset.cost_usd, [[0.1, 0.2], [0.3, 0.4]])


def test_reads_what_the_log_exports(tmp_path):
    dataset = read_dataset(write_table(tmp_path / "log.parquet", EXPORT))
    assert dataset.encoder_id == "fake-1"
    assert dataset.tasks == ("", "code")
    np.testing.assert_array_equal(dataset.embeddings, [[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_array_equal(np.isnan(dataset.quality), [[False, True], [True, False]])
    assert set(dataset.splits) <= {"train", "val", "test"}


def test_reads_the_csv_that_the_log_exports(tmp_path):
    cells = {"query_embedding": ["[1.0, 2.0]", "[3.0, 4.0]"], "text": ["", ""]}
    dataset = read_dataset(write_table(tmp_path / "log.csv", EXPORT | cells))
    np.testing.assert_array_equal(dataset.embeddings, [[1.0, 2.0], [3.0, 4.0]])


def test_refuses_an_embedding_that_is_not_a_list(tmp_path):
    path = write_table(tmp_path / "log.csv", EXPORT | {"query_embedding": ["[1.0]", "none"]})
    with pytest.raises(InvalidEvaluations, match="JSON lists of numbers"):
        read_dataset(path)


def test_reads_a_single_file_with_text(tmp_path):
    columns = {k: v for k, v in EXPORT.items() if k not in {"query_embedding", "encoder_id"}}
    dataset = read_dataset(write_table(tmp_path / "t.csv", columns | {"text": ["one", "three"]}))
    rows = dataset.embedded(FakeEncoder()).evaluations()
    np.testing.assert_allclose(rows.embeddings[:, 0], [3, 5])


def test_leaves_out_rows_that_were_never_graded(tmp_path):
    path = write_table(tmp_path / "log.parquet", EXPORT | {"score": [1.0, None]})
    assert read_dataset(path).models == ("a",)


def test_averages_several_answers_of_one_model_to_one_query(tmp_path):
    rows = LONG | {"query_id": ["q1"] * 4, "model": ["a", "a", "a", "b"]}
    dataset = read_dataset(long_form(tmp_path, rows=rows))
    np.testing.assert_allclose(dataset.quality[0], [0.5, 1.0])
    np.testing.assert_allclose(dataset.cost_usd[0], [0.2, 0.4])


@pytest.mark.parametrize(("with_completion", "tokens"), [(False, 10), (True, 15)])
def test_works_costs_out_from_a_price_per_million_tokens(tmp_path, with_completion, tokens):
    rows = {k: v for k, v in LONG.items() if k != "cost_usd"} | {"price_per_mtok": [2.0] * 4}
    if not with_completion:
        del rows["completion_tokens"]
    dataset = read_dataset(long_form(tmp_path, rows=rows))
    np.testing.assert_allclose(dataset.cost_usd, tokens * 2e-6)


def test_drops_models_that_hide_their_reasoning(tmp_path):
    rows = LONG | {"hidden_reasoning": [False, True, False, True]}
    dataset = read_dataset(long_form(tmp_path, rows=rows)).without_hidden_reasoning()
    assert dataset.models == ("a",)
    assert dataset.quality.shape == (2, 1)


def test_a_query_nobody_answered_is_no_evaluation(tmp_path):
    queries = {k: [*v, v[-1]] for k, v in QUERIES.items()} | {"query_id": ["q1", "q2", "q3"]}
    dataset = read_dataset(long_form(tmp_path, queries=queries)).embedded(FakeEncoder())
    assert len(dataset.query_ids) == 3
    assert len(dataset.evaluations().quality) == 2
    assert dataset.evaluations("test").tasks == ("code",)


def test_the_same_question_falls_in_the_same_split_however_it_is_spaced():
    assert split_of("What  is\n1+1?") == split_of("what is 1+1?")


def test_seven_in_ten_questions_are_for_training():
    splits = [split_of(f"question {n}") for n in range(2000)]
    assert 0.67 < splits.count("train") / 2000 < 0.73
    assert 0.08 < splits.count("val") / 2000 < 0.12


def test_keeps_embeddings_that_are_already_the_encoders(tmp_path):
    dataset = read_dataset(write_table(tmp_path / "log.parquet", EXPORT))
    assert dataset.embedded(FakeEncoder()) is dataset


def test_refuses_embeddings_of_another_encoder_without_text(tmp_path):
    path = write_table(tmp_path / "log.parquet", EXPORT | {"encoder_id": ["old-1", "old-1"]})
    with pytest.raises(InvalidEvaluations, match="embeddings of encoder 'old-1' and no text"):
        read_dataset(path).embedded(FakeEncoder())


def test_refuses_embeddings_of_another_length(tmp_path):
    path = write_table(tmp_path / "log.parquet", EXPORT | {"query_embedding": [[1.0], [2.0]]})
    with pytest.raises(InvalidEvaluations, match="have 2 dimensions, the table's have 1"):
        read_dataset(path).embedded(FakeEncoder())


def test_encodes_text_even_where_old_embeddings_lie_beside_it(tmp_path):
    columns = EXPORT | {"encoder_id": ["old-1", "old-1"], "text": ["one", "three"]}
    dataset = read_dataset(write_table(tmp_path / "log.parquet", columns)).embedded(FakeEncoder())
    np.testing.assert_allclose(dataset.evaluations().embeddings[:, 0], [3, 5])


def test_reads_embeddings_where_some_texts_are_missing(tmp_path):
    dataset = read_dataset(write_table(tmp_path / "log.parquet", EXPORT | {"text": ["one", None]}))
    assert dataset.texts == ()
    assert dataset.encoder_id == "fake-1"


def without(columns, *names):
    return {name: values for name, values in columns.items() if name not in names}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (without(LONG, "score"), "lacks the column 'score'"),
        (without(LONG, "cost_usd"), "lacks the column 'cost_usd'"),
        (LONG | {"score": [1.0, 0.0, 1.5, 0.0]}, "'score' must lie between 0 and 1"),
        (LONG | {"score": [1.0, 0.0, float("nan"), 0.0]}, "'score' has empty or infinite"),
        (LONG | {"score": ["good", "bad", "good", "bad"]}, "'score' must hold numbers"),
        (LONG | {"score": pa.array([None] * 4, pa.float32())}, "no graded row"),
        (LONG | {"cost_usd": [0.1, 0.1, 0.1, -0.1]}, "a cost is negative"),
        (LONG | {"cost_usd": [0.1, 0.1, 0.1, None]}, "'cost_usd' has empty or infinite"),
        (LONG | {"model": ["a", "b", "a", ""]}, "'model' has empty values"),
        (LONG | {"query_id": ["q1", "q1", "q8", "q9"]}, "lacks query 'q8' and 1 more"),
    ],
)
def test_refuses_rows_it_cannot_learn_from_and_names_the_column(tmp_path, rows, message):
    with pytest.raises(InvalidEvaluations, match=message):
        read_dataset(long_form(tmp_path, rows=rows))


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        (without(QUERIES, "text"), "lacks the column 'text'"),
        (QUERIES | {"text": ["one", None]}, "'text' has empty values"),
        (QUERIES | {"split": ["train", "holdout"]}, "unknown split holdout; use train, val, test"),
    ],
)
def test_refuses_queries_it_cannot_read(tmp_path, queries, message):
    with pytest.raises(InvalidEvaluations, match=message):
        read_dataset(long_form(tmp_path, queries=queries))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (without(EXPORT, "query_embedding"), "neither 'text' nor 'query_embedding'"),
        (without(EXPORT, "encoder_id"), "lacks the column 'encoder_id'"),
        (EXPORT | {"encoder_id": ["x", "y"]}, "several encoders: x, y"),
        (EXPORT | {"query_embedding": [[1.0], [1.0, 2.0]]}, "must all have the same length"),
        (EXPORT | {"query_embedding": [[1.0], [float("nan")]]}, "empty or infinite values"),
    ],
)
def test_refuses_an_export_it_cannot_read(tmp_path, columns, message):
    with pytest.raises(InvalidEvaluations, match=message):
        read_dataset(write_table(tmp_path / "log.parquet", columns))


def test_refuses_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InvalidEvaluations, match="does not exist"):
        read_dataset(tmp_path / "none.parquet")


def test_refuses_a_name_of_another_form(tmp_path):
    with pytest.raises(InvalidEvaluations, match=r"ends in \.parquet, \.csv"):
        read_dataset(tmp_path / "table.xlsx")


def test_refuses_bytes_that_are_no_parquet(tmp_path):
    path = tmp_path / "t.parquet"
    path.write_bytes(b"not a table")
    with pytest.raises(InvalidEvaluations, match=r"cannot be read as \.parquet"):
        read_dataset(path)


def test_refuses_to_keep_a_model_the_table_lacks(tmp_path):
    dataset = read_dataset(long_form(tmp_path))
    with pytest.raises(InvalidEvaluations, match="no model c"):
        dataset.with_models(["a", "c"])
    with pytest.raises(InvalidEvaluations, match="no model at all"):
        replace(dataset, hidden_reasoning=frozenset("ab")).without_hidden_reasoning()


def test_refuses_a_split_without_evaluations(tmp_path):
    dataset = read_dataset(long_form(tmp_path)).embedded(FakeEncoder())
    with pytest.raises(InvalidEvaluations, match=r"no evaluation in split 'val'; .* test, train"):
        dataset.evaluations("val")


def test_asks_for_embeddings_first(tmp_path):
    with pytest.raises(InvalidEvaluations, match="encode them first"):
        read_dataset(long_form(tmp_path)).evaluations()


GAPS = LONG | {"cost_usd": [0.1, 0.2, 0.3, None]}


def test_names_the_row_and_the_model_whose_cost_is_missing(tmp_path):
    with pytest.raises(InvalidEvaluations) as caught:
        read_dataset(long_form(tmp_path, rows=GAPS))
    assert str(caught.value).endswith(
        "column 'cost_usd' has empty or infinite values (row 4, query_id 'q2', model 'b'); "
        "fill them in, or leave such rows out with --skip-incomplete"
    )


def test_counts_rows_as_they_lie_in_the_file_graded_or_not(tmp_path):
    rows = GAPS | {"score": [None, 0.0, 0.5, 1.0], "cost_usd": [0.1, 0.2, None, float("nan")]}
    with pytest.raises(InvalidEvaluations, match=r"\(row 3, .* model 'a'; 1 more like it\)"):
        read_dataset(long_form(tmp_path, rows=rows))


def test_leaves_incomplete_rows_out_when_asked_and_says_which(tmp_path):
    rows = GAPS | {"model": ["a", "", "a", "b"], "score": [1.0, 1.0, 1.0, float("nan")]}
    dataset = read_dataset(long_form(tmp_path, rows=rows), skip_incomplete=True)
    assert dataset.models == ("a",)
    assert len([note for note in dataset.notes if note.startswith("rows left out")]) == 3
    assert (
        "rows left out because they lack 'cost_usd': 1 (row 4, query_id 'q2', model 'b')"
        in dataset.notes
    )


def test_leaves_out_rows_without_the_tokens_that_their_cost_is_made_of(tmp_path):
    rows = {k: v for k, v in LONG.items() if k != "cost_usd"} | {
        "price_per_mtok": [1.0, 1.0, 1.0, 1.0],
        "prompt_tokens": [1, 1, None, 1],
    }
    dataset = read_dataset(long_form(tmp_path, rows=rows), skip_incomplete=True)
    assert np.isfinite(dataset.quality).sum() == 3


def test_a_table_of_nothing_but_incomplete_rows_holds_no_graded_row(tmp_path):
    rows = LONG | {"cost_usd": pa.array([None] * 4, pa.float64())}
    with pytest.raises(InvalidEvaluations, match="no graded row"):
        read_dataset(long_form(tmp_path, rows=rows), skip_incomplete=True)


def test_says_that_answers_of_one_model_to_one_query_are_averaged(tmp_path):
    rows = LONG | {"query_id": ["q1", "q1", "q1", "q2"], "model": ["a", "b", "a", "a"]}
    (note,) = read_dataset(long_form(tmp_path, rows=rows)).notes
    assert note.startswith(
        "rows that repeat a query and a model: 1 (row 3, query_id 'q1', model 'a')"
    )


def test_says_nothing_about_a_table_that_is_as_it_should_be(tmp_path):
    assert read_dataset(long_form(tmp_path)).notes == ()


def test_a_query_without_an_id_is_not_one_that_could_be_left_out(tmp_path):
    with pytest.raises(InvalidEvaluations) as caught:
        read_dataset(long_form(tmp_path, queries=QUERIES | {"query_id": ["q1", None]}))
    assert "skip-incomplete" not in str(caught.value)


COUNTS = {"prompt_tokens": [10, 10, 30, 30], "completion_tokens": [5, 7, 2, 8]}
PRICED = LONG | COUNTS | {"cost_usd": [0.2, 0.76, 0.34, 1.24]}


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_reads_tokens_and_the_prices_that_they_imply(tmp_path, suffix):
    dataset = read_dataset(long_form(tmp_path, suffix, rows=PRICED)).embedded(FakeEncoder())
    tokens = dataset.with_models(["b", "a"]).evaluations("test").tokens
    assert tokens is not None
    np.testing.assert_array_equal(tokens.prompt, [[30, 30]])
    np.testing.assert_array_equal(tokens.completion, [[8, 2]])
    np.testing.assert_allclose(tokens.prices, [[0.02, 0.01], [0.08, 0.02]])


def test_says_which_models_tokens_are_not_counted_and_learns_usd(tmp_path):
    rows = PRICED | {"completion_tokens": [5, None, 2, 8]}
    dataset = read_dataset(long_form(tmp_path, rows=rows))
    assert dataset.tokens is None
    assert any("lack token counts for b" in note for note in dataset.notes)


def test_a_table_whose_columns_of_tokens_are_empty_counts_none(tmp_path):
    rows = PRICED | {"completion_tokens": [None] * 4}
    dataset = read_dataset(long_form(tmp_path, rows=rows))
    assert (dataset.tokens, dataset.notes) == (None, ())


def test_refuses_a_negative_count_of_tokens(tmp_path):
    path = long_form(tmp_path, rows=PRICED | {"prompt_tokens": [10, -1, 30, 30]})
    with pytest.raises(InvalidEvaluations, match=r"count of tokens is negative \(row 2"):
        read_dataset(path)


def test_grades_count_by_their_weight(tmp_path):
    rows = {**LONG, "score_weight": [0.5, None, 0.25, 1.0]}
    evaluations = read_dataset(long_form(tmp_path, rows=rows)).embedded(FakeEncoder()).evaluations()
    np.testing.assert_array_equal(evaluations.weight, np.array([[0.5, 1.0], [0.25, 1.0]]))


def test_models_and_splits_keep_their_weights(tmp_path):
    rows = {**LONG, "score_weight": [0.5, 0.75, 0.25, 1.0]}
    kept = read_dataset(long_form(tmp_path, rows=rows)).with_models(["b"]).embedded(FakeEncoder())
    np.testing.assert_array_equal(kept.evaluations("test").weight, [[1.0]])


def test_weights_that_are_all_one_are_none(tmp_path):
    rows = {**LONG, "score_weight": [1.0] * 4}
    assert read_dataset(long_form(tmp_path, rows=rows)).weight is None


@pytest.mark.parametrize("weight", [0.0, -1.0, 2.0])
def test_refuses_a_weight_that_is_none(tmp_path, weight):
    rows = {**LONG, "score_weight": [1.0, weight, 1.0, 1.0]}
    with pytest.raises(InvalidEvaluations, match="'score_weight' must be above 0 and at most 1"):
        read_dataset(long_form(tmp_path, rows=rows))
