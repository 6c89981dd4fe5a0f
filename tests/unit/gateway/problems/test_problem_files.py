from dataclasses import asdict, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from budget.errors import InvalidProblems
from gateway.problems.problem_files import (
    ProblemRow,
    build_environment,
    read_problems,
)
from tests.fakes.problems import write_problems


class Letters:
    """Embeds a text as its length and its first letter's number."""

    id, sha256, dimension = "letters", "ab" * 32, 2

    def encode(self, texts):
        return np.array([[len(text), ord(text[0])] for text in texts], np.float32)


ROWS = [
    ProblemRow("p", 0, "first", 0, 120, 1.0),
    ProblemRow("p", 0, "first", 1, 80, 0.0),
    ProblemRow("p", 1, "second", 0, 30, 1.0, is_decisive=False),
    ProblemRow("q", 0, "third", 0, 50, 0.5, split="test"),
]


def refusal(rows) -> str:
    with pytest.raises(InvalidProblems) as caught:
        build_environment(rows, Letters())
    return str(caught.value)


def test_reads_what_was_written(tmp_path):
    write_problems(ROWS, tmp_path / "a.parquet")
    assert read_problems(tmp_path / "a.parquet") == ROWS


def test_optional_columns_have_defaults(tmp_path):
    table = pa.Table.from_pylist([asdict(ROWS[0])]).drop_columns(
        ["is_decisive", "tier_tokens", "split"]
    )
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert read_problems(tmp_path / "a.parquet") == [ROWS[0]]


def test_gathers_problems_turns_and_samples():
    environment = build_environment(ROWS, Letters())
    assert [problem.problem_id for problem in environment.problems] == ["p", "q"]
    assert environment.problems[0].texts == ("first", "second")
    assert environment.problems[0].is_decisive == (True, False)
    np.testing.assert_array_equal(environment.problems[0].embeddings[1], [6, ord("s")])
    np.testing.assert_array_equal(environment.samples[0][0].tokens, [[120], [80]])
    np.testing.assert_array_equal(environment.samples[0][0].is_right, [[True], [False]])


def test_partial_credit_solves_nothing():
    environment = build_environment(ROWS, Letters(), split="test")
    assert not environment.samples[0][0].is_right.any()


def test_keeps_the_problems_of_one_split():
    assert len(build_environment(ROWS, Letters(), split="train").problems) == 1


def test_samples_of_several_tiers_stand_side_by_side():
    rows = [ROWS[0], replace(ROWS[0], tier_tokens=256, completion_tokens=200)]
    environment = build_environment(rows, Letters())
    assert environment.tiers == (0, 256)
    np.testing.assert_array_equal(environment.samples[0][0].tokens, [[120, 200]])


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([], "no row"),
        ([replace(ROWS[0], turn=1)], "numbered 0, 1, 2"),
        ([ROWS[0], ROWS[0]], "one row in each"),
        ([ROWS[0], replace(ROWS[1], tier_tokens=64)], "one row in each"),
    ],
)
def test_refuses_problems_that_are_not_whole(rows, why):
    assert why in refusal(rows)


def test_says_which_splits_there_are():
    with pytest.raises(InvalidProblems, match=r"'val'; the file has test, train"):
        build_environment(ROWS, Letters(), split="val")


@pytest.mark.parametrize(
    "change", [{"turn": -1}, {"completion_tokens": -1}, {"score": 1.5}, {"score": float("nan")}]
)
def test_refuses_values_out_of_range(tmp_path, change):
    write_problems([replace(ROWS[0], **change)], tmp_path / "a.parquet")
    with pytest.raises(InvalidProblems, match="problem 'p'"):
        read_problems(tmp_path / "a.parquet")


def test_refuses_a_file_without_a_column(tmp_path):
    pyarrow.parquet.write_table(pa.table({"problem_id": ["p"]}), tmp_path / "a.parquet")
    with pytest.raises(InvalidProblems, match="'turn'"):
        read_problems(tmp_path / "a.parquet")


def test_refuses_empty_values(tmp_path):
    table = pa.Table.from_pylist([asdict(ROWS[0]) | {"text": None}, asdict(ROWS[1])])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(InvalidProblems, match="'text' has empty values"):
        read_problems(tmp_path / "a.parquet")


def test_refuses_a_file_that_is_no_table(tmp_path):
    (tmp_path / "a.parquet").write_text("no")
    with pytest.raises(InvalidProblems, match="cannot be read"):
        read_problems(tmp_path / "a.parquet")


def test_refuses_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InvalidProblems, match="does not exist"):
        read_problems(tmp_path / "a.parquet")
