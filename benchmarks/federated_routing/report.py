"""Tables of the benchmark: README.md from template.md and results.json, and the pictures."""

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks.federated_routing.arms import ARMS, CENTRALISED, FEDERATED, KINDS, LOCAL
from benchmarks.federated_routing.compare import MIXTURE
from benchmarks.federated_routing.pictures import ALPHAS, draw_all, per_round
from benchmarks.federated_routing.summary import CLOSE

HEADINGS: Final = {
    "own_range_auc": "AUC, own range",
    "common_auc": "AUC, common range",
    "saved": "saved at 100 %",
}
RECOVERED: Final = 0.005
"""What the goal allows new models to fall short of training anew."""

KILOBYTE, MEGABYTE = 1e3, 1e6


def write(results: Mapping[str, Any], out: Path) -> None:
    """Write README.md and the pictures into `out`."""
    draw_all(results, out)
    (out / "README.md").write_text(render(results))


def render(results: Mapping[str, Any]) -> str:
    """The README, from results.json alone."""
    sets = results["sets"]
    text = Path(__file__).with_name("template.md").read_text()
    tables = {
        "centralised": _against(sets, CENTRALISED),
        "local": _table(_local_columns(), _local_rows(sets)),
        "mixture": _table(_mixture_columns(), _mixture_rows(sets)),
        "models": _growth(sets, "models", ""),
        "clients": _growth(sets, "clients", ", newcomers' rows"),
        "least rows": _least_rows(sets),
        "scaling": _scaling(results["scaling"]),
        "sets": "\n\n".join(_set(name, found) for name, found in sets.items()),
    }
    for name, table in tables.items():
        text = text.replace(f"<!-- {name} -->", table)
    return text


def _table(columns: list[str], rows: Iterator[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(sets: Mapping[str, Any]) -> Iterator[tuple[list[str], str, Mapping[str, Any]]]:
    """Name, kind and figures of every set, alpha and kind that was measured."""
    for name, found in sets.items():
        for alpha in ALPHAS:
            for kind in KINDS if alpha in found else ():
                yield [name, alpha.removeprefix("alpha "), kind], kind, found[alpha]


def _against(sets: Mapping[str, Any], arm: str) -> str:
    columns = ["set", "alpha", "router", *HEADINGS.values(), f"within {CLOSE} (common)"]

    def rows() -> Iterator[list[str]]:
        for head, kind, found in _cells(sets):
            gaps = found["differences"][kind][f"{FEDERATED} - {arm}"]
            holds = _verdict(gaps["common_auc"], -CLOSE)
            yield [*head, *(_signed(gaps[figure]) for figure in HEADINGS), holds]

    return _table(columns, rows())


def _verdict(gap: Mapping[str, float], least: float) -> str:
    """Whether a difference is at least `least`, and whether that is sure."""
    if gap["value"] >= least:
        return "yes" if gap["low"] >= least else "yes, not surely"
    return "no" if gap["high"] < least else "no, not surely"


def _local_columns() -> list[str]:
    return [
        "set",
        "alpha",
        "router",
        "pooled rows",
        "own rows, mean",
        "clients better",
        "surely better",
        "surely worse",
        "worst client",
        "own range: better / surely worse",
    ]


def _local_rows(sets: Mapping[str, Any]) -> Iterator[list[str]]:
    for head, kind, found in _cells(sets):
        label = f"{FEDERATED} - {LOCAL}"
        pooled = found["differences"][kind][label]["common_auc"]
        own = found["own"][kind][label]
        tally, narrow = own["common_auc"], own["own_range_auc"]
        yield [
            *head,
            _signed(pooled),
            f"{tally['mean']:+.4f}",
            f"{tally['better']} of {tally['clients']}",
            str(tally["surely_better"]),
            str(tally["surely_worse"]),
            f"{tally['worst']:+.4f}",
            f"{narrow['better']} / {narrow['surely_worse']}",
        ]


def _mixture_columns() -> list[str]:
    return [
        "set",
        "alpha",
        "router",
        *(f"{arm}, own rows" for arm in (LOCAL, FEDERATED, MIXTURE)),
        f"clients within {CLOSE}",
        "surely outside",
        "mean gap",
        "worst gap",
    ]


def _mixture_rows(sets: Mapping[str, Any]) -> Iterator[list[str]]:
    for head, kind, found in _cells(sets):
        own = found["own"][kind]
        gaps = own[f"{MIXTURE} - better of both"]["common_auc"]
        yield [
            *head,
            *(f"{own['arms'][arm]['common_auc']:.4f}" for arm in (LOCAL, FEDERATED, MIXTURE)),
            f"{gaps['within']} of {gaps['clients']}",
            str(gaps["surely_outside"]),
            f"{gaps['mean']:+.4f}",
            f"{gaps['worst']:+.4f}",
        ]


def _growth(sets: Mapping[str, Any], what: str, rows_of: str) -> str:
    columns = ["set", "router", "before", "grown", "trained anew", "grown - before"]
    columns += ["grown - anew", f"within {RECOVERED}"]

    def rows() -> Iterator[list[str]]:
        for name, found in sets.items():
            for kind in KINDS if "growth" in found else ():
                figures = found["growth"][kind][what]
                labels = [f"{label}{rows_of}" for label in ("before", "grown", "retrained")]
                values = [f"{figures[label]['common_auc']['value']:.4f}" for label in labels]
                gained, short = (
                    figures[f"{labels[1]} - {labels[other]}"]["common_auc"] for other in (0, 2)
                )
                holds = _verdict(short, -RECOVERED)
                yield [name, kind, *values, _signed(gained), _signed(short), holds]

    return _table(columns, rows())


def _least_rows(sets: Mapping[str, Any]) -> str:
    measured = {name: found["least rows"] for name, found in sets.items() if "least rows" in found}
    minimums = list(next(iter(measured.values()))[KINDS[0]]) if measured else []

    def rows() -> Iterator[list[str]]:
        for name, found in measured.items():
            for kind in KINDS:
                yield [name, kind, *(_plain(found[kind][m]["common_auc"]) for m in minimums)]

    return _table(["set", "router", *(f"at least {m}" for m in minimums)], rows())


def _scaling(costs: list[Mapping[str, Any]]) -> str:
    columns = ["router", "clients", "models", "CPU s", "CPU ms per client", "memory added, MB"]
    columns += ["sent per message, kB", "answer, kB", "total, MB"]

    def rows() -> Iterator[list[str]]:
        for cost in costs:
            total = cost["messages"] * per_round(cost)
            yield [
                cost["kind"],
                str(cost["clients"]),
                str(cost["models"]),
                f"{cost['cpu_s']:.1f}",
                f"{1000 * cost['cpu_s'] / cost['clients']:.0f}",
                f"{(cost['peak_bytes'] - cost['start_bytes']) / MEGABYTE:.0f}",
                f"{cost['bytes_sent'] / cost['messages'] / KILOBYTE:.0f}",
                f"{cost['bytes_received'] / cost['messages'] / KILOBYTE:.0f}",
                f"{total / MEGABYTE:.0f}",
            ]

    return _table(columns, rows())


def _set(name: str, found: Mapping[str, Any]) -> str:
    measured = [alpha for alpha in ALPHAS if alpha in found]
    if not measured:
        return f"### {name}\n"
    first = found[measured[0]]
    lines = [
        f"### {name}",
        "",
        f"{first['queries']} queries, {first['models']} models, {first['seeds']} deals.",
        "",
        f"![{name}]({name}.png)",
    ]
    for alpha in measured:
        lines += ["", _arms(alpha, found[alpha])]
    return "\n".join(lines)


def _arms(alpha: str, found: Mapping[str, Any]) -> str:
    def rows() -> Iterator[list[str]]:
        for kind in KINDS:
            for arm in ARMS:
                figures = found["pooled"][kind][arm]
                yield [f"{kind}, {arm}", *(_plain(figures[figure]) for figure in HEADINGS)]
        for label, figures in found["references"].items():
            yield [label, *(_plain(figures[figure]) for figure in HEADINGS)]

    smallest, largest = min(found["train_rows"]), max(found["train_rows"])
    dearness = 1000 * found["best_single_cost_usd"]
    head = (
        f"{alpha}; best single model {found['best_single_quality']:.4f} at {dearness:.3f} USD per "
        f"1,000 queries;\nclients have {smallest} to {largest} train rows in the first deal."
    )
    settings = "\n".join(
        _settings(f"{kind} {arm}", found["settings"][kind][arm]) for kind in KINDS for arm in ARMS
    )
    table = _table(["all clients' test rows", *HEADINGS.values()], rows())
    details = f"<details><summary>Settings</summary>\n\n{settings}\n\n</details>"
    return f"{head}\n\n{table}\n\n{details}"


def _settings(router: str, chosen: Mapping[str, Any]) -> str:
    told = f"- {router}: {', '.join(f'{name} {value}' for name, value in chosen.items())}"
    return textwrap.fill(told, 120, subsequent_indent="  ")


def _plain(figure: Mapping[str, float]) -> str:
    return f"{figure['value']:.4f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def _signed(figure: Mapping[str, float]) -> str:
    return f"{figure['value']:+.4f} [{figure['low']:+.3f}, {figure['high']:+.3f}]"
