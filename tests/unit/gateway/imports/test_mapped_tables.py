import csv
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet
import pytest

from gateway.imports.choices import Scale, parse_scale
from gateway.imports.mapped_tables import Columns, parse_columns
from gateway.imports.records import InvalidImport
from gateway.imports.table import import_rows
from gateway.imports.tools import find
from tests.fakes.evaluation_files import means, no_models

LONG = {"text": "question", "model": "llm", "score": "rating", "cost_usd": "usd"}
ROWS = [
    {"question": "Why,\nand how?", "llm": "a", "rating": 0.5, "usd": 0.001},
    {"question": "Why,\nand how?", "llm": "b", "rating": 1.0, "usd": 0.002},
    {"question": "001", "llm": "a", "rating": 0.0, "usd": 0.003},
]
WIDE = {
    "text": "prompt",
    "task": "eval_name",
    "models": ["gpt-3.5-turbo-1106", "mixtral-8x7b"],
    "score": "{model}",
    "cost_usd": "{model}|total_cost",
}


def written(file: Path, rows) -> Path:
    """Write rows in the form that the file's name says."""
    if file.suffix == ".parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), file)
    elif file.suffix == ".csv":
        with file.open("w", newline="", encoding="utf-8") as lines:
            writer = csv.DictWriter(lines, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif file.suffix == ".jsonl":
        file.write_bytes(b"\n".join(map(orjson.dumps, rows)))
    else:
        file.write_bytes(orjson.dumps(rows))
    return file


def read(file: Path, columns, *prices, scale=None, metrics=()):
    parsed = parse_columns(columns, "map.toml, [columns]")
    return import_rows(find([file], parsed), no_models(*prices), metrics, scale or Scale())


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.jsonl", "t.json"])
def test_a_table_whose_columns_are_named_gives_its_rows(tmp_path, name):
    rows, report = read(written(tmp_path / name, ROWS), LONG)
    assert means(report) == {"a": (2, 0.25), "b": (1, 1.0)}
    assert [row.text for row in rows] == ["Why,\nand how?", "Why,\nand how?", "001"]
    assert [row.cost_usd for row in rows] == [0.001, 0.002, 0.003]
    assert {row.cost_from for row in rows} == {"file"}


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.jsonl"])
def test_a_wide_table_has_a_row_for_each_model(tmp_path, name):
    row = {
        "prompt": "Which?",
        "eval_name": "arc",
        "gpt-3.5-turbo-1106": 1.0,
        "mixtral-8x7b": 0.0,
        "gpt-3.5-turbo-1106|total_cost": 0.002,
        "mixtral-8x7b|total_cost": 0.001,
    }
    other = {**row, "prompt": "Who?", "mixtral-8x7b": None}
    rows, report = read(written(tmp_path / name, [row, other]), WIDE)
    assert means(report) == {"gpt-3.5-turbo-1106": (2, 1.0), "mixtral-8x7b": (1, 0.0)}
    assert {row.task for row in rows} == {"arc"}
    assert report.skipped == {"the judge failed": 1}


def test_columns_within_columns_are_named_with_a_dot(tmp_path):
    cell = {"score": 0.8, "num_input_tokens": 1000, "num_output_tokens": 100, "response": "words"}
    row = {"prompt": "Why?", "gpt-4.1": cell, "large": {**cell, "score": 1.0}}
    columns = {
        "text": "prompt",
        "models": ["gpt-4.1", "large"],
        "score": "{model}.score",
        "prompt_tokens": "{model}.num_input_tokens",
        "completion_tokens": "{model}.num_output_tokens",
    }
    prices = ("large=1,10", "gpt-4.1=1,10")
    for name in ("t.parquet", "t.jsonl"):
        rows, report = read(written(tmp_path / name, [row]), columns, *prices)
        assert means(report) == {"gpt-4.1": (1, 0.8), "large": (1, 1.0)}
        assert {row.cost_usd for row in rows} == {0.002}
    wrong = written(tmp_path / "t.jsonl", [{**row, "large": {**cell, "score": []}}])
    with pytest.raises(InvalidImport, match=r"`large\.score` must be a number, not a list"):
        read(wrong, columns, *prices)


def test_tables_of_one_model_each_are_called_after_it(tmp_path):
    for model, score in (("gpt-4o-mini", 0.5), ("claude-haiku-4-5", 1.0)):
        table = {
            "columns": ["inputs", "outputs", "similarity/v1/score"],
            "data": [["Why?", "words", score], ["Who?", "words", None]],
        }
        (tmp_path / f"{model}.json").write_bytes(orjson.dumps(table))
    columns = {
        "text": "inputs",
        "answer": "outputs",
        "model": "{file}",
        "score": "similarity/v1/score",
    }
    _, report = read(tmp_path, columns)
    assert means(report) == {"claude-haiku-4-5": (1, 1.0), "gpt-4o-mini": (1, 0.5)}
    assert report.skipped == {"the judge failed": 2}


def test_costs_come_from_tokens_or_from_the_answers_text(tmp_path):
    rows = [{"q": "Why?", "m": "a", "s": "true", "in": "1000", "out": "100", "a": "x " * 200}]
    file = written(tmp_path / "t.csv", rows)
    base = {"text": "q", "model": "m", "score": "s"}
    (row,), _ = read(file, {**base, "prompt_tokens": "in", "completion_tokens": "out"}, "a=1,10")
    assert (row.cost_usd, row.cost_from, row.score) == (0.002, "tokens", 1.0)
    (row,), _ = read(file, {**base, "answer": "a"}, "a=1,10")
    assert row.cost_from == "estimate"
    assert row.cost_usd > 0.0004
    with pytest.raises(InvalidImport, match="nothing says what the answer cost"):
        read(file, base, "a=1,10")


def test_failed_calls_and_empty_grades_are_skipped_and_counted(tmp_path):
    rows = [
        {"q": "Why?", "m": "a", "s": "8", "usd": "1", "e": ""},
        {"q": "Who?", "m": "a", "s": "1", "usd": "1", "e": "timeout"},
        {"q": "How?", "m": "a", "s": "", "usd": "1", "e": ""},
        {"q": "", "m": "a", "s": "1", "usd": "1", "e": ""},
        {"q": "Where?", "m": "", "s": "1", "usd": "1", "e": ""},
    ]
    columns = {"text": "q", "model": "m", "score": "s", "cost_usd": "usd", "error": "e"}
    found, report = read(written(tmp_path / "t.csv", rows), columns, scale=parse_scale("0:10"))
    assert [row.score for row in found] == [0.8]
    assert report.skipped == {
        "the call failed": 1,
        "the last user message has no text": 1,
        "names no model": 1,
        "the judge failed": 1,
    }


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("question,llm,rating\na,b,1\n", "has no column 'usd'; it has question, llm, rating"),
        ("question,llm,rating,usd\na,b,1\n", "row 1: has 3 cells, and the header 4"),
        ("question,llm,rating,usd\na,b,good,1\n", "`rating` must be a number, not a text"),
        ("question,llm,rating,usd\na,b,1,-1\n", "must be what one call cost"),
        ('question,llm,rating,usd\n"a,b,1,1\n', "is no whole CSV"),
        ("question,llm,rating,usd\na,b,1,0.0", "its last row has no line end"),
        ("question,llm,rating,rating\n", "two columns have the same name"),
        ("question,llm,rating,usd\na,b,7,1\n", "not within 0 to 1; say the range with --scale"),
    ],
)
def test_what_is_wrong_in_a_csv_is_said_with_its_place(tmp_path, content, complaint):
    file = tmp_path / "t.csv"
    file.write_text(content)
    with pytest.raises(InvalidImport, match=complaint):
        read(file, LONG)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("t.csv", b"question,llm,rating,usd\n\xe9,b,1,1\n", "is not UTF-8"),
        ("t.parquet", b"PAR1", "cannot be read as parquet"),
        ("t.json", b'{"a": 1}', "must be CSV, parquet, JSON Lines"),
        ("t.json", b'{"columns": ["a"], "data": [[1, 2]]}', "row 1: must have 1 cells"),
        ("t.jsonl", b'{"question": "a", ', "is no whole JSON"),
    ],
)
def test_a_file_that_is_no_table_is_named(tmp_path, name, content, complaint):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidImport, match=complaint):
        read(tmp_path / name, LONG)


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({**LONG, "modell": "x"}, "unknown `modell`"),
        ({"text": "q", "score": "s"}, "either `model`"),
        ({**LONG, "models": ["a"]}, "either `model`"),
        ({**WIDE, "score": "score"}, "must have {model} in it"),
        ({**LONG, "text": 3}, "`text` must name a column"),
        ({**LONG, "text": ["a"]}, "`text` must be a text"),
        ({**WIDE, "models": "a"}, "`models` must be a list"),
    ],
)
def test_columns_that_say_too_little_are_refused(table, complaint):
    with pytest.raises(InvalidImport, match=complaint):
        parse_columns(table, "map.toml")


def test_several_grades_are_a_question(tmp_path):
    file = written(tmp_path / "t.csv", [{"q": "Why?", "m": "a", "x": 1, "y": 0, "usd": 1}])
    columns = {"text": "q", "model": "m", "score": ["x", "y"], "cost_usd": "usd"}
    with pytest.raises(InvalidImport, match=r"table: x \| y"):
        read(file, columns)
    assert [row.score for row in read(file, columns, metrics=["y"])[0]] == [0.0]


def test_numbers_that_name_models_are_names_and_blank_lines_no_rows(tmp_path):
    rows = [{"q": "Why?", "m": 7, "s": 1, "usd": 1.0, "t": 3}]
    columns = {"text": "q", "model": "m", "score": "s", "cost_usd": "usd", "task": "t"}
    (row,), _ = read(written(tmp_path / "t.jsonl", rows), columns)
    assert (row.model, row.task) == ("7", "3")
    file = tmp_path / "t.csv"
    file.write_text("question,llm,rating,usd\n\na,b,1,1\n\n")
    assert read(file, LONG)[1].rows == 1


def test_a_column_that_is_missing_within_another_is_no_grade(tmp_path):
    file = written(tmp_path / "t.jsonl", [{"q": "Why?", "m": "a", "g": {}, "usd": 1.0}])
    columns = {"text": "q", "model": "m", "score": "g.x", "cost_usd": "usd"}
    assert read(file, columns)[1].skipped == {"the judge failed": 1}


def test_a_folder_without_tables_is_named(tmp_path):
    with pytest.raises(InvalidImport, match="no table is there"):
        find([tmp_path], Columns("q", ("s",), "m"))
