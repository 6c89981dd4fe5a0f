"""What a wheel of this tree holds, and that it runs where others have packages of our names."""

import hashlib
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from tests.installed_answer import OUR_NAMES, write_packages_of_our_names

ROOT = Path(__file__).resolve().parents[2]
MINILM = ROOT / "router_models" / "encoders" / "minilm"
MINILM_SHA256 = {"1.0.0": "d26c56fbbc8c79c4b60e98b64b0f5a4c1c671d5db1b9c6c2e4b0df1e3a747a8a"}
pytestmark = pytest.mark.xdist_group("wheel")


def build(project: Path, folder: Path) -> zipfile.ZipFile:
    """Build a project's wheel."""
    command = (sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder))
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return build(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return build(MINILM, tmp_path_factory.mktemp("weights"))


def test_takes_no_name_that_others_may_have(wheel: zipfile.ZipFile) -> None:
    tops = {PurePosixPath(name).parts[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"waypost.py", "_waypost"}


@pytest.mark.parametrize("package", OUR_NAMES)
def test_every_package_says_that_it_is_typed(wheel: zipfile.ZipFile, package: str) -> None:
    assert f"_waypost/{package}/py.typed" in wheel.namelist()


def test_the_licences_come_along(wheel: zipfile.ZipFile, weights: zipfile.ZipFile) -> None:
    licences = {name.partition("licenses/")[2] for name in wheel.namelist()} - {""}
    assert licences == {
        "LICENSE",
        "gateway/routing/data/NOTICE",
        "router_models/encoders/NOTICE",
    }
    assert {"LICENSE", "NOTICE"} <= {PurePosixPath(name).name for name in weights.namelist()}


def test_the_weights_of_the_accurate_encoder_are_another_distribution(
    wheel: zipfile.ZipFile, weights: zipfile.ZipFile
) -> None:
    assert sum(entry.compress_size for entry in wheel.infolist()) < 10_000_000
    assert not [name for name in wheel.namelist() if "encoders/minilm/" in name]
    assert "_waypost/router_models/encoders/minilm/model.onnx" in weights.namelist()
    assert not set(wheel.namelist()) & set(weights.namelist())


def test_other_weights_have_another_version() -> None:
    version = tomllib.loads((MINILM / "pyproject.toml").read_text())["project"]["version"]
    found = hashlib.sha256((MINILM / "model.onnx").read_bytes()).hexdigest()
    assert MINILM_SHA256[version] == found


@pytest.mark.parametrize("command", [("-c", "import waypost; waypost.main()"), ("-m", "waypost")])
def test_runs_beside_other_packages_of_our_names(
    wheel: zipfile.ZipFile, tmp_path: Path, command: tuple[str, str]
) -> None:
    site = tmp_path / "site"
    wheel.extractall(site)
    others = write_packages_of_our_names(tmp_path)
    shown = subprocess.run(
        [sys.executable, "-P", *command, "keys", "--help"],
        env={**os.environ, "PYTHONPATH": f"{others}{os.pathsep}{site}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.stderr == ""
    assert "Create, list and revoke virtual keys" in shown.stdout


def test_what_ci_asks_of_an_installed_wheel_is_true_here_too() -> None:
    asked = ROOT / "tests" / "installed_answer.py"
    shown = subprocess.run(
        [sys.executable, asked], capture_output=True, text=True, check=False, timeout=600
    )
    assert shown.returncode == 0, shown.stderr
