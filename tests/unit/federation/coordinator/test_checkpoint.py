from dataclasses import replace

import numpy as np
import pytest

from federation.coordinator.checkpoint import dump, load
from federation.coordinator.strategies import Progress
from federation.errors import CheckpointRejected
from tests.fakes.sites import plan_of

PLAN = plan_of("mlp", columns=("cheap", "dear"))
PROGRESS = Progress(
    4,
    {"rows.rows": np.array([0.1]), "weights.head": np.arange(6, dtype=np.float32).reshape(2, 3)},
    {"weights.head": np.ones((2, 3), np.float32)},
    2,
    {2: 0.1 + 0.2, 3: 0.7},
)


def test_a_checkpoint_holds_what_it_takes_to_go_on():
    plan, progress = load(dump(PLAN, PROGRESS), PLAN)
    assert plan == PLAN
    assert (progress.round, progress.best_round) == (4, 2)
    assert progress.losses == PROGRESS.losses
    for found, kept in ((progress.state, PROGRESS.state), (progress.best, PROGRESS.best)):
        assert found.keys() == kept.keys()
        assert all(np.array_equal(found[name], kept[name]) for name in kept)


def test_keeps_arrays_that_are_laid_out_by_column():
    state = {"weights.head": np.asfortranarray(PROGRESS.state["weights.head"])}
    _, progress = load(dump(PLAN, replace(PROGRESS, state=state)), PLAN)
    np.testing.assert_array_equal(progress.state["weights.head"], state["weights.head"])


def test_a_plan_without_columns_goes_on_with_those_of_the_checkpoint():
    plan, _ = load(dump(PLAN, PROGRESS), replace(PLAN, columns=()))
    assert plan.columns == ("cheap", "dear")


def test_does_not_go_on_with_another_plan():
    with pytest.raises(CheckpointRejected, match="another plan"):
        load(dump(PLAN, PROGRESS), replace(PLAN, seed=5))


@pytest.mark.parametrize("damage", [b"", b"\x00" * 20, dump(PLAN, PROGRESS)[:-1], b"x" * 4000])
def test_does_not_go_on_from_damaged_bytes(damage):
    with pytest.raises(CheckpointRejected, match="damaged"):
        load(damage, PLAN)
