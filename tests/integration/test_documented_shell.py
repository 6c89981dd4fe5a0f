"""The how-to pages as a newcomer types them: every command of a page, in one shell, from the top.

Nothing is defined beforehand but what the operator of a gateway has: `WAYPOST_CONFIG`, and
`waypost` on the path. Examples of ids and files stand for what the shell printed last, which is
what a reader takes.
"""

import asyncio
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.commands.calibrate import PACKAGED_PROMPTS
from tests.fakes.openai_evals_files import SPEC, match, sampling, write
from tests.fakes.pages import ROOT, blocks
from tests.fakes.postgres import Postgres
from tests.fakes.processes import COVERED, start
from tests.fakes.server import serve
from tests.fakes.upstream import completion, json_answer

HOW_TO = ROOT / "docs" / "how-to"
TYPED = (
    ("manage-keys.md", "judge-answers.md", "keep-data-where-it-may-go.md"),
    ("cap-spending.md", "see-what-was-spent.md"),
    (
        "onboard-a-model.md",
        "train-a-router.md",
        "export-the-log.md",
        "grade-without-labels.md",
        "sign-artefacts.md",
        "learn-by-itself.md",
    ),
    ("back-up-and-move.md", "import-evaluations.md"),
)
"""Pages that are typed, in each group by one reader, who follows one after the other."""
NOT_TYPED = {
    "cap-a-conversation.md": "a trained budget policy takes an hour",
    "configure-providers.md": "keys of providers, and a gateway in the foreground",
    "deploy-on-kubernetes.md": "a cluster",
    "release.md": "a public repository and its registry",
    "run-a-coordinator.md": "several machines: tests/integration/deployed_federation",
    "see-cost-and-quality.md": "days of traffic by two routers",
    "trace-requests.md": "an OTLP collector: tests/integration/test_tracing.py",
    "tune-a-reasoning-model.md": "a GPU, or hours",
    "use-anthropic-clients.md": "Claude Code",
    "use-codex-and-agents.md": "Codex",
    "use-other-endpoints.md": "no command",
}
MAY_FAIL = {
    "waypost router rollback": "there is no earlier version",
    "waypost learn approve": "the learner has proposed nothing",
    "waypost learn rollback": "there is no earlier version",
}
EXAMPLES = {
    "3f9c1c8a7b21": re.compile(r"\bwp-([0-9a-f]{12})-"),
    "3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29": re.compile(
        r"public key: ([0-9a-f]{64})"
    ),
    "kmeans-20261122-0123456789ab": re.compile(r"\b(kmeans-\d{8}-[0-9a-f]{12})\b"),
}
"""What a page shows where the reader puts what a command printed."""
POSTGRES = "postgresql://waypost:hush@db.example.com/waypost"
"""What a page shows for an empty database of the reader's."""
EVALUATIONS = ROOT / "tests" / "data" / "evaluation_files"
DONE = "the command has ended"
REFERENCES = {
    prompt["text"]: prompt["verifier"].get("reference", "")
    for prompt in map(json.loads, PACKAGED_PROMPTS.read_text().splitlines())
}
SETTINGS = """
[server]
port = {port}
admin_port = {admin_port}
[providers.host]
base_url = "{upstream}/v1"
[models.small]
provider = "host"
price = {{ input_usd_per_mtok = 0.1, output_usd_per_mtok = 0.2 }}
[models.large]
provider = "host"
price = {{ input_usd_per_mtok = 1.0, output_usd_per_mtok = 2.0 }}
[routing]
encoder = "static"
[evaluation_log]
flush_interval_s = 0.01
[data_rules.europe]
requires = ["eu"]
[data_rules.patients]
requires = ["eu"]
"""


async def knowing(scope: Any, receive: Any, send: Any) -> None:
    """Answer the packaged prompts: the large model knows more of them than the small one."""
    raw = b""
    while (message := await receive()).get("more_body") or message.get("body"):
        raw += message["body"]
        if not message.get("more_body"):
            break
    body = json.loads(raw)
    text = body["messages"][-1]["content"]
    luck = hashlib.sha256(f"{body['model']} {text}".encode()).digest()[0] / 256
    is_known = luck < {"small": 0.4, "large": 0.9}[body["model"]]
    answer = json_answer(completion(text=str(REFERENCES.get(text, "7")) if is_known else "?"))
    headers = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"".join(answer.chunks)})


@dataclass
class Shell:
    """One bash that ends at the first command that fails."""

    process: asyncio.subprocess.Process
    ports: dict[str, str]
    postgres: Postgres
    printed: str = ""

    async def type(self, command: str) -> None:
        """Type a command; keep what it prints."""
        for example, shown in EXAMPLES.items():
            if example in command:
                command = command.replace(example, shown.findall(self.printed)[-1])
        for documented, real in self.ports.items():
            command = command.replace(f"127.0.0.1:{documented}", f"127.0.0.1:{real}")
        if POSTGRES in command:
            command = command.replace(POSTGRES, self.postgres.new_database())
        if command.split("#")[0].strip() in MAY_FAIL:
            command = f"{command.split('#')[0]} || true"
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{{ {command}\n}} </dev/null; echo; echo {DONE}\n".encode())
        said = ""
        while line := (await self.process.stdout.readline()).decode():
            if line == f"{DONE}\n":
                self.printed += said
                return
            said += line
        raise AssertionError(f"this failed: {command}\n{said}")


def commands_of(page: str) -> list[str]:
    """Split a page's blocks of shell into commands, each of one line or several."""
    commands = []
    for block in blocks("sh", "bash"):
        if block.place.startswith(f"docs/how-to/{page}:"):
            command = ""
            for line in block.text.splitlines():
                command += line
                if is_whole(command):
                    commands.append(command)
                    command = ""
                else:
                    command += "\n"
    return [command for command in commands if command.strip()]


def is_whole(command: str) -> bool:
    if command.endswith("\\"):
        return False
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return False
    return True


@pytest.fixture
async def shell(tmp_path: Path, postgres: Postgres) -> AsyncIterator[Shell]:
    """A shell of somebody whose gateway runs, in a home of their own."""
    ports = free_ports()
    config = tmp_path / "waypost.toml"
    environ = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path),
        "WAYPOST_CONFIG": str(config),
        "WAYPOST_DATA_DIR": str(tmp_path / ".local/share/waypost"),
        **{name: os.environ[name] for name in COVERED if name in os.environ},
    }
    evaluate_before(tmp_path)
    async with serve(knowing, lifespan="off") as upstream:
        config.write_text(
            f'data_dir = "{environ["WAYPOST_DATA_DIR"]}"\n'
            + SETTINGS.format(port=ports["8080"], admin_port=ports["8081"], upstream=upstream)
        )
        async with start(config) as gateway:
            await gateway.started()
            process = await asyncio.create_subprocess_exec(
                *("bash", "-euo", "pipefail"),
                cwd=tmp_path,
                env=environ,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            yield Shell(process, ports, postgres)
            assert process.stdin is not None
            process.stdin.close()
            await process.wait()
            await gateway.end(signal.SIGTERM)


def evaluate_before(home: Path) -> None:
    """Leave the files of other tools that a page takes its reader to have."""
    shutil.copytree(EVALUATIONS / "lm_eval", home / "runs")
    for model, knows in (("gpt-4o-mini", 3), ("claude-haiku-4-5", 2)):
        samples = {
            f"{number}": [
                sampling(f"How many berths has pier {number}?", model=model),
                match(correct=number % knows > 0),
            ]
            for number in range(60)
        }
        (home / "logs" / model).mkdir(parents=True)
        write(home / "logs" / model, samples, SPEC | {"completion_fns": [model]})
    models = ["gpt-4-1106-preview", "mistralai/mixtral-8x7b-chat"]
    (home / "map.toml").write_text(
        f'[columns]\ntext = "prompt"\ntask = "eval_name"\nmodels = {json.dumps(models)}\n'
        'score = "{model}"\ncost_usd = "{model}|total_cost"\n'
    )
    heads = ["prompt", "eval_name", *models, *(f"{model}|total_cost" for model in models)]
    rows = (f"Where is pier {number}?,piers,1,0,0.01,0.001" for number in range(5))
    (home / "routerbench.csv").write_text("\n".join([",".join(heads), *rows]) + "\n")


def free_ports() -> dict[str, str]:
    """Choose ports for those that the pages name, which something else may have here."""
    with (
        socket.create_server(("127.0.0.1", 0)) as first,
        socket.create_server(("127.0.0.1", 0)) as second,
    ):
        return {
            "8080": str(first.getsockname()[1]),
            "8081": str(second.getsockname()[1]),
        }


@pytest.mark.parametrize("pages", TYPED, ids=" ".join)
async def test_every_command_of_a_page_works_as_it_is_typed(shell, pages):
    for page in pages:
        commands = commands_of(page)
        assert commands
        for command in commands:
            await shell.type(command)


async def test_a_guide_followed_to_the_letter_lets_no_model_serve_that_is_unproven(shell):
    """The guide once ended in a router of one model, which was then given nearly every turn."""
    for command in commands_of("onboard-a-model.md"):
        await shell.type(command.replace("calibrate --max", "calibrate --model small --max"))
    assert "small alone has graded answers, so there is nothing to choose between" in shell.printed

    await shell.type("waypost train evaluations.parquet --estimator kmeans")
    await shell.type(
        "waypost router import kmeans-20261122-0123456789ab.safetensors --activate || echo refused"
    )

    assert "it knows one model only, so small would get every turn" in shell.printed
    assert "refused" in shell.printed


def test_every_guide_is_typed_or_says_why_not():
    typed = [page for pages in TYPED for page in pages]

    assert sorted([*typed, *NOT_TYPED]) == sorted(page.name for page in HOW_TO.glob("*.md"))
