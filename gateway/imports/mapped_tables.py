"""Reads tables of any tool whose columns the user names: CSV, parquet, JSON Lines or JSON.

Long tables have a row per query and model. Wide ones, such as RouterBench's, have a row per query,
and columns for each model, whose names have the model's in them.
"""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet

from gateway.expected_tokens import expected_tokens
from gateway.imports.contents import MAX_LINE_BYTES, Document, Records, open_content
from gateway.imports.records import (
    Answer,
    InvalidImport,
    Model,
    Record,
    Skipped,
    question_of,
    shown,
)

NAME: Final = "table"
SUFFIXES: Final = (".csv", ".parquet", ".jsonl", ".ndjson", ".json")
MODEL: Final = "{model}"
FILE: Final = "{file}"
_AT_ONCE: Final = 1000
_FORMS: Final = "must be CSV, parquet, JSON Lines, a JSON list, or JSON with `columns` and `data`"
_WORDS: Final = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Columns:
    """What the columns of a table are called; those of a wide table hold `MODEL`.

    Attributes:
        text: The question, or messages.
        score: Grades; where there are several, one is to be chosen.
        model: Of a long table; `FILE` where each file is one model's, and called after it.
        models: Of a wide table: the models, by what stands in the columns' names.
        error: Not empty where the call failed.
        answer: Only its length is looked at, where there is neither a cost nor a count of tokens.
    """

    text: str
    score: tuple[str, ...]
    model: str | None = None
    models: tuple[str, ...] = ()
    task: str | None = None
    cost_usd: str | None = None
    prompt_tokens: str | None = None
    completion_tokens: str | None = None
    answer: str | None = None
    error: str | None = None

    def of(self, name: str | None, model: str) -> str | None:
        """Name a column of a model."""
        return None if name is None else name.replace(MODEL, model)


def parse_columns(table: Mapping[str, Any], place: str) -> Columns:
    """Read the table ``[columns]`` of a map.

    Raises:
        InvalidImport: A key is unknown, missing, or of the wrong type.
    """
    known = [one.name for one in fields(Columns)]
    unknown = [key for key in table if key not in known]
    if unknown:
        raise InvalidImport(f"{place}: unknown `{unknown[0]}`; there are {', '.join(known)}")
    values: dict[str, Any] = {}
    for key, value in table.items():
        listed = [value] if key == "score" and isinstance(value, str) else value
        names = listed if isinstance(listed, list) else [listed]
        if not names or not all(isinstance(one, str) and one for one in names):
            raise InvalidImport(f"{place}: `{key}` must name a column")
        if (key in {"score", "models"}) != isinstance(listed, list):
            raise InvalidImport(
                f"{place}: `{key}` must be a {'list' if key == 'models' else 'text'}"
            )
        values[key] = tuple(listed) if isinstance(listed, list) else listed
    if "text" not in values or "score" not in values or ("model" in values) == ("models" in values):
        raise InvalidImport(
            f"{place}: must have `text`, `score`, and either `model` (a column) or `models` (a "
            f"list, where columns are named by {MODEL})"
        )
    if "models" in values and not all(MODEL in name for name in values["score"]):
        raise InvalidImport(f"{place}: with `models`, `score` must have {MODEL} in it")
    return Columns(**values)


def read(files: Sequence[Path], columns: Columns) -> Iterator[Answer | Skipped]:
    """Yield the answers of tables.

    Raises:
        InvalidImport: A file cannot be read, lacks a column, or has a wrong cell.
    """
    for file in files:
        for at, row in enumerate(_rows(file)):
            if at == 0:
                _require(row, columns, file)
            long = file.stem if columns.model == FILE else _cell(row, columns.model)
            for model in columns.models or (long,):
                yield _answer(row, columns, model)


def _require(first: Record, columns: Columns, file: Path) -> None:
    optional = {"models", "model"} if columns.models or columns.model == FILE else {"models"}
    for key in (one.name for one in fields(Columns) if one.name not in optional):
        named = getattr(columns, key)
        for pattern in named if isinstance(named, tuple) else (named,):
            for model in columns.models or ("",):
                name = columns.of(pattern, model)
                if name and not _has(first.fields, name):
                    there = ", ".join(map(str, first.fields))
                    raise InvalidImport(f"{file}: has no column {name!r}; it has {there}")


def _answer(row: Record, columns: Columns, model: str | None) -> Answer | Skipped:
    if not model:
        return Skipped(row.place, "names no model")

    def named(name: str | None) -> str | None:
        return columns.of(name, model)

    if _cell(row, named(columns.error)):
        return Skipped(row.place, "the call failed")
    prompt = _value(row.fields, columns.text)
    prompt = prompt if isinstance(prompt, list) else _cell(row, columns.text) or ""
    question = question_of(prompt, f"{row.place}, `{columns.text}`")
    counts = (
        _count(row, named(columns.prompt_tokens)),
        _count(row, named(columns.completion_tokens)),
    )
    answer = _cell(row, named(columns.answer))
    cost = named(columns.cost_usd)
    if cost is None and None in counts and answer is None:
        raise InvalidImport(
            f"{row.place}: nothing says what the answer cost; name a column for `cost_usd`, for "
            "`prompt_tokens` and `completion_tokens`, or for `answer`"
        )
    return Answer(
        place=row.place if columns.model else f"{row.place}, {model}",
        item=row.place.rpartition(", ")[2],
        task=_cell(row, columns.task) or NAME,
        query=question.text,
        model=Model(model, model),
        grades={name: _number(row, columns.of(name, model)) for name in columns.score},
        expected=(question.expected_tokens, expected_tokens(answer or "")),
        prompt_tokens=counts[0],
        completion_tokens=counts[1],
        cost_usd=None
        if cost is None
        else Record({"cost": _number(row, cost)}, row.place).cost_usd("cost"),
    )


def _has(fields: Mapping[str, Any], name: str) -> bool:
    """Whether there is such a column, or one that it may be in."""
    parts = name.split(".")
    return any(".".join(parts[:n]) in fields for n in range(1, len(parts) + 1))


def _value(fields: Mapping[str, Any], name: str) -> Any:
    """Look a column up; one within another, as of a struct, is named with a dot between them."""
    if name in fields:
        return fields[name]
    for at in (at for at, letter in enumerate(name) if letter == "."):
        within = fields.get(name[:at])
        if isinstance(within, dict):
            return _value(within, name[at + 1 :])
    return None


def _cell(row: Record, name: str | None) -> str | None:
    """Read a cell of text; numbers that stand for a name are one."""
    if name is None:
        return None
    value = _value(row.fields, name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return Record({name: value}, row.place).find(name, "a text") or None


def _number(row: Record, name: str | None) -> float | bool | None:
    """Read a cell that holds a number or a verdict; None where it is empty.

    Raises:
        InvalidImport: It holds something else.
    """
    if name is None:
        return None
    value = _value(row.fields, name)
    if isinstance(value, str):
        text = value.strip().lower()
        if text in _WORDS:
            return _WORDS[text]
        try:
            value = float(text) if text else None
        except ValueError:
            raise row.wrong(name, "must be a number, not a text") from None
    if isinstance(value, float) and math.isnan(value):
        return None
    if value is None or isinstance(value, bool | int | float):
        return value
    raise row.wrong(name, f"must be a number, not {shown(value)}")


def _count(row: Record, name: str | None) -> int | None:
    number = _number(row, name)
    if number is None or number == 0:
        return None
    whole = int(number) if math.isfinite(number) and number == int(number) else number
    count: int = Record({str(name): whole}, row.place).need(str(name), "a count")
    return count


def _rows(file: Path) -> Iterator[Record]:
    if file.suffix == ".parquet":
        return _parquet(file)
    if file.suffix == ".csv":
        return _csv(file)
    content = open_content(file)
    if isinstance(content, Document):
        return _split(content.record())
    if not isinstance(content, Records):
        raise InvalidImport(f"{file}: {_FORMS}")
    return iter(content)


def _split(table: Record) -> Iterator[Record]:
    """Read the form in which pandas, and so MLflow, writes a table (``orient="split"``)."""
    if not {"columns", "data"} <= table.fields.keys():
        raise InvalidImport(f"{table.place}: {_FORMS}")
    names = table.need("columns", "a list")
    for number, cells in enumerate(table.need("data", "a list"), 1):
        place = f"{table.place}, row {number}"
        if not isinstance(cells, list) or len(cells) != len(names):
            raise InvalidImport(
                f"{place}: must have {len(names)} cells, one for each of `columns`; export it anew"
            )
        yield Record(dict(zip(map(str, names), cells, strict=True)), place)


def _csv(file: Path) -> Iterator[Record]:
    csv.field_size_limit(MAX_LINE_BYTES)
    try:
        _refuse_open_end(file)
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines, strict=True)
            header = next(reader, [])
            if len(set(header)) < len(header):
                raise InvalidImport(f"{file}: two columns have the same name")
            for number, cells in enumerate(reader, 1):
                if cells and len(cells) != len(header):
                    raise InvalidImport(
                        f"{file}, row {number}: has {len(cells)} cells, and the header "
                        f"{len(header)}; the file is cut or not quoted: export it anew"
                    )
                if cells:
                    yield Record(dict(zip(header, cells, strict=True)), f"{file}, row {number}")
    except UnicodeDecodeError as error:
        raise InvalidImport(f"{file}: is not UTF-8 ({error.reason}); save it as UTF-8") from error
    except (OSError, csv.Error) as error:
        raise InvalidImport(f"{file}: is no whole CSV ({error}); export it anew") from error


def _refuse_open_end(file: Path) -> None:
    """Complain where the last row has no line end: a number that was cut is a number too."""
    with file.open("rb") as content:
        content.seek(max(0, file.stat().st_size - 1))
        if content.read() not in (b"\n", b"\r"):
            raise InvalidImport(
                f"{file}: its last row has no line end, so it may be cut; add one if it is whole"
            )


def _parquet(file: Path) -> Iterator[Record]:
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            for batch in table.iter_batches(_AT_ONCE):
                for row in batch.to_pylist():
                    number += 1
                    yield Record(row, f"{file}, row {number}")
    except (pa.ArrowException, OSError) as error:
        raise InvalidImport(
            f"{file}: cannot be read as parquet ({error}); export it anew"
        ) from error
