import logging

import pytest

from federation.in_process import InProcessGrid


@pytest.fixture(autouse=True)
def quiet_flower(caplog: pytest.LogCaptureFixture) -> None:
    """Keep Flower's account of every round out of the reports of failed tests."""
    caplog.set_level(logging.ERROR, logger="flwr")


@pytest.fixture
def grid() -> InProcessGrid:
    """Without nodes; Flower's messages cannot be made without a grid."""
    return InProcessGrid({})
