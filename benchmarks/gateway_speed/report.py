"""Turns measurements into results.json, the tables of README.md, and a picture."""

import importlib.util
import json
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import gateway_under_test
import gateways
import picture

BEGIN = "<!-- results: written by run.py -->"
END = "<!-- end of results -->"
JSON_32, STREAM_32, PACED_32 = (f"{mode}, 32 connections" for mode in ("json", "stream", "paced"))
SERIES_NAMES = {
    JSON_32: "JSON, 32 connections",
    "json, 1 connection": "JSON, 1 connection",
    "json, 200 requests/s": "JSON, 200 requests/s arriving at random",
    STREAM_32: "Stream of 20 chunks sent at once, 32 connections",
    "stream, 1 connection": "Stream of 20 chunks sent at once, 1 connection",
    "stream, 200 requests/s": "Stream of 20 chunks sent at once, 200 requests/s, first byte",
    PACED_32: "Stream of 20 chunks, one every 5 ms, 32 connections",
}
WIDTH = 120
Table = list[list[str]]


def write(results: dict[str, Any], out: Path) -> None:
    """Write results.json, the picture where matplotlib is installed, and the tables."""
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    if importlib.util.find_spec("matplotlib") is None:
        print("no picture: matplotlib is not installed (pip install '.[train]')", file=sys.stderr)
    else:
        picture.draw(cpu_figures(results), out / "gateway_speed.png")
    text = "\n".join(sections(results))
    readme = out / "README.md"
    if readme.exists():
        head, _, rest = readme.read_text().partition(BEGIN)
        readme.write_text(f"{head}{BEGIN}\n\n{text}\n{END}{rest.partition(END)[2]}")
    else:
        readme.write_text(f"{BEGIN}\n\n{text}\n{END}\n")
    print(text)
    print(f"written to {out}", file=sys.stderr)


def sections(results: dict[str, Any]) -> Iterator[str]:
    """The text of the results, in Markdown."""
    about = results["about"]
    yield textwrap.fill(
        f"Measured {about['measured_at']} on {about['machine']}, Python {about['python']}, Waypost "
        f"{about['waypost']}, one worker each; load average {about['load_average_before']:.1f} "
        f"before. Medians of {about['plan']['rounds']} interleaved round(s), "
        f"{about['plan']['duration_s']:g} s per figure.",
        WIDTH,
        break_on_hyphens=False,
    )
    yield "\n### Against the goals\n"
    yield from _lines(["", "measured", "goal", ""], goals(results))
    for series, title in SERIES_NAMES.items():
        if series in results["cells"]:
            yield f"\n### {title}\n"
            yield from _lines(_HEADS, series_rows(results, series))
    yield "\n### Memory under load, MB\n"
    yield from _lines(["", "gateway process", "its child processes"], memory_rows(results))
    yield "\n### Start of Waypost\n"
    heads = ["", "/health, s", "/ready, s", "CPU-s", "MB", "MB of children"]
    yield from _lines(heads, start_rows(results))
    yield "\n### Notes\n"
    for note in results["notes"]:
        yield textwrap.fill(f"- {note}", WIDTH, subsequent_indent="  ", break_on_hyphens=False)


_HEADS = ["", "CPU-ms", "times the floor", "requests/s", "p50, ms", "p99, ms", "added p50", "p99"]


def series_rows(results: dict[str, Any], series: str) -> Table:
    """One row per target: CPU, its ratio to the floor in the same round, speed and latency."""
    cells = results["cells"][series]
    rows = []
    for name, measured in cells.items():
        speed = [f"{middle(measured, 'requests_per_s'):,.0f}"]
        latency = [f"{middle(measured, key):.2f}" for key in ("p50_ms", "p99_ms")]
        if name == gateways.DIRECT:
            rows.append(["the upstream itself", "", "", *speed, *latency, "", ""])
            continue
        added = [f"{_added(cells, name, key):.2f}" for key in ("p50_ms", "p99_ms")]
        ratio = _ratio(cells, name)
        times = "" if ratio is None else f"{ratio:.1f}"
        cpu = f"{middle(measured, 'cpu_ms'):.3f}"
        rows.append([name, cpu, times, *speed, *latency, *added])
    return rows


def goals(results: dict[str, Any]) -> Table:
    """The goals of one worker with everything on, and what was measured."""
    cells = results["cells"]
    rate = "json, 200 requests/s"
    measured: list[tuple[str, float | None, float, str]] = [
        (
            "CPU per JSON request, query not seen before",
            _cpu(cells, JSON_32, gateway_under_test.UNCACHED),
            0.36,
            "ms",
        ),
        (
            "CPU per JSON request, query seen before",
            _cpu(cells, JSON_32, gateway_under_test.CACHED),
            0.26,
            "ms",
        ),
        (
            "CPU per stream of 20 chunks",
            _cpu(cells, STREAM_32, gateway_under_test.UNCACHED),
            0.5,
            "ms",
        ),
    ]
    if gateway_under_test.UNCACHED in cells.get(rate, {}):
        added = _added(cells[rate], gateway_under_test.UNCACHED, "p99_ms")
        measured.append(("p99 added latency at 200 requests/s", added, 2.5, "ms"))
    for kind, start in results["starts"].items():
        if "static" in kind:
            measured.append((f"ready, {kind}", start["ready_s"], 0.6, "s"))
    resident = results["memory_mb"].get(gateway_under_test.UNCACHED)
    measured.append(("resident memory under load", resident and resident[0], 100.0, "MB"))
    return [
        [name, f"{value:.2f} {unit}", f"{goal:g} {unit}", "met" if value <= goal else "**missed**"]
        for name, value, goal, unit in measured
        if value is not None
    ]


def memory_rows(results: dict[str, Any]) -> Table:
    """Resident memory of each gateway after the last round."""
    return [
        [name, f"{own:.0f}", f"{children:.0f}" if children else ""]
        for name, (own, children) in results["memory_mb"].items()
    ]


def start_rows(results: dict[str, Any]) -> Table:
    """How long each kind of start takes."""
    return [
        [
            kind,
            *(f"{start[key]:.2f}" for key in ("health_s", "ready_s", "cpu_s")),
            f"{start['resident_mb']:.0f}",
            f"{start['child_mb']:.0f}" if start["child_mb"] else "",
        ]
        for kind, start in results["starts"].items()
    ]


def cpu_figures(results: dict[str, Any]) -> dict[str, dict[str, float]]:
    """CPU-ms per request by title of the series and name of the target, for the picture."""
    return {
        SERIES_NAMES[series]: {
            name: middle(measured, "cpu_ms")
            for name, measured in results["cells"].get(series, {}).items()
            if name != gateways.DIRECT
        }
        for series in (JSON_32, STREAM_32, PACED_32)
    }


def middle(measured: Sequence[dict[str, Any]], key: str) -> float:
    """Median over the rounds."""
    return median(float(cell[key]) for cell in measured)


def _cpu(cells: dict[str, Any], series: str, name: str) -> float | None:
    measured = cells.get(series, {}).get(name)
    return middle(measured, "cpu_ms") if measured else None


def _added(cells: dict[str, Any], name: str, key: str) -> float:
    return middle(cells[name], key) - middle(cells[gateways.DIRECT], key)


def _ratio(cells: dict[str, Any], name: str) -> float | None:
    floor = cells.get(gateways.FLOOR)
    if not floor or len(floor) != len(cells[name]):
        return None
    pairs = zip(cells[name], floor, strict=True)
    return median(float(cell["cpu_ms"] / base["cpu_ms"]) for cell, base in pairs)


def _lines(heads: Sequence[str], rows: Table) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "|---|" + "---:|" * (len(heads) - 1)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
