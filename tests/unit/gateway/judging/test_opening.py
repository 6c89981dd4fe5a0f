"""What the settings of judges may say."""

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.judging.background import BackgroundCounts
from gateway.judging.opening import caps_of, judge_graders
from gateway.settings.config import ConfigurationError, GatewaySettings
from gateway.settings.grading import GradingSettings
from tests.fakes.judging import LARGE, SMALL
from tests.fakes.settled import Log


def opened(**tables: Any) -> Any:
    """Make the graders that these settings ask for, of a gateway with two models."""
    routing: Any = SimpleNamespace(models={"small": SMALL, "large": LARGE})
    service: Any = SimpleNamespace(routing=routing)
    settings = GradingSettings.model_validate(tables)
    return judge_graders(service, settings, Log(), BackgroundCounts(), random.Random(0))


def test_judges_and_second_answers_are_off_by_default() -> None:
    assert opened() == ()
    assert caps_of(GatewaySettings(data_dir=Path("x")).grading) == ()
    (grader,) = opened(judge={"models": ["large"]})
    assert grader.shadow is None


def test_a_judge_that_is_no_model_of_the_pool_stops_the_start() -> None:
    with pytest.raises(ConfigurationError, match=r"no model 'huge'; known: small, large"):
        opened(judge={"models": ["large", "huge"]})


def test_second_answers_without_a_judge_stop_the_start() -> None:
    with pytest.raises(ValidationError, match=r"shadow\.share needs judge\.models"):
        opened(shadow={"share": 0.1})


def test_each_purpose_has_a_cap_of_its_own() -> None:
    tables = {"judge": {"models": ["large"], "cap_usd_per_day": 2}, "shadow": {"share": 0.1}}
    judge, shadow = caps_of(GradingSettings.model_validate(tables))
    assert (judge.team_id, judge.cap) == ("@judge", 2_000_000_000)
    assert (shadow.team_id, shadow.cap) == ("@shadow", 1_000_000_000)
    (grader,) = opened(**tables)
    assert grader.shadow is not None
