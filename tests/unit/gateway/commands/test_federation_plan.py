from pathlib import Path

import pytest

from federation.coordinator.strategy_table import STRATEGIES
from federation.learning.settings import FederatedMlpSettings
from federation.privacy.accounting import epsilon_of
from federation.protocol.protocol import TrainingPlan
from gateway.federation.plan import plan_of
from gateway.federation.router_sessions import calibrated_plan_of
from gateway.routing.encoders import load_encoder
from gateway.settings.config import GatewaySettings, load_settings


def settings(tmp_path: Path, table: str) -> GatewaySettings:
    """Return a coordinator's settings."""
    file = tmp_path / "coordinator.toml"
    file.write_text(f'data_dir = "{tmp_path}"\n[federation.coordinator]\n{table}\n')
    return load_settings(file, {})


def plan(tmp_path: Path, table: str) -> TrainingPlan:
    """Return the plan that a coordinator with these settings trains by."""
    return plan_of(settings(tmp_path, table))


def test_a_plan_is_of_the_kind_and_settings_that_were_asked_for(tmp_path):
    made = plan(tmp_path, 'kind = "mlp"\ntraining = { rounds = 3 }\nquorum = 4\nrule = "median"')

    assert made.settings == FederatedMlpSettings(rounds=3)
    assert (made.quorum, made.rule, made.noise) == (4, "median", None)


def test_sites_need_the_encoder_that_the_coordinator_names(tmp_path):
    encoder = load_encoder("static")

    made = plan(tmp_path, "").encoder

    assert (made.id, made.sha256, made.dimension) == (encoder.id, encoder.sha256, encoder.dimension)


def test_models_keep_their_other_names(tmp_path):
    made = plan(tmp_path, 'models = { "gemma" = ["gemma2-9b"] }')

    assert made.registry.canonical("gemma2-9b") == "gemma"
    assert made.models == ()


def test_a_closed_list_of_models_is_part_of_the_plan(tmp_path):
    made = plan(tmp_path, 'models = { "b" = [], "a" = ["a-1"] }\nknows_all_models = true')

    assert made.models == ("a", "b")


def test_noise_keeps_a_session_within_its_epsilon(tmp_path):
    made = calibrated_plan_of(
        settings(tmp_path, "epsilon = 4.0\ndelta = 1e-5\ndearest_usd_by_model = { a = 0.1 }")
    )

    exchanges = STRATEGIES[made.kind].plan_exchanges(made)
    spent = epsilon_of([exchange.release(made) for exchange in exchanges], 1e-5)
    assert 3.5 < spent <= 4.0


def test_masks_and_robust_rules_exclude_each_other(tmp_path):
    with pytest.raises(ValueError, match="use one or the other"):
        plan(tmp_path, 'secure_sum = true\nquorum = 3\nrule = "median"')
