"""What the images hold is what their processes need: checked without building them."""

import re
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tests.fakes.distributions import ROOT, brought_along

DOCKERFILE = (ROOT / "Dockerfile").read_text()
STAGES = {"gateway": "GATEWAY_EXTRAS", "federation": "FEDERATION_EXTRAS"}
TRAINING = {"torch", "scikit-learn", "pyarrow", "matplotlib", "flwr", "transformers"}
HIDING = """
import importlib, sys

class Hiding:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"hidden: {name}", name=name)

hidden = set(sys.argv[1].split(","))
sys.meta_path.insert(0, Hiding())
for module in sys.argv[2:]:
    importlib.import_module(module)
"""


def stage(name: str) -> str:
    """Return the instructions of one stage."""
    found = re.search(rf"^FROM \S+ AS {name}$(.*?)(?=^FROM |\Z)", DOCKERFILE, re.M | re.S)
    assert found is not None, name
    return found[1]


def installed(image: str) -> set[str]:
    """Name every distribution that an image installs."""
    extras = re.search(rf"ARG {STAGES[image]}=(\S+)", DOCKERFILE)
    assert extras is not None
    return brought_along(extras[1].split(","))


def import_in(image: str, *modules: str) -> None:
    """Import `modules` in a process from which everything is hidden that the image has not.

    Raises:
        AssertionError: One of them needs what is hidden.
    """
    has = installed(image)
    owners = packages_distributions().items()
    hidden = [top for top, names in owners if not {canonicalize_name(n) for n in names} & has]
    ended = subprocess.run(
        [sys.executable, "-c", HIDING, ",".join(hidden), *modules],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr


def test_hadolint_finds_no_fault():
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint is not None, "hadolint is missing: pip install 'waypost[dev]'"

    ended = subprocess.run(
        [hadolint, ROOT / "Dockerfile"], check=False, capture_output=True, text=True
    )

    assert ended.stdout == ""


def test_the_gateway_image_has_all_that_serving_and_operating_load():
    commands = ("serve", "keys", "teams", "budgets", "database", "router", "policy", "route")

    import_in("gateway", *(f"gateway.commands.{name}" for name in commands))


def test_the_gateway_image_has_no_training_library():
    assert installed("gateway") & TRAINING == set()


def test_the_federation_image_has_all_that_its_commands_load():
    work = (
        "commands.train",
        "commands.federation",
        "federation.router_node",
        "federation.router_sessions",
    )

    import_in("federation", *(f"gateway.{name}" for name in work))


@pytest.mark.parametrize("image", STAGES)
def test_an_image_runs_as_a_number_that_is_not_root_and_cannot_install(image: str):
    assert stage(image).count("COPY --from=") == 1
    assert not re.search(r"^(RUN|ADD|USER)", stage(image), re.M)
    assert re.search(r"^USER 10001:10001$", stage("runtime"), re.M)
    assert "--without-pip /opt/venv" in stage("build")


@pytest.mark.parametrize("image", STAGES)
def test_an_image_says_whether_it_is_healthy_and_passes_signals_on(image: str):
    assert re.search(r"^HEALTHCHECK ", stage(image), re.M)
    assert re.search(r'^ENTRYPOINT \["/usr/bin/tini", "--", "waypost"\]$', stage("runtime"), re.M)


def test_the_builder_is_sent_what_is_copied_and_nothing_else():
    kept = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.M)
    copied = [
        source
        for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.M)
        for source in sources.split()
    ]

    assert sorted(kept) == sorted(copied)
    assert all((ROOT / name).exists() for name in kept)
