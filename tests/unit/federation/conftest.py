import logging

import pytest


@pytest.fixture(autouse=True)
def quiet_flower(caplog: pytest.LogCaptureFixture) -> None:
    """Keep Flower's account of every round out of the reports of failed tests."""
    caplog.set_level(logging.ERROR, logger="flwr")
