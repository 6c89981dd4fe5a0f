"""Write the dashboards that the chart ships: `python -m helm.dashboards`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from helm.dashboards import budgets, cost_and_quality, federation, overview, reliability, spend

FOLDER: Final = Path(__file__).resolve().parents[1] / "waypost" / "dashboards"


def render_all() -> Iterator[tuple[str, str]]:
    """Yield name and content of each file."""
    for module in (overview, cost_and_quality, budgets, federation, reliability, spend):
        name = module.__name__.rpartition(".")[2].replace("_", "-")
        text = json.dumps(module.build(), cls=JSONEncoder, indent=2, sort_keys=True)
        yield f"{name}.json", text + "\n"


def main() -> None:
    """Write every file."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, content in render_all():
        (FOLDER / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
