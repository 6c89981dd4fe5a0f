import numpy as np
import pytest

from benchmarks.federated_routing.arms import (
    ARMS,
    KINDS,
    AnySettings,
    grid_of,
    pooled,
    routers_of,
    validation_loss,
)
from benchmarks.federated_routing.protocol import split
from federation.learning.settings import FederatedKMeansSettings
from router_models.training.settings import KMeansSettings
from tests.fakes.evaluations import made_up

CLIENTS = split(made_up(600), 5.0, seed=0, n_clients=3)
ROWS = [client.rows for client in CLIENTS]
SETTINGS: dict[str, AnySettings] = {
    "local": KMeansSettings(4),
    "federated": FederatedKMeansSettings(clusters=4),
    "centralised": KMeansSettings(4),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_arm_tries_as_many_settings(kind):
    assert {len(grid_of(arm, kind)) for arm in ARMS} == {8}


@pytest.mark.parametrize("arm", ["federated", "centralised"])
def test_what_is_trained_on_all_rows_is_one_router_for_all(arm):
    assert len({id(router) for router in routers_of(arm, ROWS, SETTINGS[arm], 0)}) == 1


def test_alone_every_client_has_a_router_of_its_own():
    assert len({id(router) for router in routers_of("local", ROWS, SETTINGS["local"], 0)}) == 3


def test_the_loss_of_a_router_that_learned_is_lower_than_of_one_that_learned_noise():
    shuffled = [type(own)(shuffle(own.train), own.validation) for own in ROWS]
    learned, fooled = (
        validation_loss(routers_of("centralised", rows, KMeansSettings(4, prior_rows=3.0), 0), ROWS)
        for rows in (ROWS, shuffled)
    )
    assert learned < fooled


def shuffle(rows):
    order = np.random.default_rng(0).permutation(len(rows.embeddings))
    return type(rows)(rows.embeddings[order], rows.quality, rows.cost_usd, rows.models, rows.tasks)


def test_pooled_rows_are_all_rows():
    assert len(pooled(ROWS).train.quality) == sum(len(own.train.quality) for own in ROWS)
