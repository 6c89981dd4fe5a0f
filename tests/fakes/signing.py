"""Keys that sign artefacts, the same in every run, and settings that trust them."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.artifacts.trust import Trust, public_text
from gateway.settings.artifacts import ArtifactSettings
from router_models.artifacts.signature import Signature

OPERATOR, FEDERATION, STRANGER = (
    Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32) for seed in range(3)
)


def trusting(*keys: Ed25519PrivateKey, signing_key: Path | None = None) -> ArtifactSettings:
    """Make the settings that trust `keys`."""
    trusted = {f"key-{index}": public_text(key) for index, key in enumerate(keys)}
    return ArtifactSettings(trusted_keys=trusted, signing_key=signing_key)


def trust_in(*keys: Ed25519PrivateKey, signing_key: Path | None = None) -> Trust:
    """Trust `keys`."""
    return Trust.of(trusting(*keys, signing_key=signing_key))


def signed(key: Ed25519PrivateKey, name: str, data: bytes) -> bytes:
    """Sign a file."""
    return Signature.make(key, name, data).to_line()


def key_file(folder: Path, key: Ed25519PrivateKey = OPERATOR) -> Path:
    """Write a private key into a file."""
    file = folder / "signing.pem"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return file
