"""Tables of the benchmark: README.md from template.md and results.json, and the picture."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.federated_rlvr.measure import (
    Float64,
    accuracy,
    difference,
    own_kinds,
    right_answers,
)
from benchmarks.federated_rlvr.pictures import draw
from benchmarks.federated_rlvr.protocol import ARMS, BALANCED, BASE, EXTRAS, FEDAVG, LOCAL
from router_models.evaluation.frontier import Interval

Runs = Mapping[str, Mapping[str, Any]]
"""Arms of one seed."""

MEGABYTE, KILOBYTE = 1e6, 1e3
FLOAT32_BYTES: Final = 4


def write(results: Mapping[str, Any], out: Path) -> None:
    """Write README.md and the picture into `out`."""
    draw(results, out / "accuracy.png")
    (out / "README.md").write_text(render(results))


def render(results: Mapping[str, Any]) -> str:
    """The README, from results.json alone."""
    text = Path(__file__).with_name("template.md").read_text()
    tables = {
        "accuracy": _accuracies(results),
        "balanced": _differences(results, BALANCED),
        "fedavg": _differences(results, FEDAVG),
        "rounds": _rounds(results),
        "local": _own_and_others(results),
        "own kind": _own_kind(results),
        "effort": _efforts(results),
        "traffic": _traffic(results),
        "extras": _extras(results),
        "settings": textwrap.fill(
            ", ".join(f"{name} {value}" for name, value in _told(results)), 120
        ),
    }
    for name, table in tables.items():
        text = text.replace(f"<!-- {name} -->", table)
    return text


def _told(results: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """List the settings, but for the names of all adapted layers."""
    return ((name, one) for name, one in results["settings"].items() if name != "lora_targets")


def _seeds(results: Mapping[str, Any], arms: Iterable[str]) -> list[Runs]:
    """Return the seeds that have all of these arms."""
    needed = set(arms)
    return [runs for runs in results["runs"].values() if needed <= set(runs)]


def _present(results: Mapping[str, Any], arms: Iterable[str]) -> list[str]:
    return [arm for arm in arms if _seeds(results, [arm])]


def _kinds(results: Mapping[str, Any]) -> list[str]:
    runs = next(iter(results["runs"].values()))
    return list(next(iter(runs[BASE]["marks"]["0"].values())))


def _final(runs: Iterable[Runs], arm: str) -> list[Float64]:
    """Read what an arm got right in the end; by seed."""
    return [right_answers(one[arm], max(one[arm]["marks"], key=int)) for one in runs]


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _accuracies(results: Mapping[str, Any]) -> str:
    kinds = _kinds(results)
    every = range(len(kinds))
    rows = []
    for arm in _present(results, [BASE, *ARMS]):
        runs = _seeds(results, [arm])
        right = _final(runs, arm)
        each = ", ".join(f"{one.mean():.2f}" for one in right)
        cells = [_plain(accuracy(right, [kind])) for kind in every]
        rows.append([arm, *cells, _plain(accuracy(right, every)), each])
    return _table(["arm", *kinds, "mean of kinds", "by seed"], rows)


def _differences(results: Mapping[str, Any], better: str) -> str:
    kinds = _kinds(results)
    every = range(len(kinds))
    rows = []
    for arm in _present(results, [BASE, *ARMS]):
        runs = _seeds(results, [arm, better])
        if arm == better or not runs:
            continue
        pair = _final(runs, better), _final(runs, arm)
        cells = [_signed(difference(*pair, [kind])) for kind in every]
        rows.append(
            [f"{better} - {arm}", *cells, _signed(difference(*pair, every)), str(len(runs))]
        )
    return _table(["difference", *kinds, "mean of kinds", "seeds"], rows)


def _rounds(results: Mapping[str, Any]) -> str:
    arms = _present(results, ARMS)
    after = list(_seeds(results, arms[:1])[0][arms[0]]["marks"]) if arms else []
    every = range(len(_kinds(results)))
    rows = []
    for arm in arms:
        runs = _seeds(results, [arm])
        by_round = [[right_answers(one[arm], number) for one in runs] for number in after]
        rows.append([arm, *(_plain(accuracy(right, every)) for right in by_round)])
    return _table(["mean of kinds", *(f"after round {number}" for number in after)], rows)


def _own_and_others(results: Mapping[str, Any]) -> str:
    """What local training does for a client's own kind, and for the others'."""
    runs = _seeds(results, [LOCAL])
    if not runs:
        return ""
    kinds = _kinds(results)
    last = max(runs[0][LOCAL]["marks"], key=int)
    rows = []
    for client in kinds:
        shares = np.mean(
            [
                [np.mean(list(map(int, row))) for row in one[LOCAL]["marks"][last][client].values()]
                for one in runs
            ],
            axis=0,
        )
        rows.append([client, *(f"{share:.2f}" for share in shares)])
    return _table(["trained alone on", *(f"tested on {kind}" for kind in kinds)], rows)


def _own_kind(results: Mapping[str, Any]) -> str:
    """What training together gives a client on its own kind, against training alone."""
    kinds = _kinds(results)
    every = range(len(kinds))
    rows = []
    for arm in _present(results, ARMS):
        runs = _seeds(results, [arm, LOCAL])
        if arm == LOCAL or not runs:
            continue
        last = max(runs[0][LOCAL]["marks"], key=int)
        pair = _final(runs, arm), [own_kinds(one[LOCAL], last) for one in runs]
        cells = [_signed(difference(*pair, [kind])) for kind in every]
        rows.append([f"{arm} - alone", *cells, _signed(difference(*pair, every)), str(len(runs))])
    return _table(["on a client's own kind", *kinds, "mean of kinds", "seeds"], rows)


def _efforts(results: Mapping[str, Any]) -> str:
    columns = ["arm", "seeds", "steps of all clients", "tokens generated", "prompts that taught"]
    columns += ["answers swapped in", "CPU s per step"]
    rows = []
    for arm in _present(results, [*ARMS, *EXTRAS]):
        runs = [one[arm] for one in _seeds(results, [arm])]
        mean = {name: np.mean([run[name] for run in runs]) for name in _SUMS}
        rows.append(
            [
                arm,
                str(len(runs)),
                f"{mean['steps']:.0f}",
                f"{mean['tokens_generated']:,.0f}",
                f"{mean['prompts_used'] / mean['prompts']:.0%}",
                f"{mean['answers_swapped']:.0f}",
                f"{mean['cpu_s'] / mean['steps']:.2f}",
            ]
        )
    return _table(columns, rows)


_SUMS: Final = ("steps", "prompts", "prompts_used", "tokens_generated", "answers_swapped", "cpu_s")


def _traffic(results: Mapping[str, Any]) -> str:
    columns = ["per client and round", "to the client, kB", "from the client, kB"]
    rows = []
    n_clients = len(_kinds(results))
    for arm in _present(results, [*ARMS, *EXTRAS]):
        if arm != LOCAL:
            runs = [one[arm] for one in _seeds(results, [arm])]
            sizes = [np.mean([run[way] for run in runs]) for way in ("bytes_down", "bytes_up")]
            rows.append([arm, *(f"{size / n_clients / KILOBYTE:,.0f}" for size in sizes)])
    whole = f"{results['parameters'] * FLOAT32_BYTES / KILOBYTE:,.0f}"
    rows.append(["all weights, float32", whole, whole])
    return _table(columns, rows)


def _extras(results: Mapping[str, Any]) -> str:
    every = range(len(_kinds(results)))
    rows = []
    for arm in _present(results, EXTRAS):
        reference = BALANCED if EXTRAS[arm].changes.get("public", True) else FEDAVG
        runs = _seeds(results, [arm, reference])
        if runs:
            pair = _final(runs, arm), _final(runs, reference)
            gap = _signed(difference(*pair, every))
            rows.append([arm, _plain(accuracy(pair[0], every)), gap, reference, str(len(runs))])
    if not rows:
        return "None is measured yet."
    return _table(["one switch", "mean of kinds", "difference", "from", "seeds"], rows)


def _plain(one: Interval) -> str:
    return f"{one.value:.2f} ({one.low:.2f} to {one.high:.2f})"


def _signed(one: Interval) -> str:
    return f"{one.value:+.2f} ({one.low:+.2f} to {one.high:+.2f})"
