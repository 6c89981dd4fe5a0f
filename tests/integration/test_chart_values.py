"""Values, their schema, the templates and the reference page are in step."""

import json
import re
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import yaml

from helm.reference import (
    CHART,
    PAGE,
    README,
    SCHEMA,
    SECRETS,
    SITE,
    leaves,
    readme,
    secret_settings,
    settings_schema,
    share,
    shared_by,
    values_page,
)
from tests.fakes.charts import VALUES, Refused, of_kind, render

SCHEMA_OF_VALUES = json.loads(SCHEMA.read_text())
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
SWITCHED: dict[str, Any] = {
    "image.pullPolicy": "Never",
    "settings": {"server": {"log_level": "debug"}},
    "service.type": "NodePort",
    "federation.coordinator.serviceType": "NodePort",
    "data.accessMode": "ReadWriteOncePod",
    "ingress.pathType": "Exact",
    "monitoring.dataSource.sslMode": "verify-full",
}
"""Another value for what is one of few."""
PATTERNED = {
    "ingress.path": "/{}",
    "proxy.url": "http://x{}",
    "monitoring.serviceMonitor.scrapeTimeout": "{}s",
    "monitoring.dataSource.password": "$X{}",
}
"""A value with a mark, where the default does not show the form."""
LISTED: dict[str, Callable[[int], Any]] = {
    "imagePullSecrets": lambda mark: {"name": f"x{mark}"},
    "environmentSecrets": lambda mark: f"x{mark}",
    "gateway.autoscaling.metrics": lambda mark: {"type": f"x{mark}"},
    "proxy.exceptions": lambda mark: f"x{mark}",
    "ingress.hosts": lambda mark: {"host": f"x{mark}.example"},
    "httpRoute.parentRefs": lambda mark: {"name": f"x{mark}"},
    "httpRoute.hostnames": lambda mark: f"x{mark}.example",
    "networkPolicy.callers": lambda mark: {"podSelector": {"matchLabels": {"x": f"x{mark}"}}},
    "networkPolicy.operators": lambda mark: {"podSelector": {"matchLabels": {"x": f"x{mark}"}}},
    "networkPolicy.providerPorts": lambda mark: mark,
    "networkPolicy.excludedAddresses": lambda mark: f"x{mark}",
    "networkPolicy.extraEgress": lambda mark: {"ports": [{"port": mark}]},
    "monitoring.serviceMonitor.relabelings": lambda mark: {"targetLabel": f"x{mark}"},
    "monitoring.serviceMonitor.metricRelabelings": lambda mark: {"targetLabel": f"x{mark}"},
    "extraObjects": lambda mark: {"kind": "Own", "metadata": {"name": f"x{mark}"}},
    "tolerations": lambda mark: {"key": f"x{mark}"},
    "extraEnv": lambda mark: {"name": f"x{mark}"},
    "extraEnvFrom": lambda mark: {"secretRef": {"name": f"x{mark}"}},
    "extraVolumes": lambda mark: {"name": f"x{mark}"},
    "extraVolumeMounts": lambda mark: {"mountPath": f"x{mark}"},
    "initContainers": lambda mark: {"name": f"x{mark}"},
    "sidecars": lambda mark: {"name": f"x{mark}"},
}
"""What a list holds, with a mark in it, by its path or by the last part of that."""
LEAVES = list(leaves(SCHEMA_OF_VALUES, DEFAULTS))
FIRST_MARK = 31_000
"""A port may be so high, and no number of the chart's own is."""


def switched(path: str, default: Any) -> Any:
    """Return another value where there are few; None where there are many."""
    return not default if isinstance(default, bool) else SWITCHED.get(path)


def marked(path: str, schema: Any, default: Any, mark: int) -> Any:
    """Return a value that is accepted, and that shows by its mark wherever it is rendered."""
    if (listed := LISTED.get(path) or LISTED.get(path.rpartition(".")[2])) is not None:
        return [listed(mark)]
    if path.endswith(".resources"):
        return {"requests": {"cpu": mark}}
    if isinstance(default, dict):
        return {"other": f"x{mark}"}
    if isinstance(default, int):
        return mark
    usual = "{}" + default.lstrip("0123456789") if "pattern" in schema else default + "x{}"
    return PATTERNED.get(path, usual).format(mark)


def outcome(name: str, changes: dict[str, Any]) -> list[Any] | str:
    """Render, without the passwords for trials, which are never the same; or why helm refuses."""
    try:
        rendered = render(name, changes)
    except Refused as refusal:
        return str(refusal)
    for secret in of_kind(rendered, "Secret").values():
        secret["stringData"] = list(secret["stringData"])
    return rendered


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
        known = schema["properties"]
        own = {name for name in known if shared_by(known[name], SCHEMA_OF_VALUES) is None}
        assert own - {"global", "enabled"} <= set(values) <= set(known)
        for name in own:
            if "properties" in known[name]:
                assert known[name]["additionalProperties"] is False
                names(known[name], values[name])

    names(SCHEMA_OF_VALUES, DEFAULTS)


def test_the_schema_knows_the_settings_that_the_gateway_knows():
    known = SCHEMA_OF_VALUES["$defs"]["settings"]

    assert known == settings_schema(), "run `python -m helm.reference`"


def test_the_chart_knows_which_settings_are_secret():
    assert SECRETS.read_text() == secret_settings(), "run `python -m helm.reference`"


def test_every_table_has_what_is_shared():
    shared = deepcopy(SCHEMA_OF_VALUES)
    share(shared)

    assert shared == SCHEMA_OF_VALUES, "run `python -m helm.reference`"


def test_page_and_readme_are_what_the_schema_says():
    told = {path: part["description"] for path, part, _ in leaves(SCHEMA_OF_VALUES, DEFAULTS)}

    assert [path for path, meaning in told.items() if not meaning.endswith(".")] == []
    for file, made in ((PAGE, values_page), (README, readme)):
        assert file.read_text() == made(SCHEMA_OF_VALUES, DEFAULTS), (
            "run `python -m helm.reference`"
        )


def test_the_readme_has_no_link_that_leads_nowhere_outside_of_the_repository():
    links = re.findall(r"\]\(([^)]*)\)", README.read_text())
    pages = [link.removeprefix(SITE) for link in links]

    assert links
    assert [link for link in links if not link.startswith(SITE)] == []
    assert [page for page in pages if not (PAGE.parents[1] / page).is_file()] == []


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
        ("monitoring.dataSource.enabled", True, "set monitoring.dataSource.address"),
        ("gateway.podSpec", {"containers": []}, "/gateway/podSpec/containers"),
        ("service.spec", {"ports": []}, "/service/spec/ports"),
        ("proxy.url", "http://user:password@proxy.example:3128", "does not match pattern"),
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
