"""What people set of pods in production: each override is in the objects that it is about."""

from typing import Any

import pytest

from tests.fakes.charts import INSTALLATIONS, installed, pods, render

OURS = {"gateway", "migrations", "coordinator", "node", "test"}
USER = {"runAsUser", "runAsGroup", "fsGroup"}


def templates(installation: str) -> dict[str, Any]:
    """Return the pod templates by component, with the pod of `helm test`."""
    objects = list(installed(installation).values())
    (test,) = (each for each in objects if each["kind"] == "Pod")
    return dict(pods(objects)) | {"test": test}


def spec(component: str, installation: str = "corporate") -> Any:
    return templates(installation)[component]["spec"]


def container(component: str, installation: str = "corporate") -> Any:
    return spec(component, installation)["containers"][0]


def environment(component: str, installation: str = "corporate") -> dict[str, Any]:
    given = container(component, installation).get("env", [])
    assert len({each["name"] for each in given}) == len(given), "a name is there twice"
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in given}


def items(key: str) -> list[dict[str, str]]:
    return [{"key": key, "path": "ca.crt"}]


def test_common_labels_and_annotations_are_on_every_object_and_every_pod():
    objects = installed("corporate").values()
    described = [each["metadata"] for each in objects]
    described += [template["metadata"] for template in templates("corporate").values()]

    assert len(described) > 10
    for metadata in described:
        assert metadata["labels"]["example.com/cost-centre"] == "1234"
        assert metadata["annotations"]["example.com/owner"] == "llm@example.com"


def test_common_labels_select_nothing():
    for each in installed("corporate").values():
        selector = each.get("spec", {}).get("selector", {})
        assert "example.com/cost-centre" not in str(selector)


def test_no_label_of_values_replaces_one_that_selects():
    own = {"commonLabels": {"app.kubernetes.io/name": "other"}}
    for _, template in pods(render("default", own)):
        assert template["metadata"]["labels"]["app.kubernetes.io/name"] == "waypost"


def test_a_deployment_has_labels_and_annotations_of_its_own():
    metadata = installed("corporate")["Deployment", ""]["metadata"]

    assert metadata["labels"]["example.com/tier"] == "front"
    assert metadata["annotations"]["reloader.stakater.com/auto"] == "true"


def test_pods_have_labels_for_all_and_for_some():
    found = {name: t["metadata"]["labels"] for name, t in templates("corporate").items()}

    assert all(labels["sidecar.istio.io/inject"] == "false" for labels in found.values())
    assert [name for name, labels in found.items() if "example.com/tier" in labels] == ["gateway"]


def test_of_two_annotations_that_of_the_component_counts():
    found = {
        name: template["metadata"]["annotations"]["example.com/scanned"]
        for name, template in templates("corporate").items()
    }

    assert found == {"gateway": "twice", "migrations": "yes", "test": "yes"}
    gateway = templates("corporate")["gateway"]["metadata"]["annotations"]
    assert gateway["vault.hashicorp.com/agent-inject"] == "true"
    assert "checksum/settings" in gateway


def test_the_migration_has_annotations_that_keep_a_mesh_out():
    annotations = templates("corporate")["migrations"]["metadata"]["annotations"]

    assert annotations["linkerd.io/inject"] == "disabled"


def test_machines_are_chosen_for_all_and_for_some():
    assert spec("gateway")["nodeSelector"] == {
        "kubernetes.io/os": "linux",
        "example.com/pool": "llm",
    }
    assert spec("migrations")["nodeSelector"] == {"kubernetes.io/os": "linux"}
    assert [each["key"] for each in spec("gateway")["tolerations"]] == ["shared", "llm"]
    assert [each["key"] for each in spec("migrations")["tolerations"]] == ["shared"]
    assert "nodeAffinity" in spec("gateway")["affinity"]
    assert "affinity" not in spec("migrations")


def test_a_component_has_a_priority_of_its_own():
    assert spec("gateway")["priorityClassName"] == "high"
    assert spec("migrations")["priorityClassName"] == "low"


def test_a_security_context_of_pods_is_laid_over_the_charts():
    assert spec("gateway")["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "fsGroup": 2000,
        "fsGroupChangePolicy": "OnRootMismatch",
        "supplementalGroups": [3000],
    }


def test_a_security_context_of_containers_is_laid_over_the_charts():
    assert container("gateway")["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": False,
        "runAsUser": 2000,
    }
    assert container("migrations")["securityContext"]["readOnlyRootFilesystem"] is True


def test_on_openshift_no_pod_has_a_user_or_group_of_its_own():
    found = templates("openshift")

    assert set(found) == OURS | {"postgres", "redis"}
    for template in found.values():
        context = template["spec"]["securityContext"]
        assert not USER & set(context)
        assert context["runAsNonRoot"] is True
        assert context["supplementalGroups"] == [1_000_650_000]
        assert not USER & set(template["spec"]["containers"][0]["securityContext"])


def test_what_has_no_value_of_its_own_is_laid_over_the_pods_specification():
    gateway = spec("gateway")

    assert gateway["hostAliases"] == [{"ip": "10.0.0.1", "hostnames": ["vllm.models"]}]
    assert gateway["dnsConfig"] == {"options": [{"name": "ndots", "value": "2"}]}
    assert gateway["terminationGracePeriodSeconds"] == 900
    assert gateway["topologySpreadConstraints"] == []
    assert spec("redis", "openshift")["terminationGracePeriodSeconds"] == 5


def test_variables_are_added_for_all_and_for_some_and_none_is_there_twice():
    gateway, migration = environment("gateway"), environment("migrations")

    assert (gateway["TZ"], gateway["REGION"]) == ("Europe/Vienna", "at")
    assert (migration["TZ"], migration["REGION"]) == ("Europe/Vienna", "eu")
    assert gateway["VLLM_TEAM"] == {"fieldRef": {"fieldPath": "metadata.namespace"}}
    assert gateway["WAYPOST_CONFIG"] == "/etc/waypost/waypost.toml"
    assert environment("node", "openshift")["HTTPS_PROXY"] == "http://proxy.example:3128"


def test_secrets_become_variables_beside_those_of_providers():
    assert container("gateway")["envFrom"] == [
        {"secretRef": {"name": "providers"}},
        {"secretRef": {"name": "more-keys", "optional": True}},
    ]
    assert "envFrom" not in container("migrations")


def test_volumes_are_added_and_replaced():
    volumes = {each["name"]: each for each in spec("gateway")["volumes"]}
    mounts = {each["mountPath"]: each["name"] for each in container("gateway")["volumeMounts"]}

    assert len(volumes) == len(spec("gateway")["volumes"])
    assert volumes["prices"] == {"name": "prices", "configMap": {"name": "prices"}}
    assert volumes["tmp"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "64Mi"}
    assert (mounts["/etc/prices"], mounts["/tmp"]) == ("prices", "tmp")


def test_containers_run_before_and_beside():
    gateway = spec("gateway")

    assert [each["name"] for each in gateway["initContainers"]] == ["fetch-router"]
    assert [each["name"] for each in gateway["containers"]] == ["gateway", "log-shipper"]
    coordinator = spec("coordinator", "openshift")["containers"]
    assert [each["name"] for each in coordinator] == ["coordinator", "tunnel"]


def test_a_job_has_sidecars_that_it_does_not_wait_for():
    (proxy,) = spec("migrations")["initContainers"]

    assert (proxy["name"], proxy["restartPolicy"]) == ("cloud-sql-proxy", "Always")
    assert len(spec("migrations")["containers"]) == 1


def test_times_of_probes_are_laid_over_the_charts():
    startup, ready = (container("gateway")[f"{name}Probe"] for name in ("startup", "readiness"))

    assert startup["failureThreshold"] == 600
    assert startup["httpGet"] == {"path": "/health", "port": "http"}
    assert (ready["periodSeconds"], ready["timeoutSeconds"]) == (5, 4)
    assert container("coordinator", "openshift")["livenessProbe"] == {
        "tcpSocket": {"port": "nodes"},
        "periodSeconds": 60,
    }


def test_a_probe_of_another_kind_replaces_the_charts():
    alive = container("gateway")["livenessProbe"]

    assert alive["tcpSocket"] == {"port": "http"}
    assert "httpGet" not in alive


@pytest.mark.parametrize(
    ("installation", "source"),
    [
        ("corporate", {"configMap": {"name": "corporate-ca", "items": items("bundle.pem")}}),
        ("openshift", {"secret": {"secretName": "corporate-ca", "items": items("ca.crt")}}),
    ],
)
def test_a_private_authority_is_mounted_and_named_in_every_pod_of_waypost(
    installation: str, source: dict[str, Any]
):
    volume = {"name": "authority", **source}
    mount = {"name": "authority", "mountPath": "/etc/waypost-authority", "readOnly": True}
    file = "/etc/waypost-authority/ca.crt"
    for component in templates(installation):
        is_ours = component in OURS
        assert (volume in spec(component, installation).get("volumes", [])) is is_ours
        assert (mount in container(component, installation)["volumeMounts"]) is is_ours
        assert (environment(component, installation).get("SSL_CERT_FILE") == file) is is_ours


def test_a_proxy_is_named_to_the_gateway_and_switched_on():
    gateway = environment("gateway")
    settings = installed("corporate")["ConfigMap", ""]["data"]["gateway.toml"]

    assert gateway["HTTPS_PROXY"] == gateway["HTTP_PROXY"] == "http://proxy.example:3128"
    assert {".svc", ".cluster.local", ".corp.example"} <= set(gateway["NO_PROXY"].split(","))
    assert "proxy_from_environment = true" in settings
    assert "HTTPS_PROXY" not in environment("migrations")
    assert "proxy_from_environment" not in str(installed("public")["ConfigMap", ""])


def test_the_databases_for_trials_take_what_other_pods_take():
    found = templates("openshift")
    stateful = installed("openshift")["StatefulSet", "postgres"]

    assert found["postgres"]["metadata"]["annotations"] == {
        "backup.velero.io/backup-volumes": "data"
    }
    assert stateful["metadata"]["labels"]["example.com/trial"] == "true"


def test_a_node_has_annotations_of_its_own():
    node = installed("openshift")["Deployment", "node"]

    assert node["metadata"]["annotations"] == {"example.com/site": "acme"}


@pytest.mark.parametrize("installation", INSTALLATIONS)
def test_no_pod_gets_a_token_of_the_cluster(installation: str):
    for template in templates(installation).values():
        assert template["spec"]["automountServiceAccountToken"] is False


def test_an_account_that_exists_is_used_and_none_is_made():
    assert spec("gateway", "gitops")["serviceAccountName"] == "existing"
    assert not [kind for kind, _ in installed("gitops") if kind == "ServiceAccount"]
