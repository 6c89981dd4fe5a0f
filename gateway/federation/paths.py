"""Where a coordinator and a node keep what is theirs, below the data directory."""

from pathlib import Path
from typing import Final

from federation.deployment.certificates import CertificateFolder
from federation.deployment.sessions import SessionStore
from federation.privacy.accounting import PrivacyAccount
from gateway.settings.config import GatewaySettings

ROUTER: Final = "router.safetensors"
"""What a finished session of a router leaves in its folder."""
ADAPTER: Final = "adapter.safetensors"
"""The same of a session that tuned a reasoning model."""
ACCOUNT: Final = "privacy.json"
"""What a node's answers have cost of its privacy."""
BUNDLES: Final = "bundles.npz"
"""What a node has told of."""
VERDICTS: Final = "verdicts.json"
"""When a node judged routers."""


def certificates_of(settings: GatewaySettings, folder: Path | None = None) -> CertificateFolder:
    """Return the folder of the coordinator's certificate and of the nodes it lets in.

    Args:
        folder: Another than that of the settings.
    """
    chosen = folder or settings.federation.coordinator.certificates
    return CertificateFolder(chosen or settings.federation_dir / "certificates")


def sessions_of(settings: GatewaySettings) -> SessionStore:
    """Return the coordinator's trainings."""
    return SessionStore(settings.federation_dir / "sessions")


def coordinator_dir(settings: GatewaySettings) -> Path:
    """Return where the coordinator's processes keep state and logs."""
    return settings.federation_dir / "coordinator"


def node_dir(settings: GatewaySettings) -> Path:
    """Return where the node's processes keep state and logs."""
    return settings.federation_dir / "node"


def states_dir(settings: GatewaySettings) -> Path:
    """Return where the node keeps how far it has come in tuning a reasoning model."""
    return settings.federation_dir / "reasoner"


def account_of(settings: GatewaySettings) -> PrivacyAccount | None:
    """Return what the node's answers are charged to; None where it gives away what it likes."""
    node = settings.federation.node
    if node.epsilon is None:
        return None
    return PrivacyAccount(node_dir(settings) / ACCOUNT, node.epsilon, node.delta)
