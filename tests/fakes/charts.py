"""The Helm chart, rendered by the real helm."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "waypost"
RELEASE = "w"
VALUES = {
    "default": (),
    "full": (CHART / "ci" / "full-values.yaml",),
    "federation": (CHART / "ci" / "federation-values.yaml",),
}
"""Values files by what they show."""
INSTALLATIONS = {
    path.stem: (path,) for path in sorted((ROOT / "tests/data/installations").glob("*.yaml"))
}
"""Values as people set them."""


class Refused(Exception):
    """Helm would not render; what it said."""


@cache
def helm() -> str:
    """Find helm; where it is missing the test fails, it is not skipped."""
    found = shutil.which("helm", path=str(ROOT / ".tools" / "bin")) or shutil.which("helm")
    if found is None:
        raise RuntimeError("helm is missing: `python3 dev.py test` fetches it")
    return found


def run_helm(*arguments: str | Path) -> str:
    """Run helm and return what it printed.

    Raises:
        Refused: It failed.
    """
    ended = subprocess.run(
        [helm(), *map(str, arguments)], check=False, capture_output=True, text=True
    )
    if ended.returncode != 0:
        raise Refused(ended.stdout + ended.stderr)
    return ended.stdout


def render(
    name: str = "default", changes: Mapping[str, Any] | None = None, release: str = RELEASE
) -> list[Any]:
    """Render the chart with the values file `name`; returns its objects.

    Args:
        name: One of `VALUES` or of `INSTALLATIONS`.
        changes: Values by dotted path, laid over the file's.

    Raises:
        Refused: The values are not accepted.
    """
    paths = (VALUES | INSTALLATIONS)[name]
    files = [word for file in paths for word in ("--values", file)]
    given = [
        word
        for path, value in (changes or {}).items()
        for word in ("--set-json", f"{path}={orjson.dumps(value).decode()}")
    ]
    return read_objects(run_helm("template", release, CHART, *files, *given))


def read_objects(text: str) -> list[Any]:
    """Read what helm printed."""
    return [document for document in yaml.load_all(text, yaml.CSafeLoader) if document is not None]


def of_kind(objects: list[Any], kind: str) -> dict[str, Any]:
    """Pick the objects of a kind, by name."""
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}


@cache
def installed(name: str) -> dict[tuple[str, str], Any]:
    """Render one of `INSTALLATIONS`, once; returns its objects by kind and name without prefix."""
    prefix = f"{RELEASE}-waypost"
    return {
        (each["kind"], each["metadata"]["name"].removeprefix(prefix).lstrip("-")): each
        for each in render(name)
    }


def pods(objects: list[Any]) -> Iterator[tuple[str, Any]]:
    """Walk the pod templates: yields the component and the template."""
    for each in objects:
        template = each.get("spec", {}).get("template")
        if template is not None:
            yield template["metadata"]["labels"]["app.kubernetes.io/component"], template


def pod(objects: list[Any], component: str) -> Any:
    """Return the only pod template of a component."""
    (found,) = (template for name, template in pods(objects) if name == component)
    return found


def settings_of(objects: list[Any], component: str) -> tuple[str, dict[str, str]]:
    """Return the TOML that a component's pods read, and the environment they read it in."""
    spec = pod(objects, component)["spec"]
    container = spec["containers"][0]
    (volume,) = (volume for volume in spec["volumes"] if volume["name"] == "settings")
    (item,) = volume["configMap"]["items"]
    toml: str = of_kind(objects, "ConfigMap")[volume["configMap"]["name"]]["data"][item["key"]]
    return toml, {each["name"]: f"given-{each['name']}" for each in container["env"]}
