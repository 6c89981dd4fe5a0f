import json
from dataclasses import asdict

import pytest

from federation.reasoner.settings import ReasonerSettings


def test_settings_survive_json():
    settings = ReasonerSettings(lora_rank=4, lora_targets=("q_proj",), swap="random")
    assert ReasonerSettings(**json.loads(json.dumps(asdict(settings)))) == settings


def test_a_whole_number_is_an_integer_however_it_was_written():
    assert type(ReasonerSettings(lora_alpha=16.0).lora_alpha) is int  # type: ignore[arg-type]


def test_every_so_many_steps_of_a_round_one_is_public():
    settings = ReasonerSettings(public_every=3)
    assert [settings.is_public(step) for step in range(1, 8)] == [
        False,
        False,
        True,
        False,
        False,
        True,
        False,
    ]


def test_no_step_is_public_without_public_data():
    settings = ReasonerSettings(public=False, public_every=1)
    assert not any(settings.is_public(step) for step in range(1, 8))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("group_size", 1),
        ("lora_rank", 0),
        ("lora_targets", ()),
        ("lora_alpha", 1.5),
        ("steps_per_round", 0),
        ("public_every", 0),
        ("swap", "fair"),
        ("foreign_ratio", "exact"),
        ("aggregation", "median"),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("clip_low", 1.5),
        ("kl_beta", -0.1),
        ("proximal_mu", -1.0),
        ("temperature", 0.0),
    ],
)
def test_refuses_what_no_run_can_follow(name, value):
    with pytest.raises(ValueError, match=name):
        ReasonerSettings(**{name: value})
