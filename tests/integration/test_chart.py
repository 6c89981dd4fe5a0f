"""What the chart makes, rendered by the real helm and checked against Kubernetes' own schemas."""

from pathlib import Path
from typing import Any

import jsonschema_rs
import kubernetes_validate
import orjson
import pytest
from click.testing import CliRunner

from gateway.cli import cli
from gateway.settings.config import load_settings
from tests.fakes.charts import (
    CHART,
    INSTALLATIONS,
    RELEASE,
    VALUES,
    of_kind,
    pod,
    pods,
    render,
    run_helm,
    settings_of,
)
from tests.fakes.postgres import Postgres

# From the operators' own definitions, by way of github.com/datreeio/CRDs-catalog (MIT); without
# descriptions and status.
CRDS = Path(__file__).resolve().parents[1] / "data" / "crds"
CUSTOM = ("ServiceMonitor", "PrometheusRule", "HTTPRoute")
SUPPORTED = ("1.31.0", "1.37.0")
EVERY = VALUES | INSTALLATIONS
PROVIDER_KEY = {"OPENAI_API_KEY": "sk-openai"}


@pytest.fixture(scope="module", params=VALUES)
def objects(request: pytest.FixtureRequest) -> list[Any]:
    return render(request.param)


@pytest.fixture(scope="module")
def full() -> list[Any]:
    return render("full")


@pytest.fixture(scope="module")
def federation() -> list[Any]:
    return render("federation")


@pytest.mark.parametrize("values", EVERY.values(), ids=EVERY)
def test_helm_finds_no_fault(values: tuple[Path, ...]):
    files = [word for file in values for word in ("--values", file)]

    assert "0 chart(s) failed" in run_helm("lint", "--strict", CHART, *files)


@pytest.mark.parametrize("version", SUPPORTED)
@pytest.mark.parametrize("name", EVERY)
def test_kubernetes_knows_every_field(name: str, version: str):
    for each in render(name):
        if each["kind"] not in CUSTOM:
            kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize("name", ["full", "public"])
@pytest.mark.parametrize("kind", CUSTOM)
def test_the_operators_know_every_field(name: str, kind: str):
    schema = orjson.loads((CRDS / f"{kind}.json").read_bytes())
    (only,) = of_kind(render(name), kind).values()

    jsonschema_rs.validator_for(schema).validate(only)


def test_every_container_passes_the_restricted_standard_and_writes_nowhere(objects: list[Any]):
    for _, template in pods(objects):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(spec)
        assert not any("hostPath" in volume for volume in spec.get("volumes", ()))
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            assert "memory" in container["resources"]["limits"]


def test_callers_cannot_reach_the_admin_port(full: list[Any]):
    services = of_kind(full, "Service")
    public = services[f"{RELEASE}-wp"]
    assert [port["targetPort"] for port in public["spec"]["ports"]] == ["http"]
    (ingress,) = of_kind(full, "Ingress").values()
    (path,) = ingress["spec"]["rules"][0]["http"]["paths"]
    assert path["backend"]["service"] == {"name": f"{RELEASE}-wp", "port": {"name": "http"}}
    (route,) = of_kind(full, "HTTPRoute").values()
    assert route["spec"]["rules"][0]["backendRefs"] == [{"name": f"{RELEASE}-wp", "port": 8080}]
    policy = of_kind(full, "NetworkPolicy")[f"{RELEASE}-wp-gateway"]
    callers, operators = policy["spec"]["ingress"]
    assert callers["ports"] == [{"port": "http"}]
    assert operators["ports"] == [{"port": "admin"}]
    assert "monitoring" in str(operators["from"])


def test_no_secret_is_made_where_all_are_named(full: list[Any]):
    assert of_kind(full, "Secret") == {}


def test_what_is_for_trials_goes_with_a_database_and_redis_of_ones_own(full: list[Any]):
    assert of_kind(full, "StatefulSet") == {}


@pytest.mark.parametrize("component", ["gateway", "migrations", "coordinator", "node"])
def test_settings_are_such_that_the_gateway_loads_them(
    federation: list[Any], component: str, tmp_path: Path
):
    toml, environ = settings_of(federation, component)
    file = tmp_path / "waypost.toml"
    file.write_text(toml)

    secrets = PROVIDER_KEY if component == "gateway" else {}
    settings = load_settings(file, environ | secrets)

    assert settings.data_dir.is_absolute()


def test_settings_reach_the_gateway_beside_what_the_chart_decides(full: list[Any], tmp_path: Path):
    toml, environ = settings_of(full, "gateway")
    file = tmp_path / "waypost.toml"
    file.write_text(toml)

    settings = load_settings(file, environ | PROVIDER_KEY)

    assert settings.providers["openai"].max_concurrency == 200
    assert settings.routing.exploration.epsilon == 0.02
    assert settings.budgets.lease_s == 45
    assert settings.budgets.store == "redis"
    assert settings.database_url == "given-WAYPOST_DATABASE_URL"
    assert settings.server.admin_token is not None
    assert settings.database.wait_s == 60


@pytest.mark.parametrize("component", ["gateway", "migrations", "coordinator", "node"])
def test_what_a_container_runs_is_a_command(federation: list[Any], component: str):
    (container,) = pod(federation, component)["spec"]["containers"]

    result = CliRunner().invoke(cli, [*container["args"], "--help"])

    assert result.exit_code == 0, result.output


def test_a_pod_is_given_the_time_that_its_settings_take(objects: list[Any], tmp_path: Path):
    toml, environ = settings_of(objects, "gateway")
    file = tmp_path / "waypost.toml"
    file.write_text(toml)
    settings = load_settings(file, environ | PROVIDER_KEY)
    spec = pod(objects, "gateway")["spec"]
    (container,) = spec["containers"]
    starting = container["startupProbe"]
    log_s = 10

    leaving_s = settings.server.drain_s + settings.server.shutdown_grace_s + log_s
    assert spec["terminationGracePeriodSeconds"] > leaving_s
    assert settings.server.drain_s > 0
    assert starting["periodSeconds"] * starting["failureThreshold"] > settings.database.wait_s


def test_migrations_may_run_again_with_settings_of_their_own(postgres: Postgres, tmp_path: Path):
    objects = render("full")
    toml, _ = settings_of(objects, "migrations")
    file = tmp_path / "waypost.toml"
    file.write_text(toml)
    (container,) = pod(objects, "migrations")["spec"]["containers"]
    environ = {"WAYPOST_DATABASE_URL": postgres.new_database(), "WAYPOST_CONFIG": str(file)}

    first, second = (CliRunner().invoke(cli, container["args"], env=environ) for _ in range(2))

    assert (first.exit_code, second.exit_code) == (0, 0)
    assert first.stdout.startswith("upgraded to ")
    assert second.stdout.startswith("already at ")


@pytest.mark.parametrize(
    ("name", "hooks"),
    [("full", "pre-install,pre-upgrade"), ("default", "post-install,pre-upgrade")],
)
def test_migrations_come_first_unless_the_database_comes_with_the_release(name: str, hooks: str):
    objects = render(name)
    (job,) = of_kind(objects, "Job").values()
    maps = of_kind(objects, "ConfigMap")

    for hook in (job, maps[job["metadata"]["name"]]):
        annotations = hook["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == hooks
        assert "before-hook-creation" in annotations["helm.sh/hook-delete-policy"]
    assert "serviceAccountName" not in job["spec"]["template"]["spec"]


def test_every_pod_is_shut_off_until_a_policy_of_its_own_lets_it_out(objects: list[Any]):
    policies = of_kind(objects, "NetworkPolicy").values()
    for component, template in pods(objects):
        labels = template["metadata"]["labels"].items()
        applying = [
            p for p in policies if labels >= p["spec"]["podSelector"]["matchLabels"].items()
        ]
        general, *own = sorted(applying, key=lambda p: len(p["spec"]["podSelector"]["matchLabels"]))
        assert general["spec"]["policyTypes"] == ["Ingress", "Egress"]
        assert "ingress" not in general["spec"]
        assert own, component


def test_gateways_may_not_call_where_clouds_keep_credentials(full: list[Any]):
    policy = of_kind(full, "NetworkPolicy")[f"{RELEASE}-wp-gateway"]
    blocks = [peer["ipBlock"] for rule in policy["spec"]["egress"] for peer in rule["to"]]

    assert all("169.254.0.0/16" in b["except"] for b in blocks if b["cidr"] == "0.0.0.0/0")


def test_every_service_and_budget_selects_pods_that_there_are(objects: list[Any]):
    labels = [template["metadata"]["labels"].items() for _, template in pods(objects)]
    selectors = [s["spec"]["selector"] for s in of_kind(objects, "Service").values()]
    selectors += [
        b["spec"]["selector"]["matchLabels"]
        for b in of_kind(objects, "PodDisruptionBudget").values()
    ]
    for selector in selectors:
        assert sum(pod_labels >= selector.items() for pod_labels in labels) == 1


def test_prometheus_scrapes_every_process_and_no_port_of_callers():
    objects = render("federation", {"monitoring.serviceMonitor.enabled": True})
    (monitor,) = of_kind(objects, "ServiceMonitor").values()
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    scraped = {
        (service["spec"]["selector"]["app.kubernetes.io/component"], port["name"])
        for service in of_kind(objects, "Service").values()
        if service["metadata"]["labels"].items() >= wanted
        for port in service["spec"]["ports"]
    }

    assert scraped == {("gateway", "admin"), ("coordinator", "metrics"), ("node", "metrics")}
    assert {e["port"] for e in monitor["spec"]["endpoints"]} == {"admin", "metrics"}


def test_dashboards_and_alerts_are_shipped_as_they_are(full: list[Any]):
    shipped = {
        key: orjson.loads(text)
        for each in of_kind(full, "ConfigMap").values()
        if "grafana_dashboard" in each["metadata"]["labels"]
        for key, text in each["data"].items()
    }
    assert shipped == {
        path.name: orjson.loads(path.read_bytes()) for path in (CHART / "dashboards").glob("*.json")
    }


def test_names_stay_within_what_kubernetes_takes():
    objects = render("federation", release="r" * 53)

    assert all(len(each["metadata"]["name"]) <= 63 for each in objects)
