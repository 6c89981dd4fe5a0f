"""Keeps the chart in step with the gateway: `python -m helm.reference` rewrites what is derived.

In values.schema.json the definition of `settings` comes from the gateway's own settings, so that
`helm install` refuses a misspelt key, and what is settable of every object and pod is written
once. The chart's README and docs/reference/chart-values.md come from the schema.
"""

import json
import re
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
README: Final = CHART / "README.md"
SECRETS: Final = CHART / "templates" / "_secret_settings.tpl"
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
PODS: Final = (
    "gateway",
    "migrations",
    "federation.coordinator",
    "federation.node",
    "database.trial",
    "redis.trial",
    "test",
)
OBJECTS: Final = (
    *PODS[:-1],
    "gateway.autoscaling",
    "gateway.disruptionBudget",
    "service",
    "adminService",
    "ingress",
    "httpRoute",
    "federation.coordinator.service",
    "adminTokenSecret",
    "data",
    "serviceAccount",
    "networkPolicy",
    "monitoring.serviceMonitor",
    "monitoring.prometheusRule",
    "monitoring.dashboards",
    "monitoring.dataSource",
)
SHARED: Final = {"labels": OBJECTS, "pod": ("", *PODS), "component": PODS}
"""By name of a definition in the schema the tables that have its values; "" is the top."""
WRAPPED: Final = TextWrapper(
    120, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
)
SITE: Final = "https://github.com/waypost-gateway/waypost/blob/main/docs/"
GUIDE: Final = "[Deploy on Kubernetes](../how-to/deploy-on-kubernetes.md)"
INTRODUCTION: Final = f"""# Values of the Helm chart

Values of the chart `helm/waypost`, and their defaults. An unknown value is refused. Secrets are
never values: the chart takes the names of existing Secrets, and makes those of trials itself.
Guide: {GUIDE}.

This page is made from the chart's schema by `python -m helm.reference`.

"""
PRESENTATION: Final = f"""# Waypost

An open-source LLM gateway that learns from your own traffic which model answers each request best
for the price you are willing to pay. OpenAI's and Anthropic's SDKs work with it.

```sh
helm install waypost oci://REGISTRY/charts/waypost --set image.repository=REGISTRY/waypost
helm test waypost
```

With nothing set it runs two gateways, with one Postgres and one Redis for trials. For production,
GitOps, OpenShift and private authorities:
{GUIDE}.

An unknown value is refused. Secrets are never values: the chart takes the names of existing
Secrets, and makes those of trials itself. This file is made by `python -m helm.reference`.

## Values

"""
SECTIONS: Final = {
    "labels": "## Labels and annotations\n\n"
    "`commonLabels` and `commonAnnotations` are on everything. These are on the objects of one "
    "table alone, as `TABLE.labels` and `TABLE.annotations`: {tables}.\n\n",
    "pod": "## Pods\n\n"
    "At the top of the values these are about all pods, and in a table about its own: {tables}. "
    "There, lists are added to those of all pods, and maps are laid over them.\n\n",
    "component": "## Containers and probes\n\nOnly in a table: {tables}.\n\n",
}


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


def secret_settings() -> str:
    """Write the template that says which settings hold secrets, as a pattern of their names."""
    schema = GatewaySettings.model_json_schema()
    names = sorted(set(_secrets(schema, schema["$defs"])) - {".".join(name) for name in DECIDED})
    # The names of providers and headers are the operator's own, and may have dots in them.
    patterns = (re.escape(name).replace(r"\*", ".+") for name in names)
    return (
        "{{/* Made by `python -m helm.reference`: which settings the gateway keeps secret. */}}\n"
        '{{- define "waypost.secretSettings" -}}\n'
        f"(?s)^settings\\.({'|'.join(patterns)})$\n"
        "{{- end -}}\n"
    )


def _secrets(part: Any, definitions: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Walk a schema without cycles: yields the dotted paths of secrets, with * for any name."""
    if reference := part.get("$ref"):
        part = definitions[reference.removeprefix("#/$defs/")]
    if part.get("writeOnly"):
        yield path
    inner = dict(part.get("properties", {}))
    if isinstance(part.get("additionalProperties"), dict):
        inner["*"] = part["additionalProperties"]
    for name, each in inner.items():
        yield from _secrets(each, definitions, f"{path}.{name}".lstrip("."))
    for each in (*part.get("anyOf", ()), *([part["items"]] if "items" in part else ())):
        yield from _secrets(each, definitions, path)


def share(schema: dict[str, Any]) -> None:
    """Have each table refer to what is defined for all of its kind and not said by itself."""
    for definition, tables in SHARED.items():
        for path in tables:
            table = schema
            for part in filter(None, path.split(".")):
                table = table["properties"][part]
            for name in schema["$defs"][definition]:
                table["properties"].setdefault(name, {"$ref": f"#/$defs/{definition}/{name}"})


def leaves(
    schema: Mapping[str, Any], values: Any, path: str = "", root: Mapping[str, Any] | None = None
) -> Iterator[tuple[str, Any, Any]]:
    """Walk the values: yields the dotted path, its schema and its default."""
    root = root or schema
    for name, part in schema["properties"].items():
        dotted = f"{path}{name}"
        shared = shared_by(part, root)
        if shared is not None:
            yield dotted, shared, values.get(name, shared["default"])
        elif name not in values:
            continue
        elif "properties" in part:
            yield from leaves(part, values[name], f"{dotted}.", root)
        else:
            yield dotted, part, values[name]


def shared_by(part: Mapping[str, Any], root: Mapping[str, Any]) -> Any | None:
    """Return the shared definition that a part of the schema refers to, if it does."""
    _, _, place = part.get("$ref", "").partition("#/$defs/")
    definition, _, name = place.partition("/")
    return root["$defs"][definition][name] if definition in SHARED and name else None


def values_list(schema: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """Write what each value means; what many tables share is written once."""
    shared = [part for name in SHARED for part in schema["$defs"][name].values()]
    text = "".join(
        _entry(path, default, part)
        for path, part, default in leaves(schema, values)
        if not any(part is one for one in shared)
    )
    for name, tables in SHARED.items():
        listed = ", ".join(f"`{table}`" for table in tables if table)
        heading, about = SECTIONS[name].format(tables=listed).strip().split("\n\n")
        text += f"\n{heading}\n\n{WRAPPED.fill(about).replace(chr(10) + '  ', chr(10))}\n\n"
        for value, part in schema["$defs"][name].items():
            text += _entry(value, part["default"], part)
    return text


def _entry(path: str, default: Any, part: Mapping[str, Any]) -> str:
    entry = f"- **`{path}`** (default `{json.dumps(default)}`) {part['description']}"
    return f"{WRAPPED.fill(entry)}\n"


def values_page(schema: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """Write the reference page."""
    return INTRODUCTION + values_list(schema, values)


def readme(schema: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """Write the chart's README, which is read away from these pages: its links are absolute."""

    def absolute(text: str) -> str:
        text = re.sub(r"\]\((?=[\w-]+\.md)", f"]({SITE}reference/", text)
        return text.replace("](../", f"]({SITE}")

    listed = values_list(json.loads(absolute(json.dumps(schema))), values)
    return absolute(PRESENTATION) + listed.replace("\n## ", "\n### ")


def main() -> None:
    """Rewrite all that is derived."""
    schema = json.loads(SCHEMA.read_text())
    schema["$defs"]["settings"] = settings_schema()
    share(schema)
    SCHEMA.write_text(json.dumps(schema, indent=2) + "\n")
    SECRETS.write_text(secret_settings())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    PAGE.write_text(values_page(schema, values))
    README.write_text(readme(schema, values))


if __name__ == "__main__":
    main()
