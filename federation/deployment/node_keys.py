"""Who may take part: one public key file per node in a folder that is read again and again.

A file that appears lets its node in; a file that is removed shuts its node out. Both take effect
within a second or so, without a restart.
"""

import math
import os
import stat
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

PUBLIC_SUFFIX: Final = ".pub"
REVOKED_SUFFIX: Final = ".revoked"
"""Follows the other in the name of a file whose key lets nobody in any more; a number may too."""
MAX_KEY_BYTES: Final = 64 * 1024
CURVE: Final = "secp384r1"
KEY_HEADER: Final = "flwr-public-key"
SIGNATURE_HEADER: Final = "flwr-signature"
TIMESTAMP_HEADER: Final = "flwr-timestamp"
MAX_AGE: Final = timedelta(seconds=305)
"""How long Flower takes a signed timestamp."""
MAX_CLOCK_SKEW: Final = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class NodeKeys:
    """The keys in one folder at one moment.

    Attributes:
        keys: Node name (the file's) to public key (PEM, as Flower sends it).
        problems: What is wrong with files that were left out.
        revoked: Keys that let nobody in any more, and that their nodes may be told of.
    """

    keys: Mapping[str, bytes]
    problems: tuple[str, ...] = ()
    revoked: frozenset[bytes] = frozenset()

    @classmethod
    def read(cls, folder: Path) -> "NodeKeys":
        """Read a folder; a file that holds no key shuts out nobody else."""
        keys: dict[str, bytes] = {}
        problems: list[str] = []
        for path in sorted(folder.glob(f"*{PUBLIC_SUFFIX}")):
            try:
                keys[path.stem] = read_public_key(path)
            except FileNotFoundError:
                continue  # removed while we looked
            except (OSError, ValueError, UnsupportedAlgorithm) as error:
                problems.append(f"{path} holds no P-384 public key: {error}")
        return cls(keys, tuple(problems), frozenset(_revoked(folder)))

    def admit(self, headers: Mapping[str, str], now: datetime) -> str | None:
        """Return whose signature the headers carry; None where it is nobody's of the folder."""
        key = _signer(headers, now, self.keys.values())
        return next((name for name, known in self.keys.items() if known == key), None)

    def has_revoked(self, headers: Mapping[str, str], now: datetime) -> bool:
        """Whether the headers are signed with a key that was revoked."""
        return _signer(headers, now, self.revoked) is not None


class WatchedKeys:
    """The keys in a folder, at most `staleness_s` old."""

    def __init__(self, folder: Path, clock: Callable[[], float], staleness_s: float = 1.0) -> None:
        self._folder = folder
        self._clock = clock
        self._staleness_s = staleness_s
        self._keys = NodeKeys({})
        self._read_s = -math.inf

    def __call__(self) -> NodeKeys:
        """Return the keys."""
        now_s = self._clock()
        if now_s - self._read_s > self._staleness_s:
            self._keys, self._read_s = NodeKeys.read(self._folder), now_s
        return self._keys


def read_public_key(path: Path) -> bytes:
    """Read one public key, as Flower sends it.

    Raises:
        ValueError: It is none, or of another kind.
    """
    # A pipe would be waited for, and a device has no end.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is no regular file")
        key = serialization.load_ssh_public_key(os.read(descriptor, MAX_KEY_BYTES))
    finally:
        os.close(descriptor)
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != CURVE:
        raise ValueError("it is a key of another kind")
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _revoked(folder: Path) -> Iterator[bytes]:
    for path in folder.glob(f"*{PUBLIC_SUFFIX}{REVOKED_SUFFIX}*"):
        with suppress(OSError, ValueError, UnsupportedAlgorithm):
            yield read_public_key(path)


def _signer(headers: Mapping[str, str], now: datetime, known: Iterable[bytes]) -> bytes | None:
    """Return the key that signed the headers; None where none of `known` did, or not just now."""
    try:
        key = b64decode(headers[KEY_HEADER], validate=True)
        signature = b64decode(headers[SIGNATURE_HEADER], validate=True)
        timestamp = headers[TIMESTAMP_HEADER]
        age = now - datetime.fromisoformat(timestamp)
        # Whose key nobody knows costs no more than looking for it.
        if key in known and -MAX_CLOCK_SKEW < age < MAX_AGE:
            public = serialization.load_pem_public_key(key)
            if isinstance(public, ec.EllipticCurvePublicKey):
                public.verify(signature, timestamp.encode(), ec.ECDSA(hashes.SHA256()))
                return key
    except (KeyError, ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        pass  # a binascii.Error is a ValueError
    return None
