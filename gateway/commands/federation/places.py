"""Where a coordinator and a node keep what is theirs, below the data directory."""

from pathlib import Path

from federation.deployment.certificates import CertificateFolder
from federation.deployment.sessions import SessionStore
from gateway.config import GatewaySettings


def certificates_of(settings: GatewaySettings) -> CertificateFolder:
    """Return the folder of the coordinator's certificate and of the nodes it lets in."""
    chosen = settings.federation.coordinator.certificates
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
