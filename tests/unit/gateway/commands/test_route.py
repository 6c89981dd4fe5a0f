"""`waypost route`, as an operator types it."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.commands.route import command

MODEL = """
[providers.there]
base_url = "http://127.0.0.1:9/v1"

[models.new]
provider = "there"
price = { input_usd_per_mtok = 1, output_usd_per_mtok = 1 }
"""


@pytest.fixture
def route(tmp_path: Path):
    config = tmp_path / "waypost.toml"
    config.write_text(f'data_dir = "{tmp_path}"\n[routing]\nprior = false\n{MODEL}')

    def run(*arguments: str, exit_code: int = 0) -> list[str]:
        result = CliRunner().invoke(command, ["--config", str(config), *arguments])
        assert result.exit_code == exit_code, result.output
        return result.output.splitlines()

    return run


def test_models_that_the_router_does_not_know_are_said_to_be_unknown(route):
    header, new, chosen, why = route("What is 17 + 25?")

    assert header.split()[0] == "model"
    assert new.startswith("* new")
    assert new.endswith("not_in_router")
    assert chosen.startswith("new (router_missing; router none")
    assert why == "The router knows no model that can answer this, so the default model does."


def test_without_a_router_the_prior_predicts_and_is_named(route, tmp_path):
    config = tmp_path / "waypost.toml"
    config.write_text(config.read_text().replace("prior = false", "prior = true"))
    _, new, chosen = route("What is 17 + 25?")

    assert new.startswith("* new")
    assert new.endswith("ok")
    assert chosen.startswith("new (router; router prior-")


def test_a_model_that_is_named_is_shown_without_a_table(route):
    assert route("--model", "new", "What is 17 + 25?") == ["new (named; router none)"]


@pytest.mark.parametrize("paid", ["inf", "nan", "0", "-1", "1e10"])
def test_a_willingness_to_pay_that_is_no_finite_amount_is_refused(route, paid):
    *_, complaint = route("--willingness-to-pay", paid, "What is 17 + 25?", exit_code=2)

    assert "is not a number of USD above 0 and at most 1e+09" in complaint
