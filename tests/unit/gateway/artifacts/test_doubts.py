import pytest

from gateway.artifacts.doubts import find_doubts
from gateway.settings.config import GatewaySettings
from router_models.artifacts.artifact import read_manifest
from router_models.artifacts.router import RouterManifest
from tests.fakes.artifacts import router_artifact

TABLES = {
    "providers": {"host": {"base_url": "http://127.0.0.1:9/v1"}},
    "models": {
        "small": {"provider": "host"},
        "large": {
            "upstream_name": "maker/Large-2.5",
            "deployments": [
                {"provider": "host"},
                {"provider": "host", "upstream_name": "eu-large"},
            ],
        },
    },
}


@pytest.fixture
def settings(tmp_path) -> GatewaySettings:
    return GatewaySettings.model_validate({"data_dir": tmp_path, **TABLES})


def router(*models: str, **training: object) -> RouterManifest:
    return read_manifest(router_artifact(0, models, training=training))


def test_a_router_of_the_models_of_the_settings_raises_no_doubt(settings):
    both = router("small", "large", answers={"small": 10, "large": 300})

    assert find_doubts(settings, both, both) == []
    assert find_doubts(settings, both, None) == []


def test_one_that_knows_no_model_of_the_settings_would_decide_nothing(settings):
    (doubt,) = find_doubts(settings, router("a", "b"), None)

    assert doubt.startswith("it knows none of the models of these settings (small, large)")


@pytest.mark.parametrize("name", ["Large", "maker/Large-2.5", "large-2-5", "LARGE_2.5", "eu-large"])
def test_another_spelling_is_named_with_the_one_that_callers_use(settings, name):
    doubts = find_doubts(settings, router("small", name), None)

    assert f"it says {name!r} where these settings say 'large'" in doubts[0]


def test_a_router_of_one_model_would_give_it_every_turn(settings, tmp_path):
    (doubt,) = find_doubts(settings, router("small"), None)
    assert doubt == "it knows one model only, so small would get every turn it decides"

    (doubt,) = find_doubts(GatewaySettings(data_dir=tmp_path), router("discovered"), None)
    assert "discovered would get every turn" in doubt


def test_models_that_the_serving_router_knows_are_missed(settings):
    doubts = find_doubts(settings, router("large"), router("small", "large", "gone"))

    assert "it never chooses small, which the router that serves knows" in doubts


def test_few_answers_are_counted(settings):
    (doubt,) = find_doubts(
        settings, router("small", "large", answers={"small": 9, "large": 300}), None
    )

    assert doubt == "it learned from few answers: 9 of small (10 are the least)"
