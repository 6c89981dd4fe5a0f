"""Three organisations, one router: ``python -m benchmarks.federation_demo.run [--out FILE]``."""

import argparse
import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.fakes.three_organisations import Demonstration, demonstrated


def main() -> None:
    """Show it, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="JSON file for the figures.")
    out: Path | None = parser.parse_args().out
    with TemporaryDirectory() as folder:
        figures = asyncio.run(measure(Path(folder)))
    print_table(figures)
    if out is not None:
        out.write_text(json.dumps(figures, indent=2) + "\n")


async def measure(folder: Path) -> dict[str, Any]:
    """Show it, and collect the figures."""
    async with demonstrated(folder, print) as shown:
        return figures_of(shown)


def figures_of(shown: Demonstration) -> dict[str, Any]:
    """Collect the figures of every organisation and the time of every exchange."""
    report = shown.session.report
    organisations = {}
    for party in shown.parties:
        active = party.store.active()
        organisations[party.organisation.name] = {
            "local": asdict(party.merit(party.local_version)),
            "federated": asdict(party.merit(active or party.local_version)),
            "verdict": report["verdicts"].get(party.organisation.name),
            "requests": party.answers.total(),
            "failed_requests": sum(n for (status, _), n in party.answers.items() if status != 200),
        }
    exchanges = [
        {"exchange": each["exchange"], "duration_s": round(each["duration_s"], 2)}
        for each in report["rounds"]
    ]
    return {"organisations": organisations, "exchanges": exchanges}


def print_table(figures: dict[str, Any]) -> None:
    """Print what changed for each organisation, and what it took."""
    print(
        "\n| organisation | gain, own router | gain, federated | area, own | area, federated | "
        "verdict | requests meanwhile | failed |\n|---|---|---|---|---|---|---|---|"
    )
    for name, made in figures["organisations"].items():
        own, shared = made["local"], made["federated"]
        print(
            f"| {name} | {own['gain']:.3f} | {shared['gain']:.3f} | {own['area']:.3f} | "
            f"{shared['area']:.3f} | {made['verdict']['outcome']} | {made['requests']} | "
            f"{made['failed_requests']} |"
        )
    print("\n| exchange | seconds |\n|---|---|")
    for each in figures["exchanges"]:
        print(f"| {each['exchange']} | {each['duration_s']:.1f} |")


if __name__ == "__main__":
    main()
