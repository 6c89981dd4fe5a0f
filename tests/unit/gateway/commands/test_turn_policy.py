import asyncio
import json
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from budget.policies.artifact import load
from budget.policies.tab import AllSubQuestionsPolicy
from budget.training.train import TrainingSettings
from gateway.cli import cli
from gateway.commands import turn_policy
from gateway.problems.problem_files import ProblemRow
from gateway.routing.encoders import load_encoder
from tests.fakes.completions import answer_of
from tests.fakes.problems import write_problems
from tests.fakes.server import serve
from tests.fakes.upstream import ScriptedUpstream

QUESTIONS = {"sum": ("Add {} and 7.", 20, 1.0), "essay": ("Prove theorem {}.", 400, 0.0)}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = []
    for split, n_problems in (("train", 20), ("val", 8), ("test", 8)):
        for number in range(n_problems):
            second = "sum" if number % 2 else "essay"
            for turn, kind in enumerate(("sum", second)):
                text, tokens, score = QUESTIONS[kind]
                rows.append(
                    ProblemRow(
                        f"{split}/{number}",
                        turn,
                        text.format(number),
                        0,
                        tokens,
                        score,
                        split=split,
                    )
                )
    write_problems(rows, tmp_path / "problems.parquet")
    return tmp_path / "problems.parquet"


def invoke(*arguments):
    return CliRunner().invoke(turn_policy.command, [str(argument) for argument in arguments])


def train(data, out, *options):
    grid = ("--choices", 64, "--choices", 512, "--budget", 1000)
    found = invoke("train", data, "--out", out, "--steps", 3, *grid, *options)
    assert found.exit_code == 0, found.output
    return found


def test_is_a_subcommand():
    found = CliRunner().invoke(cli, ["turn-policy", "--help"])
    assert found.exit_code == 0
    assert {"train", "evaluate"} <= set(found.output.split())
    assert found.stderr == ""


def test_its_old_name_still_works_and_names_the_new_one():
    found = CliRunner().invoke(cli, ["budget", "train", "--help"])
    assert found.exit_code == 0
    assert found.stdout.startswith("Usage: cli turn-policy train")
    assert found.stderr == "`cli budget` is now called `cli turn-policy`\n"


def test_its_old_name_is_not_listed():
    listed = CliRunner().invoke(cli, ["--help"]).output
    assert "\n  turn-policy " in listed
    assert "\n  budget " not in listed


def test_trains_a_policy_that_a_gateway_can_load(data, tmp_path):
    out = tmp_path / "tab.safetensors"
    train(data, out, "--kind", "allsubq", "--token-price", 0.05)
    sealed = load(out.read_bytes(), load_encoder("static"))
    assert isinstance(sealed.policy, AllSubQuestionsPolicy)
    assert sealed.manifest.choices == (64, 512)
    assert sealed.manifest.provenance["train_problems"] == 20
    assert sealed.manifest.training["settings"]["penalty"] == pytest.approx(5e-5)


def test_without_a_price_the_reward_is_the_papers(data, tmp_path):
    out = tmp_path / "tab.safetensors"
    train(data, out)
    settings = load(out.read_bytes(), load_encoder("static")).manifest.training["settings"]
    assert (settings["penalty"], settings["free_share"]) == (0.001, 1.0)


def test_goes_on_from_a_checkpoint(data, tmp_path, monkeypatch):
    monkeypatch.setattr(turn_policy, "STEPS_PER_CHECKPOINT", 2)
    train(data, tmp_path / "whole.safetensors", "--checkpoint", tmp_path / "run.pt")
    found = train(data, tmp_path / "again.safetensors", "--checkpoint", tmp_path / "run.pt")
    policies = [
        load((tmp_path / name).read_bytes(), load_encoder("static")).policy.to_arrays()
        for name in ("whole.safetensors", "again.safetensors")
    ]
    assert all((policies[0][name] == policies[1][name]).all() for name in policies[0])
    assert "2/2" not in found.output


def test_says_that_a_checkpoint_is_of_another_run(data, tmp_path, monkeypatch):
    monkeypatch.setattr(turn_policy, "STEPS_PER_CHECKPOINT", 1)
    train(data, tmp_path / "a.safetensors", "--checkpoint", tmp_path / "run.pt")
    found = invoke("train", data, "--budget", 999, "--checkpoint", tmp_path / "run.pt")
    assert found.exit_code == 1
    assert "remove it to begin anew" in found.output


def test_says_that_a_checkpoint_is_damaged(data, tmp_path):
    (tmp_path / "run.pt").write_bytes(b"no checkpoint")
    found = invoke("train", data, "--budget", 999, "--checkpoint", tmp_path / "run.pt")
    assert found.exit_code == 1
    assert "remove it to begin anew" in found.output


def test_draws_the_learning_curve(data, tmp_path):
    train(data, tmp_path / "tab.safetensors", "--picture", tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 1000


def test_compares_policies_with_baselines_and_the_oracle(data, tmp_path):
    files = []
    for seed in (0, 1):
        files.append(tmp_path / f"{seed}.safetensors")
        train(data, files[-1], "--seed", seed)
    picture = tmp_path / "fronts.png"
    found = invoke("evaluate", data, *files, "--budget", 1000, "--picture", picture)
    assert found.exit_code == 0, found.output
    rows = [line.split("  ")[0] for line in found.output.splitlines()]
    assert {"static", "proportional", "decay", "difficulty"} < set(rows)
    assert sum(row.startswith("tab-") for row in rows) == 1
    assert "a clairvoyant would save" in found.output
    assert picture.stat().st_size > 1000


def test_refuses_to_compare_policies_that_choose_from_different_budgets(data, tmp_path):
    train(data, tmp_path / "a.safetensors")
    train(data, tmp_path / "b.safetensors", "--choices", 128)
    files = (tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    found = invoke("evaluate", data, *files, "--budget", 1000)
    assert found.exit_code == 1
    assert "measure them apart" in found.output


@pytest.fixture
def few_rollouts(monkeypatch):
    """Rollouts enough to compare: every turn of one is a request to the endpoint."""
    few = partial(TrainingSettings, groups_per_step=2, group_size=2)
    monkeypatch.setattr(turn_policy, "TrainingSettings", few)


@pytest.mark.usefixtures("few_rollouts")
async def test_learns_from_an_endpoint_that_solves_live(tmp_path):
    sums = [
        {"text": f"What is {n} + {n}?", "verifier": {"kind": "numeric", "reference": 4}}
        for n in (1, 2)
    ]
    data = tmp_path / "live.jsonl"
    data.write_text(json.dumps({"problem_id": "p", "sub_questions": sums}))
    upstream = ScriptedUpstream(answer_of("4", 20))
    out = tmp_path / "tab.safetensors"
    async with serve(upstream) as url:
        options = ("--url", f"{url}/v1", "--model", "small", "--steps", 1, "--out", out)
        found = await asyncio.to_thread(invoke, "train", data, "--budget", 1000, *options)
    assert found.exit_code == 0, found.output
    assert load(out.read_bytes(), load_encoder("static")).manifest.provenance["train_turns"] == 2
    assert upstream.last.body["model"] == "small"


@pytest.mark.parametrize("options", [("--url", "http://127.0.0.1:1/v1")])
def test_asks_for_what_a_live_run_needs(data, options):
    found = invoke("train", data, "--budget", 1000, *options)
    assert "--url needs --model too" in found.output


def test_says_where_conversations_come_from_when_the_log_has_none(tmp_path, monkeypatch):
    monkeypatch.setenv("WAYPOST_DATA_DIR", str(tmp_path))
    found = invoke("train", "--budget", 1000)
    assert "X-Waypost-Conversation-Id" in found.output


def test_says_what_is_wrong_with_a_file(tmp_path):
    found = invoke("train", tmp_path / "none.parquet", "--budget", 1000)
    assert found.exit_code == 1
    assert "does not exist" in found.output
