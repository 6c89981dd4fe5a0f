"""What is secret: no ConfigMap shows it, and an upgrade changes none of it."""

import random
import re
import shutil
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.settings.config import load_settings
from tests.fakes.charts import (
    CHART,
    INSTALLATIONS,
    RELEASE,
    Refused,
    of_kind,
    pod,
    pods,
    render,
    run_helm,
    settings_of,
)
from tests.fakes.kubernetes_api import KubernetesApi, running_api

UNHINDERED = ("--no-hooks", "--disable-openapi-validation")
"""Nothing runs in this cluster, so no hook would end; and it knows no forms of objects."""
HOST = "https://provider.example/v1"
ALPHABETS = (string.ascii_letters + string.digits + "-_.", string.printable, "äß→🔑日本$ '\"\\\n")


@pytest.fixture
def api(tmp_path: Path) -> Iterator[KubernetesApi]:
    with running_api(tmp_path) as running:
        yield running


def told_by(settings: dict[str, Any], *arguments: str) -> str:
    """Return why helm refuses these settings."""
    with pytest.raises(Refused) as refusal:
        render("default", {"settings": settings})
    return str(refusal.value)


def named_in(refusal: str) -> set[str]:
    """Return the settings that a refusal names."""
    found = re.search(r"would show:((?: \S+)+)\. Put the key", refusal)
    assert found is not None, refusal
    return set(found[1].split())


def disguised(secret: str) -> list[str]:
    """Return forms of a secret that the gateway would not take for the name of a variable."""
    return [secret, f"Bearer {secret}", f"$NAME {secret}", f"$${secret}", f"{secret}\n$NAME"]


def test_a_key_in_plain_text_is_refused_wherever_it_belongs_and_is_not_shown():
    rng = random.Random(7)
    for alphabet in ALPHABETS:
        secret = "0-" + "".join(rng.choices(alphabet, k=30))
        providers = {
            f"p{number}": {"base_url": HOST, "api_key": form, "headers": {"x.Key": form}}
            for number, form in enumerate(disguised(secret))
        }
        tracing = {"endpoint": "http://collector:4318", "headers": {"authorization": secret}}

        refusal = told_by({"providers": providers, "tracing": tracing})

        assert secret not in refusal
        assert named_in(refusal) == {"settings.tracing.headers.authorization"} | {
            f"settings.providers.{name}.{place}"
            for name in providers
            for place in ("api_key", "headers.x.Key")
        }


def test_a_key_is_found_where_none_belongs():
    key = "sk-" + "a1B2" * 8
    providers = {
        "user": {"base_url": "https://user:password@provider.example/v1"},
        "query": {"base_url": f"{HOST}?key=secret"},
        "fields": {"base_url": HOST, "extra_fields": ["n", key]},
        "names": {"base_url": HOST, "headers": {key: "$NAME"}},
    }
    models = {
        "m": {"provider": "user", "system_prompt": "-----BEGIN RSA PRIVATE KEY-----"},
        "n": {"provider": "user", "request_defaults": {"deep": [{"er": "wp-0123456789ab-secret"}]}},
    }

    tracing = {"service_name": "AKIA" + "Z" * 16}
    settings = {"providers": providers, "models": models, "tracing": tracing}

    assert named_in(told_by(settings)) == {
        "settings.providers.user.base_url",
        "settings.providers.query.base_url",
        "settings.providers.fields.extra_fields",
        "settings.tracing.service_name",
        "settings.providers.names.headers",
        "settings.models.m.system_prompt",
        "settings.models.n.request_defaults.deep.er",
    }


def test_a_key_is_refused_even_where_the_schema_is_not_looked_at(tmp_path: Path):
    plain = '{"p": {"base_url": "https://h/v1", "api_key": 12345678}}'

    with pytest.raises(Refused, match=r"settings\.providers\.p\.api_key"):
        run_helm(
            *("template", RELEASE, CHART, "--skip-schema-validation"),
            *("--set-json", f"settings.providers={plain}"),
        )


def test_what_is_no_key_is_not_refused(tmp_path: Path):
    settings: dict[str, Any] = {
        "providers": {
            "risk-assessment": {
                "base_url": "https://gateway.example/@team/v1",
                "api_key": "$OPENAI_API_KEY",
                "headers": {"x-team": "$_TEAM2"},
                "extra_fields": ["*"],
            }
        },
        "models": {
            "m": {
                "provider": "risk-assessment",
                "upstream_name": "hf-internal-testing/tiny-random-model",
                "system_prompt": "Bearer tokens and sk- are words. Mail me@example.com, cost $5.",
            }
        },
    }
    toml, environ = settings_of(render("default", {"settings": settings}), "gateway")
    file = tmp_path / "waypost.toml"
    file.write_text(toml)

    loaded = load_settings(file, environ | {"OPENAI_API_KEY": "sk-given", "_TEAM2": "ops"})

    assert loaded.providers["risk-assessment"].api_key is not None
    assert loaded.models["m"].system_prompt == settings["models"]["m"]["system_prompt"]


def test_passwords_that_the_chart_makes_are_in_secrets_alone():
    objects = render()
    made = [
        value for one in of_kind(objects, "Secret").values() for value in one["stringData"].values()
    ]
    passwords = {value for value in made if "/" not in value}
    others = str([each for each in objects if each["kind"] != "Secret"])

    assert len(passwords) == 3
    assert all(len(password) == 32 for password in passwords)
    assert not any(password in others for password in passwords)


def chart_of(version: str, folder: Path) -> Path:
    """Return the chart as another release of it."""
    other = folder / version
    shutil.copytree(CHART, other)
    about = other / "Chart.yaml"
    about.write_text(
        re.sub(r"(?m)^((?:app)?[vV]ersion): .*$", rf"\1: {version}", about.read_text())
    )
    return other


def test_an_upgrade_over_two_releases_renders_no_new_secret(api: KubernetesApi, tmp_path: Path):
    run_helm("install", RELEASE, CHART, "--kubeconfig", api.config, *UNHINDERED)
    made = api.secrets()
    run_helm(
        *("upgrade", RELEASE, chart_of("0.3.0", tmp_path), "--kubeconfig", api.config),
        *("--set", "gateway.replicas=3", *UNHINDERED),
    )

    assert set(made) == {f"{RELEASE}-waypost-{name}" for name in ("admin", "postgres", "redis")}
    assert api.secrets() == made
    gateway = api.objects["deployments", f"{RELEASE}-waypost"]
    assert gateway["metadata"]["labels"]["app.kubernetes.io/version"] == "0.3.0"
    assert gateway["spec"]["replicas"] == 3


def test_what_was_kept_of_a_release_serves_the_next_one(api: KubernetesApi):
    """As the chart was before it made a token: of that release's Secrets two are there."""
    mine = {"app.kubernetes.io/managed-by": "Helm"}
    owner = {"meta.helm.sh/release-name": RELEASE, "meta.helm.sh/release-namespace": "default"}
    for name, scheme in (("postgres", "postgresql://waypost"), ("redis", "redis://")):
        url = f"{scheme}:old@{RELEASE}-waypost-{name}"
        full = {"name": f"{RELEASE}-waypost-{name}", "labels": mine, "annotations": owner}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": full}
        api.put("secrets", secret | {"stringData": {"password": "old", "url": url}})

    run_helm("install", RELEASE, CHART, "--kubeconfig", api.config, *UNHINDERED)

    assert api.data(f"{RELEASE}-waypost-postgres") == {
        "password": "old",
        "url": f"postgresql://waypost:old@{RELEASE}-waypost-postgres:5432/waypost",
    }
    assert api.data(f"{RELEASE}-waypost-redis")["password"] == "old"
    assert len(api.data(f"{RELEASE}-waypost-admin")["token"]) == 32


def test_without_a_cluster_named_secrets_make_every_rendering_the_same():
    (file,) = INSTALLATIONS["gitops"]
    first, second = (run_helm("template", RELEASE, CHART, "--values", file) for _ in range(2))

    assert first == second
    assert "kind: Secret" not in first


def test_every_secret_may_be_one_that_exists():
    objects = render("gitops")
    named = {
        each["valueFrom"]["secretKeyRef"]["name"]: each["valueFrom"]["secretKeyRef"]["key"]
        for _, template in pods(objects)
        for container in template["spec"]["containers"]
        for each in container.get("env", ())
        if "valueFrom" in each and each["name"] not in {"PASSWORD", "POSTGRES_PASSWORD"}
    }
    passwords = [
        each["valueFrom"]["secretKeyRef"]
        for component in ("postgres", "redis")
        for each in pod(objects, component)["spec"]["containers"][0]["env"]
        if "valueFrom" in each
    ]

    assert named == {"waypost-postgres": "url", "waypost-redis": "url", "waypost-admin": "admin"}
    assert passwords == [
        {"name": "waypost-postgres", "key": "password"},
        {"name": "waypost-redis", "key": "password"},
    ]
