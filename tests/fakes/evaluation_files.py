"""Samples of other tools' files (tests/data/evaluation_files), and those files in other forms."""

import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from gateway.imports.archives import names_of, read_member
from gateway.imports.choices import Scale
from gateway.imports.models import Models, parse_price
from gateway.imports.table import ImportedRow, ImportReport, import_rows
from gateway.imports.tools import find

SAMPLES = Path(__file__).resolve().parents[1] / "data" / "evaluation_files"
LM_EVAL, INSPECT, PROMPTFOO, LANGFUSE = (
    SAMPLES / name for name in ("lm_eval", "inspect", "promptfoo", "langfuse")
)
GPT, CLAUDE = sorted(INSPECT.glob("*.eval"))
NOW = datetime(2026, 11, 29, tzinfo=UTC)
PRICES = ("Qwen/Qwen3-4B=0.10,0.40", "internal-gardener-v2=1,2")


def no_models(*prices: str, pool=None, mapped=None) -> Models:
    return Models(pool or {}, mapped or {}, dict(map(parse_price, prices)), NOW)


def imported(
    *paths: Path, metrics=(), prices=PRICES, scale=None, models=None, skip_unpriced=False
) -> tuple[list[ImportedRow], ImportReport]:
    """Import as the command does, at the list prices of one day."""
    known = models or no_models(*prices)
    return import_rows(find(paths), known, metrics, scale or Scale(), skip_unpriced=skip_unpriced)


def means(report: ImportReport) -> dict[str, tuple[int, float]]:
    """Rows and mean of each model."""
    return {one.model: (one.rows, round(one.mean_score, 4)) for one in report.models}


def costs(report: ImportReport) -> dict[str, float]:
    return {one.model: round(one.cost_usd, 10) for one in report.models}


def members(log: Path) -> dict[str, Any]:
    """Decode an Inspect archive."""
    return {name: orjson.loads(read_member(log, name)) for name in names_of(log)}


def as_document(log: Path) -> dict[str, Any]:
    """The same log as the one JSON document that older versions wrote."""
    parts = members(log)
    samples = [part for name, part in parts.items() if name.startswith("samples/")]
    return {**parts["header.json"], "samples": samples}


def write_archive(file: Path, parts: dict[str, Any]) -> Path:
    """Write an Inspect archive as versions before zstd did."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in parts.items():
            archive.writestr(name, orjson.dumps(part))
    return file
