"""Whose artefacts may serve here, and the key that signs what is made here."""

import errno
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from gateway.settings.artifacts import ArtifactSettings
from gateway.settings.base import ConfigurationError
from router_models.artifacts.signature import MAX_BYTES, Signature, TrustedKeys
from router_models.errors import ArtifactRejected

SIGNATURE_SUFFIX: Final = ".sig"


@dataclass(frozen=True, slots=True)
class Trust:
    """What the settings say of signatures.

    Attributes:
        keys: Those that may sign what serves here.
        signing_key: File of the private key that signs what is made here; read when it signs.
    """

    keys: TrustedKeys = field(default_factory=TrustedKeys)
    signing_key: Path | None = None

    @classmethod
    def of(cls, settings: ArtifactSettings) -> Self:
        """Take what the settings say."""
        names = {bytes.fromhex(key): name for name, key in settings.trusted_keys.items()}
        return cls(TrustedKeys(names), settings.signing_key)

    @property
    def takes_own(self) -> bool:
        """Whether what is made here can serve here."""
        return not self.keys or self.signing_key is not None

    def require_key(self) -> None:
        """Refuse a signing key that cannot be read before there is anything to sign.

        Raises:
            ConfigurationError: It cannot.
        """
        try:
            self.sign("nothing", b"")
        except ArtifactRejected as error:
            raise ConfigurationError(f"artifacts.signing_key: {error}") from error

    def sign(self, name: str, data: bytes) -> bytes | None:
        """Sign what was made here; None without a key.

        Raises:
            ArtifactRejected: The key cannot be read.
        """
        if self.signing_key is None:
            return None
        return Signature.make(read_key(self.signing_key), name, data).to_line()

    def sign_file(self, path: Path) -> None:
        """Put a signature beside a file that was made here, under its name; none without a key.

        Raises:
            ArtifactRejected: The key cannot be read.
        """
        signature = self.sign(path.name, path.read_bytes())
        if signature is not None:
            signature_path(path).write_bytes(signature)

    def check_file(self, name: str, data: bytes, path: Path) -> None:
        """Make sure that what was read from `path` is signed by a trusted key.

        Raises:
            ArtifactRejected: It is not.
        """
        if self.keys:
            self.keys.check(name, data, read_signature(path))


ANYBODY: Final = Trust()
"""No signature is asked for, and none is made."""


def signature_path(path: Path) -> Path:
    """Return where the signature of the file `path` is kept: beside it."""
    return path.with_name(path.name + SIGNATURE_SUFFIX)


def read_signature(path: Path) -> bytes | None:
    """Return the signature beside the file `path`; None where there is none.

    Raises:
        ArtifactRejected: It cannot be read.
    """
    beside = signature_path(path)
    try:
        with open_regular(beside) as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ArtifactRejected(f"{beside} cannot be read: {error.strerror}") from error


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read; a pipe that somebody left in its place would wait for a writer for ever.

    Raises:
        OSError: It cannot be opened, or is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file")
    return os.fdopen(descriptor, "rb")


def read_key(file: Path) -> Ed25519PrivateKey:
    """Read a private key.

    Raises:
        ArtifactRejected: The file cannot be read, or holds another thing.
    """
    try:
        key = load_pem_private_key(file.read_bytes(), password=None)
    except OSError as error:
        raise ArtifactRejected(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ArtifactRejected(f"{file} holds no private key that can be read") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ArtifactRejected(f"{file} holds a private key of another kind than Ed25519")
    return key


def make_key(file: Path) -> str:
    """Write a new private key, for its owner alone to read; return the public one.

    Raises:
        FileExistsError: The file is there already.
        OSError: It cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(pem)
    return public_text(key)


def public_text(key: Ed25519PrivateKey) -> str:
    """Return the public key as it is written into ``artifacts.trusted_keys``."""
    return key.public_key().public_bytes_raw().hex()
