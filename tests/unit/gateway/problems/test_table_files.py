"""Tables are read as they were written, and what no router can learn from is said."""

from typing import Any

import numpy as np
import pytest

from gateway.problems.datasets import read_dataset
from router_models.errors import InvalidEvaluations
from tests.fakes.evaluation_tables import write_table

SINGLE: dict[str, list[Any]] = {
    "query_id": ["001", "001", "1", "1"],
    "text": ["one", "one", "two", "two"],
    "model": ["a", "b", "a", "b"],
    "score": [1.0, 0.0, 0.0, 1.0],
    "cost_usd": [0.1, 0.2, 0.1, 0.2],
}


def test_an_id_of_digits_keeps_its_zeros(tmp_path):
    dataset = read_dataset(write_table(tmp_path / "t.csv", SINGLE))

    assert sorted(dataset.query_ids) == ["001", "1"]
    assert np.isfinite(dataset.quality).all()


def test_line_ends_within_cells_are_text_however_long_the_file_is(tmp_path):
    texts = [f"line one, {n}\nline two" + " and more" * 400 for n in range(1_000)]
    rows = {
        "query_id": [str(n) for n in range(1_000)],
        "text": texts,
        "model": ["a", "b"] * 500,
        "score": [1.0, 0.0] * 500,
        "cost_usd": [0.1] * 1_000,
    }
    path = write_table(tmp_path / "t.csv", rows)
    assert path.stat().st_size > 3_000_000

    assert list(read_dataset(path).texts) == texts


@pytest.mark.parametrize("column", ["text", "model", "query_id"])
def test_refuses_bytes_that_are_no_utf_8_and_says_what_to_do(tmp_path, column):
    changed = SINGLE | {column: [value + "\xe9" for value in SINGLE[column]]}
    path = write_table(tmp_path / "t.csv", changed)
    path.write_bytes(path.read_text(encoding="utf-8").encode("latin-1"))

    with pytest.raises(InvalidEvaluations, match="save the file as UTF-8"):
        read_dataset(path)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_refuses_two_texts_of_one_query_and_names_it(tmp_path, suffix):
    changed = SINGLE | {"text": ["one", "another", "two", "two"]}

    with pytest.raises(InvalidEvaluations, match=r"another text.*row 2, query_id '001'"):
        read_dataset(write_table(tmp_path / f"t{suffix}", changed))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"score": [0.0] * 4}, "every score is 0: no answer is better than another"),
        ({"score": [1.0] * 4}, "every score is 1: no answer is better than another"),
        ({"cost_usd": [0.0] * 4}, "every cost is 0: no model is cheaper than another"),
        (
            {"model": ["a"] * 4, "query_id": ["1", "2", "3", "4"], "text": ["a", "b", "c", "d"]},
            "all rows are of one model, a: there is nothing to choose between",
        ),
    ],
)
def test_says_what_no_router_can_learn_from(tmp_path, changes, said):
    assert said in read_dataset(write_table(tmp_path / "t.csv", SINGLE | changes)).notes
