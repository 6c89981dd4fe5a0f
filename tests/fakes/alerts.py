"""The alert rules that the chart ships."""

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
RULES = tuple(sorted((ROOT / "helm" / "waypost" / "alerts").glob("*.yaml")))


def read_rules() -> list[dict[str, Any]]:
    """Read every rule of every group."""
    files = [yaml.load(file.read_text(), yaml.CSafeLoader) for file in RULES]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]
