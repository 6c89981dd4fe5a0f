"""Drive the gateway with real clients, unmodified, and write which of their capabilities work.

Usage: python -m benchmarks.clients.run [--only NAME ...] [--work DIR] [--keep] [--limit SECONDS]

Each client is installed by itself from the package index, with `uv` or `npm`, and removed again.
Results are merged into results.json, and the tables of README.md are written anew.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.clients.catalogue import CLIENTS, Client
from benchmarks.clients.deployment import COLUMNS, Deployment, deployed
from benchmarks.clients.report import write_report

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results.json"
INSTALL_S = 900
MOST_SAID = 300


class InstallFailed(Exception):
    """The package index did not serve a client."""


async def main() -> None:
    options = _options()
    async with AsyncExitStack() as stack:
        work = options.work
        if work is None:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work.mkdir(parents=True, exist_ok=True)
        deployment = await stack.enter_async_context(deployed(_fresh(work)))
        for name in options.only or CLIENTS:
            await measure(name, work, deployment, options.limit, keeps=options.keep)
    write_report(json.loads(RESULTS.read_text()), FOLDER / "README.md")


def _fresh(folder: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=folder, prefix="run-"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="+", choices=CLIENTS, metavar="NAME")
    parser.add_argument("--work", type=Path, help="where clients are installed")
    parser.add_argument("--keep", action="store_true", help="leave them there")
    parser.add_argument(
        "--limit",
        type=float,
        default=3600,
        metavar="SECONDS",
        help="for each client; what it was not asked by then is left out",
    )
    return parser.parse_args()


async def measure(
    name: str, work: Path, deployment: Deployment, limit_s: float, *, keeps: bool
) -> None:
    """Install a client, try it on every model, and merge what came of it into the results."""
    client = CLIENTS[name]
    home = work / re.sub(r"\W+", "-", name)
    home.mkdir(exist_ok=True)
    entry: dict[str, Any] = {"date": datetime.now(UTC).date().isoformat()}
    try:
        entry["version"] = await install(client, home)
        entry["modes"] = _verdicts(await drive(client, home, deployment, limit_s))
    except InstallFailed as error:
        entry["not_installed"] = str(error)
    finally:
        if not keeps:
            shutil.rmtree(home, ignore_errors=True)
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    known[name] = entry
    ordered = {each: known[each] for each in CLIENTS if each in known}
    RESULTS.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n")
    print(name, _summary(entry), flush=True)


def _verdicts(lines: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Sort the lines of a script: by mode, capability and column."""
    modes: dict[str, Any] = {}
    for line in lines:
        verdict = "ok" if line["error"] is None else line["error"][:MOST_SAID]
        columns = modes.setdefault(line["mode"], {}).setdefault(line["capability"], {})
        columns[line["column"]] = verdict
    return modes


async def install(client: Client, home: Path) -> str:
    """Install a client under `home`; return its version.

    Raises:
        InstallFailed: The index does not serve it.
    """
    if client.registry == "npm":
        (home / "package.json").write_text('{"private": true, "type": "module"}')
        await _command(home, "npm", "install", "--silent", "--no-audit", *client.packages)
        name = client.packages[0]
        name = name[: name.rfind("@")] if name.rfind("@") > 0 else name
        described = home / "node_modules" / name / "package.json"
        return str(json.loads(described.read_text())["version"])
    python = str(home / "venv" / "bin" / "python")
    await _command(home, "uv", "venv", "--allow-existing", "--python", sys.executable, "venv")
    await _command(home, "uv", "pip", "install", "--python", python, *client.packages)
    name = client.packages[0].split("[", maxsplit=1)[0].split("=", maxsplit=1)[0]
    ask = f"import importlib.metadata as m; print(m.version({name!r}))"
    return (await _command(home, python, "-c", ask)).strip()


async def _command(home: Path, *command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=home,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), INSTALL_S)
    if process.returncode != 0:
        raise InstallFailed(output.decode(errors="replace")[-MOST_SAID:])
    return output.decode()


async def drive(
    client: Client, home: Path, deployment: Deployment, limit_s: float
) -> list[dict[str, Any]]:
    """Run a client's script in a folder of its own; return the lines that it wrote in its time."""
    folder = _fresh(home)
    script = FOLDER / "scripts" / client.script
    if script.suffix == ".mjs":  # Node finds packages beside the script
        for each in (script, script.with_name("harness.mjs")):
            shutil.copy(each, home / each.name)
        command = ["node", str(home / script.name)]
    else:
        python = home / "venv" / "bin" / "python"
        command = [str(python) if python.exists() else sys.executable, str(script)]
    printed, said = folder / "printed.txt", folder / "said.txt"
    with printed.open("wb") as output, said.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=folder,
            env=_environ(home, folder, deployment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
        )
        is_late = await _is_late(process, folder, limit_s)
    lines = [json.loads(line) for line in printed.open("rb") if line.startswith(b'{"mode"')]
    if process.returncode != 0 and not is_late:
        error = said.read_text(errors="replace")[-MOST_SAID:] or f"status {process.returncode}"
        told = {"mode": "script", "capability": "plain", "error": error}
        lines += [{**told, "column": column} for column in COLUMNS]
    return lines


async def _is_late(process: asyncio.subprocess.Process, home: Path, limit_s: float) -> bool:
    """Wait for a script, at most so long; end it and all that it started."""
    try:
        await asyncio.wait_for(process.wait(), limit_s)
    except TimeoutError:
        _end_all(home)
        await process.wait()
        return True
    _end_all(home)
    return False


def _end_all(home: Path) -> None:
    """End what runs with this home, daemons too: some agents leave one behind."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"\0HOME={home}\0".encode() in b"\0" + (process / "environ").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)


def _environ(home: Path, folder: Path, deployment: Deployment) -> Mapping[str, str]:
    """The environment of a script: a home of its own, and nothing of this machine's accounts."""
    path = f"{home / 'node_modules' / '.bin'}:{home / 'venv' / 'bin'}:{os.environ['PATH']}"
    return {
        "PATH": path,
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "WAYPOST_URL": deployment.url,
        "WAYPOST_KEY": deployment.key,
        "WAYPOST_MODELS": json.dumps(COLUMNS),
    }


def _summary(entry: Mapping[str, Any]) -> str:
    if "not_installed" in entry:
        return f"not installed: {entry['not_installed']}"
    verdicts = [
        (mode, capability, column, verdict)
        for mode, capabilities in entry["modes"].items()
        for capability, columns in capabilities.items()
        for column, verdict in columns.items()
    ]
    failed = [f"\n  {m} {k} {c}: {v}" for m, k, c, v in verdicts if v != "ok"]
    passed = len(verdicts) - len(failed)
    return f"{entry['version']}: {passed} of {len(verdicts)}{''.join(failed)}"


if __name__ == "__main__":
    asyncio.run(main())
