"""Values, their schema, the templates and the reference page are in step."""

import json
import re
from typing import Any

import pytest
import yaml

from helm.reference import CHART, PAGE, SCHEMA, leaves, settings_schema, values_page
from tests.fakes.charts import VALUES, Refused, render

SCHEMA_OF_VALUES = json.loads(SCHEMA.read_text())
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
OTHER = {
    bool: lambda value: not value,
    int: lambda value: value + 7,
    str: lambda value: f"{value}x",
}
SPECIAL: dict[str, Any] = {
    "image.pullPolicy": "Never",
    "imagePullSecrets": [{"name": "other"}],
    "settings": {"server": {"log_level": "debug"}},
    "environmentSecrets": ["other"],
    "gateway.environment": [{"name": "OTHER", "value": "1"}],
    "gateway.disruptionBudget.maxUnavailable": 2,
    "service.type": "NodePort",
    "federation.coordinator.serviceType": "NodePort",
    "httpRoute.parentRefs": [{"name": "other"}],
    "httpRoute.hostnames": ["other.example"],
    "data.accessMode": "ReadWriteOncePod",
    "data.size": "99Gi",
    "database.trial.storage": "99Gi",
    "redis.trial.storage": "99Gi",
    "federation.coordinator.storage": "99Gi",
    "monitoring.serviceMonitor.interval": "99s",
    "networkPolicy.callers": [{"podSelector": {}}],
    "networkPolicy.operators": [],
    "networkPolicy.providerPorts": [99],
    "networkPolicy.excludedAddresses": ["10.0.0.0/8"],
    "tolerations": [{"operator": "Exists"}],
    "affinity": {"podAffinity": {}},
}
"""Another value where the type does not suggest one."""
RESOURCES = {"requests": {"cpu": 9, "memory": "9Gi"}, "limits": {"memory": "9Gi"}}


def other(path: str, default: Any) -> Any:
    """Return a value that is accepted and is nobody's default."""
    if path in SPECIAL:
        return SPECIAL[path]
    if path.endswith(".resources"):
        return RESOURCES
    if isinstance(default, dict):
        return {"other": "x"}
    return OTHER[type(default)](default)


def outcome(name: str, changes: dict[str, Any]) -> list[Any] | str:
    """Render, without the passwords for trials, which are never the same; or why helm refuses."""
    try:
        return [each for each in render(name, changes) if each["kind"] != "Secret"]
    except Refused as refusal:
        return str(refusal)


def test_every_value_changes_something():
    before = {name: outcome(name, {}) for name in VALUES}
    idle = []
    for path, _, default in leaves(SCHEMA_OF_VALUES, DEFAULTS):
        changes = {path: other(path, default)}
        if all(outcome(name, changes) == was for name, was in before.items()):
            idle.append(path)

    assert idle == []


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
        ("ingress.enabled", True, "ingress.host is needed"),
        ("httpRoute.enabled", True, "httpRoute.parentRefs is needed"),
        ("federation.node", {"enabled": True, "keySecret": "x"}, "set data.existingClaim"),
        ("federation.coordinator.enabled", True, "tlsSecret is needed"),
        (
            "gateway.autoscaling",
            {"enabled": True, "minReplicas": 5, "maxReplicas": 2},
            "maxReplicas is below minReplicas",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_reason(path: str, value: Any, reason: str):
    with pytest.raises(Refused, match=re.escape(reason)):
        render("default", {path: value})
