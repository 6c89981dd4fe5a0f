"""Turns other tools' answers into the table that `waypost train` reads, and says what became what.

Needs pyarrow, so nothing that serves imports this.
"""

import hashlib
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from gateway.imports.choices import Scale, choose, refuse_mixtures, score_of
from gateway.imports.models import CostFrom, Models
from gateway.imports.records import Answer, InvalidImport, Skipped
from gateway.imports.tools import Found

ID_CHARS: Final = 24


@dataclass(frozen=True, slots=True)
class ImportedRow:
    """One evaluation, in the form that ``waypost train`` reads; the fields are the columns.

    Attributes:
        query_id: Hash of the text: one question is one query, whoever asked it.
        cost_from: ``file``, ``tokens`` (times a price) or ``estimate`` (texts times a price).
        tool: What wrote the file.
        metric: Whose value `score` is.
        source: File and place in it, below the folder that was named.
        item: What the tool calls the question, or the call.
    """

    query_id: str
    text: str
    task: str
    model: str
    score: float
    cost_usd: float
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_from: CostFrom
    tool: str
    metric: str
    source: str
    item: str


SCHEMA: Final = pa.schema(
    [
        (
            column.name,
            {"score": pa.float64(), "cost_usd": pa.float64()}.get(
                column.name, pa.int64() if column.name.endswith("_tokens") else pa.string()
            ),
        )
        for column in fields(ImportedRow)
    ]
)


@dataclass(frozen=True, slots=True)
class ModelReport:
    """What a table has of one model."""

    model: str
    spelled: tuple[str, ...]
    is_in_pool: bool
    rows: int
    mean_score: float
    cost_usd: float
    cost_from: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What was found, what it became, and what was left out.

    Attributes:
        metrics: Of each task.
        skipped: How often, by reason.
        examples: Where each reason was met first.
        ignored: Files of the folders that no tool wrote.
    """

    files: Mapping[str, int]
    metrics: Mapping[str, str]
    rows: int
    queries: int
    models: tuple[ModelReport, ...]
    skipped: Mapping[str, int]
    examples: Mapping[str, str]
    ignored: tuple[str, ...]


def import_rows(
    found: Found,
    models: Models,
    wanted: Sequence[str] = (),
    scale: Scale | None = None,
    *,
    skip_unpriced: bool = False,
) -> tuple[list[ImportedRow], ImportReport]:
    """Read the files and grade their answers.

    Raises:
        InvalidImport: A file is wrong, the metric is not clear, a grade is outside the scale, a
            model has no price, or nothing is left.
    """
    answers: list[tuple[str, Answer]] = []
    skipped: list[Skipped] = []
    for tool, read in found.answers.items():
        for one in read:
            if isinstance(one, Skipped):
                skipped.append(one)
            elif not one.query.strip():
                skipped.append(Skipped(one.place, "the last user message has no text"))
            else:
                answers.append((tool, one))
    models.learn(answer for _, answer in answers)
    metrics = choose((answer for _, answer in answers), wanted)
    refuse_mixtures((answer for _, answer in answers), metrics)
    rows: list[ImportedRow] = []
    spelled: dict[str, set[str]] = defaultdict(set)
    unpriced: Counter[str] = Counter()
    for tool_name, answer in answers:
        metric = metrics[answer.task]
        row = _row(tool_name, answer, metric, models, scale or Scale())
        if isinstance(row, Skipped):
            skipped.append(row)
            unpriced[answer.model.spelled] += row.reason == _UNPRICED
            continue
        rows.append(replace(row, source=found.below(row.source)))
        spelled[row.model].add(answer.model.spelled)
    without = sorted(name for name, n in unpriced.items() if n)
    if without and not skip_unpriced:
        raise InvalidImport(
            f"no price is known of {', '.join(without)}: give it with --price {without[0]}=IN,OUT "
            "(USD per million tokens), or leave such models out with --skip-unpriced"
        )
    return rows, _report(found, metrics, rows, spelled, models, skipped)


_UNPRICED: Final = "the model has no price"


def _row(
    tool: str, answer: Answer, metric: str, models: Models, scale: Scale
) -> ImportedRow | Skipped:
    if metric not in answer.grades:
        return Skipped(answer.place, f"has no grade {metric!r}")
    score = score_of(answer, metric, scale)
    if score is None:
        return Skipped(answer.place, "the judge failed")
    cost = models.cost_of(answer)
    if cost is None:
        return Skipped(answer.place, _UNPRICED)
    return ImportedRow(
        query_id=hashlib.sha256(answer.query.encode()).hexdigest()[:ID_CHARS],
        text=answer.query,
        task=answer.task,
        model=models.name_of(answer.model),
        score=score,
        cost_usd=cost.usd,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        cost_from=cost.known_from,
        tool=tool,
        metric=metric,
        source=answer.place,
        item=answer.item,
    )


def _report(
    found: Found,
    metrics: Mapping[str, str],
    rows: Sequence[ImportedRow],
    spelled: Mapping[str, set[str]],
    models: Models,
    skipped: Iterable[Skipped],
) -> ImportReport:
    by_model: dict[str, list[ImportedRow]] = defaultdict(list)
    for row in rows:
        by_model[row.model].append(row)
    reasons: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for one in skipped:
        reasons[one.reason] += 1
        examples.setdefault(one.reason, one.place)
    return ImportReport(
        files=found.files,
        metrics=dict(sorted(metrics.items())),
        rows=len(rows),
        queries=len({row.query_id for row in rows}),
        models=tuple(
            ModelReport(
                model=name,
                spelled=tuple(sorted(spelled[name])),
                is_in_pool=name in models.pool,
                rows=len(own),
                mean_score=statistics.fmean(row.score for row in own),
                cost_usd=sum(row.cost_usd for row in own),
                cost_from=dict(Counter(row.cost_from for row in own)),
            )
            for name, own in sorted(by_model.items())
        ),
        skipped=dict(reasons),
        examples=examples,
        ignored=tuple(map(str, found.others)),
    )


def lines_of(report: ImportReport) -> Iterator[str]:
    """Render a report for people."""
    for tool, files in report.files.items():
        yield f"{tool}: {files} {'file' if files == 1 else 'files'}"
    for task, metric in report.metrics.items():
        yield f"task {task}: {metric}"
    if report.models:
        width = max(len(one.model) for one in report.models)
        yield f"{'model':<{width}}    rows   mean         USD  costs from"
    for one in report.models:
        known = ", ".join(f"{source} {n}" for source, n in sorted(one.cost_from.items()))
        yield (
            f"{one.model:<{width}}  {one.rows:>6}  {one.mean_score:.3f}  {one.cost_usd:>10.6f}"
            f"  {known}"
        )
    outside = [one.model for one in report.models if not one.is_in_pool]
    if outside:
        yield (
            f"not in the pool of these settings: {', '.join(outside)}; a router can choose only "
            "models that the pool calls the same (--map)"
        )
    for reason, n in report.skipped.items():
        yield f"skipped: {n} times: {reason} (first: {report.examples[reason]})"
    for path in report.ignored:
        yield f"not read, in no known form: {path}"


def as_json(report: ImportReport) -> Mapping[str, Any]:
    """Render a report for programs."""
    return {"object": "waypost.import", **asdict(report)}


def write_rows(rows: Sequence[ImportedRow], file: Path, *, is_csv: bool) -> None:
    """Write the table."""
    columns = [[getattr(row, name) for row in rows] for name in SCHEMA.names]
    arrays = [pa.array(column, SCHEMA.field(n).type) for n, column in enumerate(columns)]
    table = pa.Table.from_arrays(arrays, schema=SCHEMA)
    if is_csv:
        pyarrow.csv.write_csv(table, file)
    else:
        pyarrow.parquet.write_table(table, file, compression="zstd")
