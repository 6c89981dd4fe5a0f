"""Writes the tables of README.md from the results."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

CAPABILITIES: Final = (
    "plain",
    "stream",
    "tools",
    "structured",
    "images",
    "usage",
    "error",
    "embeddings",
)
BEGIN, END = "<!-- results -->", "<!-- end of results -->"


def write_report(results: Mapping[str, Any], file: Path) -> None:
    """Replace what is between the marks of `file`."""
    before, _, rest = file.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    file.write_text(f"{before}{BEGIN}\n\n{tables(results)}\n{END}{after}")


def tables(results: Mapping[str, Any]) -> str:
    """Write a row for each way of using a client, and below what fails."""
    rows = [
        f"| client | version | date | by | {' | '.join(CAPABILITIES)} |",
        f"|{'---|' * (4 + len(CAPABILITIES))}",
    ]
    failures: list[str] = []
    for name, entry in results.items():
        if "not_installed" in entry:
            rows.append(f"| {name} | not installed | {entry['date']} |{' |' * 9}")
        for mode, capabilities in entry.get("modes", {}).items():
            cells = [_cell(capabilities.get(capability, {})) for capability in CAPABILITIES]
            known = f"| {name} | {entry['version']} | {entry['date']} | {mode} |"
            rows.append(f"{known} {' | '.join(cells)} |")
            failures += _failures(f"{name}, {mode}", capabilities)
    return "\n".join([*rows, "", *(failures or ["Nothing fails."]), ""])


def _cell(verdicts: Mapping[str, str]) -> str:
    passed = sum(verdict == "ok" for verdict in verdicts.values())
    return f"{passed}/{len(verdicts)}" if verdicts else ""


def _failures(name: str, capabilities: Mapping[str, Mapping[str, str]]) -> list[str]:
    """List what fails: one line for each capability, with the columns in which it does."""
    lines = []
    for capability, verdicts in capabilities.items():
        failed = [column for column, verdict in verdicts.items() if verdict != "ok"]
        if failed:
            lines.append(f"- {name}: {capability} ({', '.join(failed)})")
    return lines
