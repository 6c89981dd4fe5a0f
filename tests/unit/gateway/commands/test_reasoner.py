"""`waypost reasoner`, as an operator types it, on a real model that is tiny."""

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from peft import PeftModel
from transformers import AutoModelForCausalLM

from federation.reasoner.lora import base_sha256
from gateway.access.keys import KeyStore
from gateway.artifacts.store import adapter_store
from gateway.cli import cli
from gateway.evaluation_log.evaluation_log import EvaluationLog
from gateway.evaluation_log.grades import GradeRecord
from gateway.pool.announcements import Announcement, AnnouncementFile
from gateway.settings.config import EvaluationLogSettings, GatewaySettings
from gateway.storage.database import create_database_engine
from router_models.artifacts.adapter import BaseModel, load
from tests.fakes.adapters import adapter_weights, sealed_adapter
from tests.fakes.digits import library_tokenizer
from tests.fakes.language_models import tiny_model
from tests.fakes.schemas import with_schema
from tests.fakes.turns import make_turn

# peft asks a transformers model by a name that transformers 5 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

VERSION = re.compile(r"lora-\d{8}-[0-9a-f]{12}")
SMALL = (
    "--rank",
    "2",
    "--prompts-per-step",
    "4",
    "--max-new-tokens",
    "4",
    "--learning-rate",
    "0.01",
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tokenizer = library_tokenizer()
    tiny_model(seed=3, n_tokens=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """Prompts that any answer with a 0 or a 1 in it satisfies."""
    verifier = {"kind": "regex", "pattern": "[01]"}
    lines = [
        {"query_id": str(n), "text": str(n), "verifier": verifier, "task": f"task-{n % 2}"}
        for n in range(8)
    ]
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


@pytest.fixture
def waypost(tmp_path: Path):
    config = tmp_path / "waypost.toml"
    config.write_text(f'data_dir = "{tmp_path}"\n')

    def run(*arguments: str, fails: bool = False) -> str:
        given = [*map(str, arguments), "--config", str(config)]
        result = CliRunner().invoke(cli, ["reasoner", *given])
        assert (result.exit_code != 0) == fails, (result.output, result.exception)
        return result.output if fails else result.stdout

    return run


@pytest.fixture
def train(waypost, prompts, base):
    def train(*arguments: str, fails: bool = False) -> str:
        output: str = waypost("train", prompts, "--base", base, *SMALL, *arguments, fails=fails)
        return output

    return train


def version_in(output: str) -> str:
    found = VERSION.search(output)
    assert found is not None, output
    return found[0]


def trained(tmp_path: Path, output: str):
    return load(adapter_store(GatewaySettings(data_dir=tmp_path)).read(version_in(output)))


def test_tunes_a_model_and_keeps_the_adapter_with_its_history(train, tmp_path, base):
    adapter = trained(tmp_path, train("--steps", "3"))

    assert adapter.manifest.base_model == str(base)
    assert (adapter.manifest.rank, adapter.manifest.alpha) == (2, 4)
    assert adapter.manifest.provenance == {"prompts": 8, "steps": 3}
    assert len(adapter.manifest.training["curve"]) == 3
    assert any(up.any() for _, up in adapter.pairs().values())


def test_a_run_that_was_stopped_ends_as_if_it_never_was(train, tmp_path):
    kept = tmp_path / "run.pt"
    train("--steps", "2", "--checkpoint", kept)
    resumed = trained(tmp_path, train("--steps", "4", "--checkpoint", kept))
    straight = trained(tmp_path, train("--steps", "4"))

    assert resumed.manifest.training["curve"] == straight.manifest.training["curve"]
    for name, weights in straight.weights.items():
        np.testing.assert_array_equal(resumed.weights[name], weights)


def test_does_not_go_on_from_another_run_s_checkpoint(train, prompts, tmp_path):
    kept = tmp_path / "run.pt"
    train("--steps", "1", "--checkpoint", kept)

    assert "has other seed" in train("--seed", "7", "--checkpoint", kept, fails=True)
    prompts.write_text(prompts.read_text().replace("[01]", "[2]"))
    assert "other prompts" in train("--checkpoint", kept, fails=True)
    kept.write_bytes(b"not a checkpoint")
    assert "cannot be read as a checkpoint" in train("--checkpoint", kept, fails=True)


def test_measures_the_base_and_adapters_on_every_task(train, waypost, prompts, base):
    version = version_in(train("--steps", "6"))

    lines = waypost("evaluate", version, "--prompts", prompts, "--base", base).splitlines()

    assert lines[0].split() == ["task-0", "task-1", "all"]
    assert [line.split()[0] for line in lines[1:]] == ["base", version]
    accuracy = [float(line.split()[-4]) for line in lines[1:]]
    assert accuracy[1] >= accuracy[0]


def test_does_not_measure_an_adapter_on_another_model(waypost, prompts, base, tmp_path):
    other = adapter_store(GatewaySettings(data_dir=tmp_path)).put(
        sealed_adapter(base=BaseModel("other", "cd" * 32))
    )

    said = waypost("evaluate", other.version, "--prompts", prompts, "--base", base, fails=True)
    assert "was tuned from other" in said


def test_measures_an_adapter_of_some_layers_only(waypost, prompts, base, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(base)
    width = model.config.hidden_size
    weights = adapter_weights(["model.layers.1.self_attn.o_proj"], width=width)
    identity = BaseModel("tiny", base_sha256(model))
    version = (
        adapter_store(GatewaySettings(data_dir=tmp_path))
        .put(sealed_adapter(weights=weights, base=identity))
        .version
    )

    lines = waypost("evaluate", version, "--prompts", prompts, "--base", base).splitlines()
    assert lines[2].startswith(version)


def test_exports_what_peft_loads(train, waypost, base, tmp_path):
    output = train("--steps", "2")
    waypost("adapters", "export", version_in(output), tmp_path / "out")

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "out")
    name = "base_model.model.model.layers.1.mlp.up_proj.lora_B"
    loaded = model.get_parameter(f"{name}.default.weight").detach().numpy()
    np.testing.assert_array_equal(loaded, trained(tmp_path, output).weights[f"{name}.weight"])
    assert torch.isfinite(model(input_ids=torch.tensor([[1, 2]])).logits).all()


def test_lists_shows_and_imports_adapters(waypost, tmp_path):
    assert "no adapter" in waypost("adapters", "list")
    file = tmp_path / "adapter.safetensors"
    file.write_bytes(sealed_adapter())
    version = version_in(waypost("adapters", "import", file))

    assert f"{version}  2026-11-23 12:00  rank 2  tiny-llama" in waypost("adapters", "list")
    shown = json.loads(waypost("adapters", "show", version))
    assert (shown["base_model"], shown["rank"]) == ("tiny-llama", 2)
    file.write_bytes(b"x")
    assert "too short for an artefact" in waypost("adapters", "import", file, fails=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "no prompt"), ("{", "not JSON"), ('{"query_id": "1", "text": "1"}', "verifier")],
)
def test_says_what_is_wrong_with_prompts(train, prompts, content, message):
    prompts.write_text(content)
    assert message in train(fails=True)


def test_says_that_a_model_cannot_be_loaded(waypost, prompts, tmp_path):
    said = waypost("train", prompts, "--base", tmp_path / "missing", fails=True)
    assert "--base" in said
    assert "cannot be loaded" in said


def test_without_a_file_and_without_verified_prompts_there_is_nothing_to_learn(waypost, base):
    assert "of a team that opted in" in waypost("train", "--base", base, fails=True)


async def test_writes_the_log_s_prompts_for_their_owner_alone(waypost, tmp_path):
    engine = create_database_engine(f"sqlite:///{tmp_path / 'waypost.db'}")
    with_schema(engine)
    KeyStore(engine).create_team("blue", trains_reasoner=True)
    settings = EvaluationLogSettings(flush_interval_s=0.01)
    log = EvaluationLog(engine, settings, tmp_path / "spool")
    asked = ({"role": "user", "content": "6 x 7?"},)
    log.record(make_turn(1, team_id="blue", messages=asked, started_at_unix_s=time.time()))
    check = {"kind": "numeric", "reference": "42"}
    log.record_grade(
        GradeRecord("g", "req_000001", "blue", "me", "verifier", 1.0, None, time.time(), check)
    )
    log.start()
    await log.aclose()
    engine.dispose()

    out = tmp_path / "private.jsonl"
    assert "1 prompts" in waypost("prompts", "--out", out)
    assert json.loads(out.read_text())["messages"] == [dict(asked[0])]
    assert out.stat().st_mode & 0o777 == 0o600


def test_says_how_prompts_come_into_the_log(waypost, tmp_path):
    assert "--train-reasoner" in waypost("prompts", "--out", tmp_path / "private.jsonl")
    assert "cannot be written" in waypost("prompts", "--out", tmp_path / "no" / "x", fails=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("auto", "a routing profile"),
        ("balanced", "a routing profile"),
        ("smollm2-135m", "another model's"),
        ("two words", "without spaces"),
    ],
)
def test_offers_no_adapter_under_a_name_that_is_taken(waypost, tmp_path, name, message):
    version = adapter_store(GatewaySettings(data_dir=tmp_path)).put(sealed_adapter()).version
    assert message in waypost("embed", version, "--name", name, fails=True)


def test_embeds_only_what_was_tuned_from_the_embedded_model(waypost, tmp_path):
    version = adapter_store(GatewaySettings(data_dir=tmp_path)).put(sealed_adapter()).version

    said = waypost("embed", version, "--name", "tuned", fails=True)
    assert "was tuned from tiny-llama" in said
    taken = ("--name", "tuned", "--model", "nowhere")
    assert "no embedded model 'nowhere'" in waypost("embed", version, *taken, fails=True)


def test_an_embedded_adapter_is_withdrawn(waypost, tmp_path):
    file = AnnouncementFile(adapter_store(GatewaySettings(data_dir=tmp_path)).folder)
    file.put(Announcement("tuned", "smollm2-135m", load(sealed_adapter()).version))

    assert "tuned is offered no longer" in waypost("withdraw", "tuned")
    assert "no adapter is offered under the name" in waypost("withdraw", "tuned", fails=True)


def test_says_that_the_server_cannot_be_reached(waypost, tmp_path):
    with (tmp_path / "waypost.toml").open("a") as config:
        config.write(
            '[providers.vllm]\nbase_url = "http://127.0.0.1:9/v1"\n[models.base]\n'
            'provider = "vllm"\nprice = { input_usd_per_mtok = 1, output_usd_per_mtok = 1 }\n'
        )
    version = adapter_store(GatewaySettings(data_dir=tmp_path)).put(sealed_adapter()).version
    said = waypost("announce", version, "--model", "base", "--name", "maths", fails=True)
    assert "http://127.0.0.1:9/v1/ cannot be reached" in said


def test_announces_only_on_models_of_the_settings(waypost, tmp_path):
    version = adapter_store(GatewaySettings(data_dir=tmp_path)).put(sealed_adapter()).version
    said = waypost("announce", version, "--model", "nowhere", "--name", "maths", fails=True)
    assert "no model 'nowhere'" in said
