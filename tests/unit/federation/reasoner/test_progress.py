from dataclasses import replace

import numpy as np
import pytest

from federation.errors import CheckpointRejected
from federation.reasoner.figures import StepFigures
from federation.reasoner.plan import BaseName, ReasonerPlan
from federation.reasoner.progress import Progress, dump, load
from federation.reasoner.settings import ReasonerSettings

PLAN = ReasonerPlan("first", BaseName("tiny", "ab" * 32, "cd" * 32, 12), ReasonerSettings(), 1)
STEP = StepFigures(0.25, 8, 6, 120, 3, 9, -0.01)
PROGRESS = Progress(
    {"layer.A": np.ones((2, 3), np.float32)},
    5,
    {"acme/labs": {"tokens": np.array([1, 2], np.int32)}, "borealis": {"tokens": np.zeros(0)}},
    {1: {"acme/labs": (STEP, STEP)}},
)


def test_reads_what_it_writes():
    found = load(dump(PLAN, PROGRESS), PLAN)
    assert (found.phase, found.figures, found.sites) == (
        5,
        PROGRESS.figures,
        frozenset({"acme/labs"}),
    )
    np.testing.assert_array_equal(found.weights["layer.A"], PROGRESS.weights["layer.A"])
    assert found.answers.keys() == PROGRESS.answers.keys()
    np.testing.assert_array_equal(found.answers["acme/labs"]["tokens"], [1, 2])


def test_does_not_go_on_with_another_plan():
    with pytest.raises(CheckpointRejected, match="with another plan"):
        load(dump(PLAN, PROGRESS), replace(PLAN, session="second"))


@pytest.mark.parametrize("spoil", [lambda data: data[:50], lambda data: b"no checkpoint"])
def test_does_not_go_on_with_damaged_bytes(spoil):
    with pytest.raises(CheckpointRejected, match="damaged"):
        load(spoil(dump(PLAN, PROGRESS)), PLAN)
