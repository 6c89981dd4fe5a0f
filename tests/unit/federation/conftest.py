import logging

import pytest

from benchmarks.federation_simulation.in_process import InProcessGrid


@pytest.fixture(autouse=True)
def quiet_flower(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep Flower's account of every round out of the reports of failed tests."""
    monkeypatch.setattr(logging.getLogger("flwr"), "disabled", True)


@pytest.fixture
def grid() -> InProcessGrid:
    """Without nodes; Flower's messages cannot be made without a grid."""
    return InProcessGrid({})
