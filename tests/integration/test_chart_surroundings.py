"""What people set around the pods: ways in, network, monitoring, objects of their own, a parent."""

import asyncio
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fakes.charts import (
    CHART,
    INSTALLATIONS,
    RELEASE,
    Refused,
    installed,
    of_kind,
    read_objects,
    render,
    run_helm,
)
from tests.fakes.gateway import running_gateway
from tests.fakes.oci_registry import running_registry
from tests.fakes.patience import PATIENCE_S
from tests.fakes.server import free_port

ALERTS = "https://wiki.example.com/waypost-alerts"


def ports_out(objects: Any) -> list[Any]:
    """Return the ports of the last rule of a gateway's egress: where it calls anywhere."""
    policy = objects["NetworkPolicy", "gateway"]
    return [each["port"] for each in policy["spec"]["egress"][-1]["ports"]]


def endpoints() -> Any:
    return installed("public")["ServiceMonitor", ""]["spec"]["endpoints"]


def test_a_balancer_has_annotations_and_fields_of_its_cloud():
    service = installed("public")["Service", ""]
    metadata, spec = service["metadata"], service["spec"]

    assert metadata["labels"]["example.com/exposed"] == "true"
    assert metadata["annotations"] == {
        "service.beta.kubernetes.io/aws-load-balancer-scheme": "internal"
    }
    assert spec["loadBalancerSourceRanges"] == ["10.0.0.0/8"]
    assert spec["loadBalancerClass"] == "service.k8s.aws/nlb"
    assert spec["externalTrafficPolicy"] == "Local"
    assert [port["targetPort"] for port in spec["ports"]] == ["http"]


def test_a_coordinators_balancer_has_them_too():
    service = installed("openshift")["Service", "coordinator"]

    assert service["metadata"]["annotations"] == {"example.com/balancer": "l4"}
    assert service["spec"]["loadBalancerClass"] == "example.com/l4"
    metrics = installed("openshift")["Service", "coordinator-metrics"]
    assert "annotations" not in metrics["metadata"]


def test_an_ingress_has_several_hosts_and_their_certificates():
    spec = installed("public")["Ingress", ""]["spec"]

    assert [rule["host"] for rule in spec["rules"]] == [
        "llm.example.com",
        "llm.example.org",
        "models.example.com",
    ]
    assert spec["tls"] == [
        {"secretName": "wildcard", "hosts": ["llm.example.com", "models.example.com"]},
        {"secretName": "org", "hosts": ["llm.example.org"]},
    ]


def test_an_ingress_has_the_path_that_its_controller_wants():
    rules = installed("public")["Ingress", ""]["spec"]["rules"]
    paths = [path for rule in rules for path in rule["http"]["paths"]]

    assert {(path["path"], path["pathType"]) for path in paths} == {
        ("/*", "ImplementationSpecific")
    }


def test_ways_in_have_labels_and_annotations():
    ingress, route = (installed("public")[kind, ""] for kind in ("Ingress", "HTTPRoute"))

    assert ingress["metadata"]["annotations"] == {"cert-manager.io/cluster-issuer": "letsencrypt"}
    assert ingress["metadata"]["labels"]["example.com/zone"] == "dmz"
    assert route["metadata"]["labels"]["example.com/zone"] == "dmz"
    assert route["spec"]["hostnames"] == ["llm.example.com", "llm.example.org"]


@pytest.mark.parametrize(
    ("kind", "name", "where", "key", "value"),
    [
        ("Service", "admin", "annotations", "example.com/operators", "only"),
        ("HorizontalPodAutoscaler", "", "annotations", "example.com/scaled", "by-streams"),
        ("PodDisruptionBudget", "", "labels", "example.com/budget", "true"),
        ("ServiceMonitor", "", "annotations", "example.com/team", "platform"),
        ("ServiceMonitor", "", "labels", "release", "prometheus"),
        ("ConfigMap", "dashboard-overview", "annotations", "grafana_folder", "LLM"),
        ("ConfigMap", "datasource", "labels", "grafana_datasource", "1"),
        ("ServiceAccount", "", "labels", "azure.workload.identity/use", "true"),
        ("PersistentVolumeClaim", "data", "labels", "example.com/backup", "daily"),
        ("PersistentVolumeClaim", "data", "annotations", "helm.sh/resource-policy", "keep"),
    ],
)
def test_an_object_has_its_own_label_or_annotation(
    kind: str, name: str, where: str, key: str, value: str
):
    assert installed("public")[kind, name]["metadata"][where][key] == value


def test_pods_are_replaced_and_scaled_as_values_say():
    scaler = installed("public")["HorizontalPodAutoscaler", ""]["spec"]
    deployment = installed("public")["Deployment", ""]["spec"]

    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": "25%", "maxUnavailable": 0}
    assert [metric["type"] for metric in scaler["metrics"]] == ["Resource", "Pods"]
    assert scaler["behavior"] == {
        "scaleUp": {"stabilizationWindowSeconds": 60},
        "scaleDown": {"stabilizationWindowSeconds": 300},
    }


def test_what_is_scraped_is_relabelled():
    for endpoint in endpoints():
        assert endpoint["relabelings"][0]["targetLabel"] == "node"
        assert endpoint["metricRelabelings"][0]["action"] == "drop"
        assert endpoint["scrapeTimeout"] == "10s"


def test_alerts_have_labels_of_the_team_and_lead_to_its_own_page():
    groups = installed("public")["PrometheusRule", ""]["spec"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]

    assert rules
    for rule in rules:
        assert rule["labels"]["team"] == "platform"
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["runbook_url"] == f"{ALERTS}#{rule['alert'].lower()}"


def test_by_default_alerts_lead_to_a_page_that_anybody_can_open():
    groups = of_kind(render("full"), "PrometheusRule")[f"{RELEASE}-wp"]["spec"]["groups"]
    pages = {rule["annotations"]["runbook_url"] for group in groups for rule in group["rules"]}

    assert all(page.startswith("https://") for page in pages)
    assert len(pages) > 20


def test_grafana_reads_the_log_with_a_password_that_only_grafana_knows():
    text = installed("public")["ConfigMap", "datasource"]["data"]["waypost.yaml"]
    (source,) = yaml.safe_load(text)["datasources"]

    assert source["url"] == "postgres.example:5432"
    assert source["jsonData"] == {"database": "waypost", "sslmode": "require"}
    assert source["secureJsonData"] == {"password": "$LOG_PASSWORD"}


def test_the_network_lets_a_gateway_out_where_its_settings_lead():
    assert ports_out(installed("corporate")) == [443, 3128, 4318, 8000]
    assert ports_out(installed("public")) == [443]


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [
        ("http://collector/v1/traces", 80),
        ("https://collector.example", 443),
        ("https://[2001:db8::1]:4317/v1", 4317),
    ],
)
def test_tracing_opens_the_port_of_its_endpoint(endpoint: str, port: int):
    policies = of_kind(render("default", {"settings.tracing.endpoint": endpoint}), "NetworkPolicy")
    rules = policies[f"{RELEASE}-waypost-gateway"]["spec"]["egress"]

    assert {"port": port} in rules[-1]["ports"]


def test_the_network_has_ports_and_rules_of_the_site():
    gateway = installed("corporate")["NetworkPolicy", "gateway"]
    everyone = installed("corporate")["NetworkPolicy", ""]["spec"]["egress"]

    assert gateway["metadata"]["labels"]["example.com/audited"] == "true"
    assert gateway["spec"]["ingress"][0]["from"] == [
        {"namespaceSelector": {"matchLabels": {"team": "apps"}}}
    ]
    assert {"port": 6432} in gateway["spec"]["egress"][0]["ports"]
    assert {"to": [{"ipBlock": {"cidr": "10.8.0.0/16"}}], "ports": [{"port": 8200}]} in everyone


@pytest.mark.parametrize(("installation", "ports"), [("public", {53}), ("openshift", {53, 5353})])
def test_names_are_asked_where_the_cluster_answers(installation: str, ports: set[int]):
    (names,) = installed(installation)["NetworkPolicy", ""]["spec"]["egress"]

    assert {each["port"] for each in names["ports"]} == ports


def test_without_network_policies_there_is_none():
    assert "NetworkPolicy" not in {kind for kind, _ in installed("gitops")}


def test_objects_of_ones_own_are_installed_and_their_templates_evaluated():
    objects = installed("public")

    assert objects["ConfigMap", "prices"]["data"] == {"release": RELEASE}
    assert ("NetworkPolicy", f"{RELEASE}-own") in objects


@pytest.mark.parametrize("is_wanted", ["true", "false"])
def test_a_parent_chart_switches_it_on_and_off_and_has_globals(tmp_path: Path, is_wanted: str):
    parent = tmp_path / "parent"
    shutil.copytree(CHART, parent / "charts" / "waypost")
    wanted = {"name": "waypost", "version": "*", "condition": "waypost.enabled"}
    about = {"apiVersion": "v2", "name": "parent", "version": "1.0.0", "dependencies": [wanted]}
    (parent / "Chart.yaml").write_text(yaml.safe_dump(about))
    given = {
        "global": {"imageRegistry": "registry.example", "storageClass": "fast"},
        "waypost": {"gateway": {"replicas": 5}},
    }
    (parent / "values.yaml").write_text(yaml.safe_dump(given))

    printed = run_helm("template", RELEASE, parent, "--set", f"waypost.enabled={is_wanted}")

    replicas = [
        deployment["spec"]["replicas"]
        for deployment in of_kind(read_objects(printed), "Deployment").values()
    ]
    assert replicas == ([5] if is_wanted == "true" else [])


def test_a_parent_chart_may_not_misspell(tmp_path: Path):
    with pytest.raises(Refused, match="'enable' not allowed"):
        render("default", {"enable": True})


def asking(installation: str, url: str) -> subprocess.CompletedProcess[str]:
    """Run what the pod of `helm test` runs, but at this address and without waiting."""
    (container,) = installed(installation)["Pod", "test"]["spec"]["containers"]
    _, option, program, address = container["command"]
    assert re.fullmatch(r"http://w-waypost:\d+", address)
    return subprocess.run(
        [sys.executable, option, program.replace("sleep(2)", "sleep(0)"), url],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env={"HTTP_PROXY": f"http://127.0.0.1:{free_port()}"},
    )


async def test_helm_test_passes_at_a_gateway_and_says_what_is_wrong_elsewhere(tmp_path: Path):
    async with running_gateway(tmp_path) as gateway:
        well = await asyncio.to_thread(asking, "corporate", gateway.url)
    elsewhere = await asyncio.to_thread(asking, "corporate", gateway.url)

    assert well.returncode == 0, well.stderr
    assert elsewhere.returncode == 1
    assert "Connection refused" in elsewhere.stderr


@pytest.mark.parametrize("installation", INSTALLATIONS)
def test_helm_test_is_a_hook_that_leaves_nothing(installation: str):
    for (_, name), each in installed(installation).items():
        if name.startswith("test"):
            annotations = each["metadata"]["annotations"]
            assert annotations["helm.sh/hook"] == "test"
            assert "hook-succeeded" in annotations["helm.sh/hook-delete-policy"]


def test_the_pod_of_helm_test_and_the_gateways_may_talk():
    objects = installed("corporate")
    out, into = (objects["NetworkPolicy", f"test-{way}"]["spec"] for way in ("egress", "ingress"))
    tester = objects["Pod", "test"]["metadata"]["labels"]
    gateway = objects["Deployment", ""]["spec"]["template"]["metadata"]["labels"]
    (to,), (source,) = out["egress"][0]["to"], into["ingress"][0]["from"]

    assert tester.items() >= out["podSelector"]["matchLabels"].items()
    assert gateway.items() >= to["podSelector"]["matchLabels"].items()
    assert gateway.items() >= into["podSelector"]["matchLabels"].items()
    assert tester.items() >= source["podSelector"]["matchLabels"].items()


def test_the_chart_has_an_icon_and_a_readme():
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    page = run_helm("show", "readme", CHART)

    assert about["icon"].endswith("/docs/icon.svg")
    assert (CHART.parents[1] / "docs" / "icon.svg").read_text().startswith("<svg ")
    assert "**`gateway.replicas`** (default `2`)" in page


def test_the_chart_is_pushed_to_a_registry_and_rendered_from_it(tmp_path: Path):
    run_helm("package", CHART, "--destination", tmp_path)
    (package,) = tmp_path.glob("waypost-*.tgz")
    version = package.stem.removeprefix("waypost-")
    with running_registry() as registry:
        charts = f"oci://{registry.address}/charts"
        run_helm("push", package, charts, "--plain-http")
        printed = run_helm(
            *("template", RELEASE, f"{charts}/waypost", "--version", version, "--plain-http"),
            *("--values", INSTALLATIONS["gitops"][0]),
        )

    assert f"manifests/{version}" in registry.kept
    assert read_objects(printed) == render("gitops")
