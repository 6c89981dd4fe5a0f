"""Draw the dashboards from a gateway under traffic and a Prometheus that scrapes it.

`python -m benchmarks.dashboards.run` takes six minutes and writes docs/how-to/dashboards/*.png.
"""

import asyncio
import tempfile
import time
from io import BytesIO
from pathlib import Path

import click
from matplotlib.figure import Figure
from PIL import Image

from benchmarks.dashboards.answers import Look, ask
from benchmarks.dashboards.draw import draw
from benchmarks.dashboards.sheet import DPI
from tests.fakes.dashboards import read_dashboards
from tests.fakes.observed import Observed, observed

OUT = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "dashboards"
OUTAGE = (0.45, 0.6)
"""Shares of the time between which one of the two providers is down."""


@click.command()
@click.option("--seconds", default=300.0, help="Of traffic.")
@click.option("--out", type=click.Path(path_type=Path), default=OUT)
def main(seconds: float, out: Path) -> None:
    """Run the traffic and draw every dashboard."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_run(Path(folder), seconds, out))


async def _run(folder: Path, seconds: float, out: Path) -> None:
    async with observed(folder) as watched:
        start = time.time()
        await _drive(watched, seconds)
        look = Look(start + 10, time.time(), max(1.0, seconds / 150), "20s")
        for name, dashboard in read_dashboards().items():
            panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
            answers = {p["title"]: await ask(watched.prometheus, name, p, look) for p in panels}
            _save(draw(dashboard, answers, look), out / f"{name}.png")
            click.echo(f"wrote {out / name}.png")


def _save(figure: Figure, file: Path) -> None:
    """Write a PNG of 128 colours, which needs a third of the bytes."""
    drawn = BytesIO()
    figure.savefig(drawn, dpi=DPI, format="png")
    Image.open(drawn).convert("RGB").quantize(128).save(file, optimize=True)


async def _drive(watched: Observed, seconds: float) -> None:
    down, up = OUTAGE
    await watched.traffic.flow(seconds * down, pause_s=0.05)
    watched.upstream.is_failing = True
    await watched.traffic.flow(seconds * (up - down), pause_s=0.05)
    watched.upstream.is_failing = False
    await watched.traffic.flow(seconds * (1 - up), pause_s=0.05)
    sent, answered = watched.traffic.sent, watched.traffic.statuses.count(200)
    click.echo(f"{sent} requests, {answered} answered")


if __name__ == "__main__":
    main()
