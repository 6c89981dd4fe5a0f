"""Starts Waypost with everything on: virtual key, filter, encoder, trained router, log."""

import hashlib
import http.client
import importlib.util
import sqlite3
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from gateways import Target
from processes import ROOT, CannotMeasure, Program, free_port, start, wait_for
from prometheus_client.parser import text_string_to_metric_families
from queries import write_evaluations
from upstreams import Upstream

UNCACHED = "Waypost auto"
CACHED = "Waypost auto, query seen before"
NAMED = "Waypost, model named"
MINILM = "Waypost auto, MiniLM"
ROUTED = (UNCACHED, CACHED, MINILM)

MODELS = [f"model-{number:02}" for number in range(1, 13)]
TEAM = "benchmark"
TRAINING_QUERIES = 600
START_TIMEOUT_S = 60.0
COMMAND_TIMEOUT_S = 180.0
SETTLE_S = 0.7
"""Longer than the evaluation log's flush interval."""

CONFIG = """data_dir = "{folder}"
[server]
port = {port}
admin_port = {admin_port}
admin_token = "{token}"
log_level = "warning"
[routing]
encoder = "{encoder}"
[embedded]
enabled = false
[providers.upstream]
base_url = "{base_url}"
api_key = "sk-upstream"
"""
MODEL = """[models.{name}]
provider = "upstream"
upstream_name = "answers-1"
price = {{ input_usd_per_mtok = {price:.3f}, output_usd_per_mtok = {output:.3f} }}
capabilities = {{ tools = true, vision = {vision}, json_schema = true, context_tokens = 128000 }}
"""
STREAMED = """[models.{name}]
provider = "upstream"
upstream_name = "{name}"
price = {{ input_usd_per_mtok = 1.0, output_usd_per_mtok = 2.0 }}
"""
"""Of a model that an upstream of a benchmark's own knows by this name."""
ADMIN_TOKEN = "benchmark-admin-token-0123456789abcdef"


@dataclass(frozen=True, slots=True)
class Instance:
    """One running Waypost.

    Attributes:
        folder: Its data directory; the log is the SQLite file in it.
    """

    program: Program
    folder: Path
    port: int
    admin_port: int
    key: str
    encoder: str


def train_router(kept: Path, encoder: str) -> Path:
    """Train a K-means router over all models with the project's own command.

    It is kept for later runs, as long as the code that reads it stays the same.
    """
    folder = kept / f"routers-{_digest()}"
    router = folder / f"{encoder}.safetensors"
    if router.exists():
        return router
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "evaluations.csv"
    write_evaluations(table, MODELS, TRAINING_QUERIES, seed=7)
    print(f"training a router for the {encoder} encoder (once) ...", file=sys.stderr, flush=True)
    new = folder / f"{encoder}-new.safetensors"
    _command("train", str(table), "--estimator", "kmeans", "--encoder", encoder, "--out", str(new))
    return new.replace(router)


def _digest() -> str:
    """Hash what decides whether a router of an earlier run can still be read."""
    package = ROOT / "router_models"
    files = (
        "encoders/manifest.json",
        "artifacts/artifact.py",
        *(f"estimators/{name}.py" for name in ("guard", "kmeans", "arrays")),
    )
    content = b"".join((package / name).read_bytes() for name in files)
    return hashlib.sha256(content).hexdigest()[:12]


def prepare(
    folder: Path, upstream: Upstream, encoder: str, router: Path, extra: str = ""
) -> tuple[Path, str]:
    """Write the settings, put the router in place and make a key; returns file and key.

    Args:
        extra: Settings to add, in TOML.
    """
    folder.mkdir()
    config = folder / "waypost.toml"
    settings = CONFIG.format(
        folder=folder,
        port=free_port(),
        admin_port=free_port(),
        token=ADMIN_TOKEN,
        encoder=encoder,
        base_url=upstream.base_url,
    )
    for rank, name in enumerate(MODELS):
        price = 0.05 * 1.5 ** min(rank, 12)
        vision = "true" if rank % 2 else "false"
        settings += MODEL.format(name=name, price=price, output=4 * price, vision=vision)
    config.write_text(settings + extra)
    _command("router", "import", str(router), "--activate", "--config", str(config))
    _command("teams", "create", TEAM, "--config", str(config))
    made = _command(
        "keys", "create", "--team", TEAM, "--name", "benchmark", "--config", str(config)
    )
    return config, made.split()[-1]


def ports_of(config: Path) -> tuple[int, int]:
    """Read back the callers' and the operators' port."""
    server = tomllib.loads(config.read_text())["server"]
    return server["port"], server["admin_port"]


def start_instance(
    name: str, folder: Path, upstream: Upstream, encoder: str, router: Path, extra: str = ""
) -> Instance:
    """Start one gateway in front of `upstream`; the caller stops it."""
    config, key = prepare(folder, upstream, encoder, router, extra)
    port, admin_port = ports_of(config)
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(config)]
    program = start(name, command, folder)
    return Instance(program, folder, port, admin_port, key, encoder)


def train_routers(kept: Path) -> dict[str, Path]:
    """Train a router per encoder that can run here, or take those of an earlier run."""
    has_runtime = importlib.util.find_spec("onnxruntime") is not None
    encoders = ("static", "minilm") if has_runtime else ("static",)
    return {encoder: train_router(kept, encoder) for encoder in encoders}


def start_waypost(
    folder: Path,
    routers: Mapping[str, Path],
    upstreams: Mapping[str, Upstream],
    running: list[Program],
) -> tuple[list[Target], list[Instance]]:
    """Start one gateway per upstream with the static encoder, and one with MiniLM."""
    targets: list[Target] = []
    instances: list[Instance] = []
    for mode, encoder in (
        ("json", "static"),
        ("stream", "static"),
        ("paced", "static"),
        ("json", "minilm"),
    ):
        if encoder not in routers:
            continue
        name = f"waypost-{mode}-{encoder}"
        instance = start_instance(name, folder / name, upstreams[mode], encoder, routers[encoder])
        running.append(instance.program)
        wait_for(instance.program, instance.port, "/ready", START_TIMEOUT_S)
        instances.append(instance)
        targets += _targets(instance, upstreams[mode])
    return targets, instances


def logged_turns(instance: Instance) -> int:
    """Count the answered turns in the evaluation log: proof that it was on."""
    with closing(sqlite3.connect(instance.folder / "waypost.db")) as database:
        row = database.execute("SELECT count(*) FROM turns WHERE error IS NULL").fetchone()
    return int(row[0])


def counters(instance: Instance) -> defaultdict[str, float]:
    """Read the gateway's own counters, such as those of its embedding cache, over all labels."""
    connection = http.client.HTTPConnection("127.0.0.1", instance.admin_port, timeout=5)
    try:
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        connection.request("GET", "/metrics", headers=headers)
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    totals: defaultdict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            totals[sample.name] += sample.value
    return totals


def _targets(instance: Instance, upstream: Upstream) -> list[Target]:
    def target(name: str, model: str = "auto", *, is_same_text: bool = False) -> Target:
        return Target(
            name,
            upstream.mode,
            instance.port,
            upstream,
            instance.program,
            headers={"Authorization": f"Bearer {instance.key}"},
            model=model,
            is_same_text=is_same_text,
            settle_s=SETTLE_S,
        )

    if instance.encoder == "minilm":
        return [target(MINILM)]
    if upstream.mode != "json":
        return [target(UNCACHED)]
    return [target(UNCACHED), target(CACHED, is_same_text=True), target(NAMED, MODELS[4])]


def _command(*arguments: str) -> str:
    """Run a `waypost` command and return what it printed.

    Raises:
        CannotMeasure: It failed.
    """
    ran = subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    if ran.returncode:
        raise CannotMeasure(f"waypost {arguments[0]} failed:\n{ran.stdout}{ran.stderr}")
    return ran.stdout
