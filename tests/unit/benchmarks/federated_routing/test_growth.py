import numpy as np
import pytest

from benchmarks.federated_routing.growth import measure_growth
from benchmarks.federated_routing.least_rows import MINIMUMS, measure_least_rows
from federation.learning import growth
from federation.learning.settings import (
    FederatedKMeansSettings,
    FederatedMlpSettings,
    FederatedSettings,
)
from tests.fakes.evaluations import made_up

pytestmark = pytest.mark.xdist_group("benchmark of growth")  # what is measured, is measured once
ANSWERS = made_up(1000)
SETTINGS: dict[str, FederatedSettings] = {
    "kmeans": FederatedKMeansSettings(clusters=4, prior_rows=1.0),
    "mlp": FederatedMlpSettings(hidden=8, rounds=2, learning_rate=1e-2),
}


@pytest.fixture(scope="module")
def grown():
    """What joined; fewer rounds than they need measure as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(growth, "NEW_MODEL_ROUNDS", 2)
        patch.setattr(growth, "NEW_CLIENT_ROUNDS", 2)
        return measure_growth(ANSWERS, SETTINGS, seeds=1)


@pytest.mark.parametrize("kind", SETTINGS)
@pytest.mark.parametrize("what", ["models", "clients"])
def test_growth_is_measured_against_before_and_against_training_anew(grown, kind, what):
    found = grown[kind][what]
    for other in ("before", "retrained"):
        gap = found[f"grown - {other}"]["common_auc"]["value"]
        values = (found[label]["common_auc"]["value"] for label in ("grown", other))
        assert gap == pytest.approx(float(np.subtract(*values)))


def test_k_means_gains_from_models_that_join(grown):
    assert grown["kmeans"]["models"]["grown - before"]["common_auc"]["value"] > 0


def test_every_minimum_of_rows_is_measured():
    found = measure_least_rows(ANSWERS, SETTINGS, seeds=1)
    assert set(found["kmeans"]) == set(found["mlp"]) == set(map(str, MINIMUMS))
    most, least = (found["kmeans"][str(MINIMUMS[i])]["common_auc"]["value"] for i in (0, -1))
    assert most > least
