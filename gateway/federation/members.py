"""The sites that this node adds up its sums with, from the settings."""

from federation.deployment.node_keys import NodeKeys
from federation.privacy.members import Identity
from federation.privacy.secure_sum import LEAST_MEMBERS
from gateway.settings.config import ConfigurationError, GatewaySettings


def open_identity(settings: GatewaySettings) -> Identity | None:
    """Read this site's own key and those of the sites that it adds up with; None without such.

    Raises:
        ConfigurationError: They are too few, or a file holds no key.
    """
    node = settings.federation.node
    if node.members is None:
        return None
    pinned = NodeKeys.read(node.members)
    if pinned.problems:
        raise ConfigurationError(f"federation.node.members: {'; '.join(pinned.problems)}")
    assert node.private_key is not None  # noqa: S101 - `join` asks for it
    identity = Identity.from_keys(node.private_key.read_bytes(), tuple(pinned.keys.values()))
    if len(identity.pinned) < LEAST_MEMBERS:
        raise ConfigurationError(
            f"federation.node.members: a secure sum needs {LEAST_MEMBERS} sites with this one; "
            f"{node.members} makes {len(identity.pinned)}"
        )
    return identity
