"""Signatures of artefacts: who vouches for a file, beside its checksum that says it is whole.

Ed25519, RFC 8032. What is signed names the artefact and the digest of every byte of its file, so a
signature is good for no other file and no other name. It is checked before the file is parsed.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from router_models.errors import ArtifactRejected

FORM: Final = "waypost-signature-v1"
MAX_BYTES: Final = 1024
_PUBLIC_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Signature:
    """One line: form, what was signed, whose key, and the signature, both in hexadecimal.

    Attributes:
        name: Version of the artefact.
        public_key: Of who signed.
        value: The signature.
    """

    name: str
    public_key: bytes
    value: bytes

    @classmethod
    def make(cls, key: Ed25519PrivateKey, name: str, data: bytes) -> Self:
        """Sign the file `data` of the artefact `name`."""
        public_key = key.public_key().public_bytes_raw()
        return cls(name, public_key, key.sign(_statement(name, data)))

    @classmethod
    def parse(cls, line: bytes) -> Self:
        """Read the line.

        Raises:
            ArtifactRejected: It is none.
        """
        try:
            form, name, public_key, value = line[: MAX_BYTES + 1].decode("ascii").split()
            known = cls(name, bytes.fromhex(public_key), bytes.fromhex(value))
        except ValueError as error:
            raise ArtifactRejected("its signature is not in the form of one") from error
        if form != FORM or len(line) > MAX_BYTES or len(known.public_key) != _PUBLIC_KEY_BYTES:
            raise ArtifactRejected("its signature is not in the form of one")
        return known

    def to_line(self) -> bytes:
        """Write the line."""
        return f"{FORM} {self.name} {self.public_key.hex()} {self.value.hex()}\n".encode()

    def is_of(self, data: bytes) -> bool:
        """Say whether the key signed exactly this file under this name."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(
                self.value, _statement(self.name, data)
            )
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class TrustedKeys:
    """The keys whose artefacts are accepted; where there are none, whatever comes is.

    Attributes:
        names: What an operator calls each public key.
    """

    names: Mapping[bytes, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Say whether there are any."""
        return bool(self.names)

    def check(self, name: str | None, data: bytes, line: bytes | None) -> str | None:
        """Make sure that a trusted key signed the file `data` as `name`.

        Args:
            name: None takes the name that the signature says.
            data: Every byte of the file.
            line: The signature; None where there is none.

        Returns:
            What an operator calls the key; None where no key is asked for.

        Raises:
            ArtifactRejected: None did.
        """
        if not self.names:
            return None
        if line is None:
            raise ArtifactRejected(
                "it is not signed, and artifacts.trusted_keys requires it: whoever vouches for it "
                "can run `waypost artifacts sign`"
            )
        signature = Signature.parse(line)
        if name is not None and signature.name != name:
            raise ArtifactRejected(f"its signature is that of {signature.name}")
        signer = self.names.get(signature.public_key)
        if signer is None:
            raise ArtifactRejected(
                f"it is signed by a key that artifacts.trusted_keys does not have: "
                f"{signature.public_key.hex()}"
            )
        if not signature.is_of(data):
            raise ArtifactRejected(
                f"the signature by {signer} does not match: file or signature were changed"
            )
        return signer


def _statement(name: str, data: bytes) -> bytes:
    return f"{FORM} {name} {hashlib.sha256(data).hexdigest()}\n".encode()
