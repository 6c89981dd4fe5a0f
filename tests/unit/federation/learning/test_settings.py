import json
from dataclasses import asdict

import pytest

from federation.learning.settings import KINDS


@pytest.mark.parametrize("kind", list(KINDS))
def test_settings_come_back_from_json(kind):
    settings = KINDS[kind]()
    assert KINDS[kind](**json.loads(json.dumps(asdict(settings)))) == settings


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("kmeans", {"clusters": 8_000}),
        ("kmeans", {"local_clusters": 0}),
        ("mlp", {"hidden": 1_000_000}),
        ("mlp", {"local_epochs": 10**9}),
    ],
)
def test_no_coordinator_asks_for_more_than_a_node_can_work_off(kind, change):
    with pytest.raises(ValueError, match=f"{next(iter(change))} must be from 1 to"):
        KINDS[kind](**change)
