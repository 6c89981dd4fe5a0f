"""A key that cannot be read is said to be so before there is anything to sign."""

import asyncio

import pytest

from gateway.federation.coordinator import coordinate
from gateway.federation.node import take_part
from gateway.settings.artifacts import ArtifactSettings
from gateway.settings.base import ConfigurationError
from gateway.settings.config import GatewaySettings


@pytest.fixture
def settings(tmp_path) -> GatewaySettings:
    return GatewaySettings(
        data_dir=tmp_path, artifacts=ArtifactSettings(signing_key=tmp_path / "missing.pem")
    )


def test_a_coordinator_does_not_start_without_its_key(settings):
    with pytest.raises(ConfigurationError, match=r"artifacts\.signing_key: .* cannot be read"):
        asyncio.run(coordinate(settings))


def test_a_node_does_not_start_without_its_key(settings, tmp_path):
    with pytest.raises(ConfigurationError, match=r"artifacts\.signing_key: .* cannot be read"):
        take_part(settings, "127.0.0.1:9443", tmp_path / "ca.crt", tmp_path / "node.key")
