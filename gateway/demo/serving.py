"""A gateway of its own for a demonstration: a process on this machine, gone when it is over."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import click

from gateway.embedded.process import PASSED_VARIABLES

# The prior that ships knows nothing of these models, and a router of so few answers has to stand
# beside what serves.
SETTINGS: Final = """\
data_dir = {folder}
[server]
port = 0
admin_port = 0
drain_s = 0.0
[embedded]
enabled = true
router = false
[evaluation_log]
flush_interval_s = 0.1
[routing]
artifact_poll_s = 0.1
prior = false
[routing.exploration]
kind = "epsilon"
epsilon = {epsilon}
[learning]
on_acceptance = "activate"
[profiles.balanced]
willingness_to_pay_usd = {willingness_to_pay_usd}
models = {models}
"""
STOP_S: Final = 10.0


class Address(NamedTuple):
    """Where a gateway is asked, and with which key."""

    url: str
    key: str


@contextmanager
def serving(file: Path, environ: Mapping[str, str]) -> Iterator[Address]:
    """Run `waypost serve` until the end of the block; it gets no provider's key of `environ`.

    Raises:
        ClickException: It does not start; the message is what it said.
    """
    kept = {name: environ[name] for name in PASSED_VARIABLES if name in environ}
    # This very code, wherever it lies: see `docs/decisions/packaging.md`.
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    command = (sys.executable, "-m", "gateway", "serve", "--config", str(file))
    log = file.with_name("serve.log")
    with log.open("wb") as errors:
        process = subprocess.Popen(  # noqa: S603
            command, env=kept, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        yield _address(process, log)
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _address(process: "subprocess.Popen[str]", log: Path) -> Address:
    """Read the key and the address from what the gateway says when it starts."""
    key = ""
    for line in process.stdout or ():
        if "your key" in line:
            key = Path(line.split(" in ", 1)[1].strip()).read_text().strip()
        if line.startswith("Waypost serves "):
            return Address(line.split()[2], key)
    raise click.ClickException(f"the gateway did not start:\n{log.read_text()}")
