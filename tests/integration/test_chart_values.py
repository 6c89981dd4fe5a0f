"""Values, their schema, the templates and the reference page are in step."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from helm.reference import CHART, PAGE, SCHEMA, leaves, settings_schema, values_page
from tests.fakes.charts import VALUES, Refused, render

SCHEMA_OF_VALUES = json.loads(SCHEMA.read_text())
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
SWITCHED: dict[str, Any] = {
    "image.pullPolicy": "Never",
    "settings": {"server": {"log_level": "debug"}},
    "service.type": "NodePort",
    "federation.coordinator.serviceType": "NodePort",
    "data.accessMode": "ReadWriteOncePod",
}
"""Another value for what is one of few."""
LISTED: dict[str, Callable[[int], Any]] = {
    "imagePullSecrets": lambda mark: {"name": f"x{mark}"},
    "environmentSecrets": lambda mark: f"x{mark}",
    "gateway.environment": lambda mark: {"name": "OTHER", "value": f"x{mark}"},
    "httpRoute.parentRefs": lambda mark: {"name": f"x{mark}"},
    "httpRoute.hostnames": lambda mark: f"x{mark}.example",
    "networkPolicy.callers": lambda mark: {"podSelector": {"matchLabels": {"x": f"x{mark}"}}},
    "networkPolicy.operators": lambda mark: {"podSelector": {"matchLabels": {"x": f"x{mark}"}}},
    "networkPolicy.providerPorts": lambda mark: mark,
    "networkPolicy.excludedAddresses": lambda mark: f"x{mark}",
    "tolerations": lambda mark: {"key": f"x{mark}"},
}
"""What a list holds, with a mark in it."""
LEAVES = list(leaves(SCHEMA_OF_VALUES, DEFAULTS))
FIRST_MARK = 31_000
"""A port may be so high, and no number of the chart's own is."""


def switched(path: str, default: Any) -> Any:
    """Return another value where there are few; None where there are many."""
    return not default if isinstance(default, bool) else SWITCHED.get(path)


def marked(path: str, schema: Any, default: Any, mark: int) -> Any:
    """Return a value that is accepted, and that shows by its mark wherever it is rendered."""
    if path in LISTED:
        return [LISTED[path](mark)]
    if path.endswith(".resources"):
        return {"requests": {"cpu": mark}}
    if isinstance(default, dict):
        return {"other": f"x{mark}"}
    if isinstance(default, int):
        return mark
    if "pattern" in schema:
        return f"{mark}{default.lstrip('0123456789')}"
    return f"{default}x{mark}"


def outcome(name: str, changes: dict[str, Any]) -> list[Any] | str:
    """Render, without the passwords for trials, which are never the same; or why helm refuses."""
    try:
        return [each for each in render(name, changes) if each["kind"] != "Secret"]
    except Refused as refusal:
        return str(refusal)


def numbers(rendered: list[Any] | str) -> set[str]:
    return set() if isinstance(rendered, str) else set(re.findall(r"\d+", str(rendered)))


def shown(changes: dict[str, Any], marks: dict[str, int]) -> set[str]:
    """Return the values whose marks are in what is rendered with all of these changes."""
    found = set().union(*(numbers(outcome(name, changes)) for name in VALUES))
    return {path for path in changes if str(marks[path]) in found}


def test_every_value_changes_something():
    """Most values are tried together: a mark that is rendered can only come from its own value.

    A value may hide another, as a database of one's own hides the one for trials: what did not
    show is tried again without what did. Switches, and what never shows, are tried one by one.
    """
    before = {name: outcome(name, {}) for name in VALUES}
    marks = {path: FIRST_MARK + place for place, (path, _, _) in enumerate(LEAVES)}
    assert not {str(mark) for mark in marks.values()} & set().union(*map(numbers, before.values()))
    alone = {path: switched(path, default) for path, _, default in LEAVES}
    together = {
        path: marked(path, schema, default, marks[path])
        for path, schema, default in LEAVES
        if alone[path] is None
    }
    while seen := shown(together, marks):
        together = {path: value for path, value in together.items() if path not in seen}

    changes = {path: value for path, value in alone.items() if value is not None} | together
    assert len(changes) < len(LEAVES) / 3, "few values show when all are given together"
    assert [
        path
        for path, value in changes.items()
        if all(outcome(name, {path: value}) == was for name, was in before.items())
    ] == []


def test_the_schema_and_the_defaults_name_the_same_values():
    def names(schema: Any, values: Any) -> None:
        assert set(schema["properties"]) - {"global"} == set(values)
        for name, part in schema["properties"].items():
            if "properties" in part:
                assert part["additionalProperties"] is False
                names(part, values[name])

    names(SCHEMA_OF_VALUES, DEFAULTS)


def test_the_schema_knows_the_settings_that_the_gateway_knows():
    known = SCHEMA_OF_VALUES["$defs"]["settings"]

    assert known == settings_schema(), "run `python -m helm.reference`"


def test_the_reference_is_what_the_schema_says():
    page = values_page(SCHEMA_OF_VALUES, DEFAULTS)
    told = {path: part["description"] for path, part, _ in leaves(SCHEMA_OF_VALUES, DEFAULTS)}

    assert [path for path, meaning in told.items() if not meaning.endswith(".")] == []
    assert page == PAGE.read_text(), "run `python -m helm.reference`"


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("replicas", 3, "'replicas' not allowed"),
        ("gateway.replica", 3, "'replica' not allowed"),
        ("gateway.replicas", "three", "got string, want integer"),
        ("data.size", "big", "does not match pattern"),
        ("settings.routing", {"default_modl": "x"}, "'default_modl' not allowed"),
        ("settings.server", {"port": 80}, "'port' not allowed"),
        ("settings.database", {"url": "postgresql://u:p@h/d"}, "'database' not allowed"),
        ("ingress.enabled", True, "set ingress.host"),
        ("httpRoute.enabled", True, "set httpRoute.parentRefs"),
        ("federation.node", {"enabled": True, "keySecret": "x"}, "set data.existingClaim"),
        ("federation.coordinator.enabled", True, "set federation.coordinator.tlsSecret"),
        (
            "gateway.autoscaling",
            {"enabled": True, "minReplicas": 5, "maxReplicas": 2},
            "maxReplicas (2) is below minReplicas (5)",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_reason(path: str, value: Any, reason: str):
    with pytest.raises(Refused, match=re.escape(reason)):
        render("default", {path: value})
