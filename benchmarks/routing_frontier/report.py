"""From what routers expected to differences with intervals, tables and pictures."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure

from benchmarks.routing_frontier import cells, contenders
from benchmarks.routing_frontier.cells import PROTOCOLS, Cell, Protocol
from benchmarks.routing_frontier.contenders import CONTENDERS, DEFAULT
from benchmarks.routing_frontier.protocol import Rows
from gateway.problems.datasets import Dataset
from gateway.problems.frontier_pictures import draw_frontiers
from router_models.evaluation.comparison import Drawn, with_all_queries
from router_models.evaluation.frontier import Float64, Judge, bootstrap_weights, route
from router_models.evaluation.predictions import judge_predictions
from router_models.evaluation.report import Contender
from router_models.statistics import join, model_means

DRAWS: Final = 200
GRID: Final = "grid"
GRID_PROTOCOLS: Final = tuple(p for p in PROTOCOLS if p.tasks == "known" and p.rows == "all")
SINGLE: Final = "best single model"
MOST_ERROR: Final = {"all": 0.03, "one": 0.05}
MOST_GIVEN_UP: Final = 0.02


def file_of(work: Path, name: str, cell: Cell, router: str) -> Path:
    """Where what a router expects in a cell is kept."""
    protocol = cell.protocol
    folder = f"{protocol.tasks}-{protocol.rows}-{protocol.answers}-{cell.part}"
    plain = "".join(letter for letter in router.lower() if letter.isalnum())
    return work / name / folder / f"{plain}.npz"


def measure(name: str, dataset: Dataset, work: Path, out: Path) -> dict[str, Any]:
    """Measure every protocol of which at least one part is there."""
    found = {}
    for protocol in PROTOCOLS:
        parts = list(_parts(name, dataset, protocol, work))
        if not parts:
            continue
        if protocol == PROTOCOLS[0]:
            _draw(out / f"{name}.png", name, parts[0][1], parts[0][2])
        found[protocol.name] = {
            "parts": len(parts),
            **_pooled([_draws(cell, rows, expected) for cell, rows, expected in parts]),
            "calibration_error": _calibration(parts),
            "grid": _grid(name, protocol, work),
        }
    return found


def _parts(
    name: str, dataset: Dataset, protocol: Protocol, work: Path
) -> Iterator[tuple[Cell, Rows, dict[str, Contender]]]:
    for part in range(cells.PARTS):
        cell = Cell(protocol, part)
        files = {router: file_of(work, name, cell, router) for router in CONTENDERS}
        if all(file.is_file() for file in files.values()):
            expected = {router: contenders.load(file) for router, file in files.items()}
            yield cell, cells.split(name, dataset, cell), expected


def _draws(cell: Cell, rows: Rows, expected: Mapping[str, Contender]) -> dict[str, Float64]:
    """Figures on all queries, then on draws of them; shape ``(1 + DRAWS,)`` each.

    Parts measured on the same queries get the same draws of them.
    """
    judge = Judge.of(rows.test)
    seed = 0 if cell.protocol.tasks == "harder" else cell.part
    weights = with_all_queries(
        bootstrap_weights(len(rows.test.quality), DRAWS, np.random.default_rng(seed))
    )
    drawn = {
        router: Drawn.of(judge, route(each.scores, rows.test, each.lambdas), weights)
        for router, each in expected.items()
    }
    # The model that the rows to learn from call the best: choosing it on the test rows is not fair.
    learned = join(rows.train, rows.val)
    best = int(model_means(learned)[0].argmax())
    single = Drawn.of(judge, judge.single(best), weights)
    ours = drawn[DEFAULT]
    figures = {f"naiq of {router}": each.naiq for router, each in drawn.items()}
    for router, each in drawn.items():
        at_cost = each.quality_at(single.cost.max(axis=0)) - single.best()
        figures[f"quality of {router} over {SINGLE}"] = at_cost
        if router != DEFAULT:
            figures[f"area over {router}"] = ours.area - each.area
            figures[f"naiq over {router}"] = ours.naiq - each.naiq
    return figures


def _pooled(parts: list[dict[str, Float64]]) -> dict[str, list[float]]:
    """Mean over the parts, with its 95 % interval over the draws."""
    pooled = {}
    for label in parts[0]:
        means = np.mean([part[label] for part in parts], axis=0)
        pooled[label] = [float(means[0]), *np.quantile(means[1:], [0.025, 0.975]).tolist()]
    return pooled


def _calibration(parts: list[tuple[Cell, Rows, dict[str, Contender]]]) -> float:
    """Calibration error of the default router over all parts, weighted by answers."""
    found = []
    for _, rows, expected in parts:
        predictions = {DEFAULT: expected[DEFAULT].prediction}
        weights = with_all_queries(np.empty((0, len(rows.test.quality))))
        judged = judge_predictions(predictions, rows.test, model_means(rows.test)[0], weights)
        accuracy = judged[DEFAULT].overall
        found.append((accuracy.calibration_error, accuracy.answers))
    errors, answers = np.array(found).T
    return float(np.average(errors, weights=answers))


def _grid(name: str, protocol: Protocol, work: Path) -> dict[str, float] | None:
    """Mean nAIQ of the setting that was chosen, and of the best one of the grid."""
    files = [
        file_of(work, name, Cell(protocol, part), GRID).with_suffix(".json")
        for part in range(cells.PARTS)
    ]
    read = [json.loads(file.read_text()) for file in files if file.is_file()]
    if not read:
        return None
    return {key: float(np.mean([one[key] for one in read])) for key in read[0]}


def _draw(file: Path, name: str, rows: Rows, expected: Mapping[str, Contender]) -> None:
    """One picture: frontiers of the first part, learned from all rows and answers."""
    judge = Judge.of(rows.test)
    points = {
        router: route(each.scores, rows.test, each.lambdas).points()
        for router, each in expected.items()
    }
    figure = Figure(figsize=(8.4, 5.2), layout="constrained")
    draw_frontiers(
        figure.subplots(), name, judge.single_models.points(), judge.oracle.points(), points
    )
    figure.savefig(file, dpi=110)


def render(results: Mapping[str, Any]) -> str:
    """The README, from results.json alone."""
    template = Path(__file__).with_name("template.md").read_text()
    tables = [_protocol(protocol, results) for protocol in PROTOCOLS]
    return template.replace("<!-- verdict -->", "\n".join(_verdict(results))).replace(
        "<!-- tables -->", "\n\n".join(table for table in tables if table)
    )


def _verdict(results: Mapping[str, Any]) -> Iterator[str]:
    """Count the promises that hold, and name every place where one does not."""
    shown = [
        (f"{name}, {protocol.name}", protocol, results[name][protocol.name])
        for name in results
        for protocol in PROTOCOLS
        if protocol.name in results[name]
    ]
    whole = len(PROTOCOLS) * cells.PARTS
    measured = ", ".join(
        f"{name} {sum(found['parts'] for found in protocols.values())} of {whole}"
        for name, protocols in results.items()
        if protocols
    )
    yield f"Parts measured so far: {measured}.\n"
    above = ", ".join(
        f"{rival} on {sum(found[f'area over {rival}'][1] > 0 for _, _, found in shown)}"
        for rival in CONTENDERS
        if rival != DEFAULT
    )
    yield f"Of {len(shown)} protocols on a set Waypost is significantly above {above}.\n"
    yield "| promise | holds | not on |"
    yield "|---|---:|---|"
    for promise, judge in PROMISES.items():
        judged = [(label, judge(protocol, found)) for label, protocol, found in shown]
        asked = [(label, excess) for label, excess in judged if excess is not None]
        broken = [f"{label} ({excess})" for label, excess in asked if excess]
        holds = f"{len(asked) - len(broken)} of {len(asked)}"
        yield f"| {promise} | {holds} | {'; '.join(broken) or '-'} |"


def _below(rival: str) -> Callable[[Protocol, Any], str | None]:
    def judge(_: Protocol, found: Any) -> str:
        value, _, high = found[f"area over {rival}"]
        return f"{value:+.3f}" if high < 0 else ""

    return judge


def _above_single(_: Protocol, found: Any) -> str | None:
    over = {router: found[f"quality of {router} over {SINGLE}"] for router in CONTENDERS}
    if not any(low > 0 for router, (_, low, _) in over.items() if router != DEFAULT):
        return None
    value, low, _ = over[DEFAULT]
    return "" if low > 0 else f"{value:+.3f}"


def _calibrated(protocol: Protocol, found: Any) -> str:
    error = found["calibration_error"]
    return f"{error:.3f}" if error > MOST_ERROR[protocol.answers] else ""


def _little_given_up(protocol: Protocol, found: Any) -> str | None:
    if found["grid"] is None or protocol.answers == "all":
        return None
    given_up = found["grid"]["best"] - found["grid"]["chosen"]
    return f"{given_up:.3f}" if given_up > MOST_GIVEN_UP else ""


PROMISES: Final[dict[str, Callable[[Protocol, Any], str | None]]] = {
    **{f"not below {rival}": _below(rival) for rival in CONTENDERS if rival != DEFAULT},
    f"above the {SINGLE}, where a simple router is": _above_single,
    "ECE at most .03 with all answers, .05 with one": _calibrated,
    "nAIQ given up at most .02 with one answer": _little_given_up,
}
"""What is said of a protocol on a set: nothing where the promise holds, the figure where it does
not, None where it does not apply."""


def _protocol(protocol: Protocol, results: Mapping[str, Any]) -> str:
    rivals = [router for router in CONTENDERS if router != DEFAULT]
    names = [name for name in results if protocol.name in results[name]]
    if not names:
        return ""
    lines = [
        f"### {protocol.name[0].upper()}{protocol.name[1:]}",
        "",
        "| set | parts | nAIQ | quality over the best single model |"
        + "".join(f" over {rival} |" for rival in rivals)
        + " ECE | nAIQ given up |",
        "|---|---:|---:|---|" + "---|" * len(rivals) + "---:|---:|",
    ]
    for name in names:
        found = results[name][protocol.name]
        grid = found["grid"]
        cells_of_row = [
            name,
            str(found["parts"]),
            f"{found[f'naiq of {DEFAULT}'][0]:.3f}",
            _interval(found[f"quality of {DEFAULT} over {SINGLE}"]),
            *(_interval(found[f"area over {rival}"]) for rival in rivals),
            f"{found['calibration_error']:.3f}",
            "-" if grid is None else f"{grid['best'] - grid['chosen']:.3f}",
        ]
        lines.append("| " + " | ".join(cells_of_row) + " |")
    return "\n".join(lines)


def _interval(figure: list[float]) -> str:
    value, low, high = figure
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"
