"""Keeps the chart in step with the gateway: `python -m helm.reference` rewrites what is derived.

The definition of `settings` in values.schema.json comes from the gateway's own settings, so that
`helm install` refuses a misspelt key; docs/reference/chart-values.md comes from the schema.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import TextWrapper
from typing import Any, Final

import yaml

from gateway.settings.config import GatewaySettings

ROOT: Final = Path(__file__).resolve().parents[1]
CHART: Final = ROOT / "helm" / "waypost"
SCHEMA: Final = CHART / "values.schema.json"
PAGE: Final = ROOT / "docs" / "reference" / "chart-values.md"
DECIDED: Final = (
    ("data_dir",),
    ("database",),
    ("embedded",),
    ("server", "host"),
    ("server", "port"),
    ("server", "admin_host"),
    ("server", "admin_port"),
    ("server", "admin_token"),
    ("server", "drain_s"),
    ("server", "shutdown_grace_s"),
    ("budgets", "store"),
    ("budgets", "redis_url"),
    ("federation", "coordinator", "host"),
    ("federation", "coordinator", "port"),
    ("federation", "coordinator", "certificates"),
    ("federation", "coordinator", "metrics_host"),
    ("federation", "coordinator", "metrics_port"),
    ("federation", "node", "authority"),
    ("federation", "node", "private_key"),
    ("federation", "node", "metrics_host"),
    ("federation", "node", "metrics_port"),
)
"""Settings that the chart's templates give, from other values."""
PREFIX: Final = "#/$defs/settings/$defs/"
WRAPPED: Final = TextWrapper(
    120, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
)
INTRODUCTION: Final = """# Values of the Helm chart

Values of the chart `helm/waypost`, and their defaults. An unknown value is refused. Secrets are
never values: the chart takes the names of existing Secrets.
Guide: [Deploy on Kubernetes](../how-to/deploy-on-kubernetes.md).

This page is made from the chart's schema by `python -m helm.reference`.

"""


def settings_schema() -> dict[str, Any]:
    """Make the schema of the value `settings`: the gateway's, without what the chart decides."""
    whole = json.dumps(GatewaySettings.model_json_schema())
    schema: dict[str, Any] = json.loads(whole.replace("#/$defs/", PREFIX))
    definitions = schema["$defs"]
    for *tables, name in DECIDED:
        table = schema
        for part in tables:
            table = definitions[_target(table["properties"][part])]
        del table["properties"][name]
        table["required"] = [key for key in table.get("required", ()) if key != name]
    _trim(schema)
    return schema


def _target(property_schema: Mapping[str, Any]) -> str:
    reference: str = property_schema["$ref"]
    return reference.removeprefix(PREFIX)


def _trim(schema: Any) -> None:
    """Leave out what only documents: titles, defaults, descriptions are in the settings' page."""
    if isinstance(schema, dict):
        for key in ("title", "default", "description", "format", "writeOnly"):
            if not isinstance(schema.get(key), dict):
                schema.pop(key, None)
        if not schema.get("required", True):
            del schema["required"]
        for part in schema.values():
            _trim(part)
    elif isinstance(schema, list):
        for part in schema:
            _trim(part)


def leaves(
    schema: Mapping[str, Any], values: Any, path: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Walk the values: yields the dotted path, its schema and its default."""
    for name, part in schema["properties"].items():
        if name not in values:
            continue
        dotted = f"{path}{name}"
        if "properties" in part:
            yield from leaves(part, values[name], f"{dotted}.")
        else:
            yield dotted, part, values[name]


def values_page(schema: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """Write the reference page."""
    entries = (
        f"- **`{path}`** (default `{json.dumps(default)}`) {part['description']}"
        for path, part, default in leaves(schema, values)
    )
    return INTRODUCTION + "".join(f"{WRAPPED.fill(entry)}\n" for entry in entries)


def main() -> None:
    """Rewrite both files."""
    schema = json.loads(SCHEMA.read_text())
    schema["$defs"]["settings"] = settings_schema()
    SCHEMA.write_text(json.dumps(schema, indent=2) + "\n")
    PAGE.write_text(values_page(schema, yaml.safe_load((CHART / "values.yaml").read_text())))


if __name__ == "__main__":
    main()
