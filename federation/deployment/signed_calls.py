"""What a node signs of each call, and how the gate makes sure that it hears each call once.

Flower's nodes sign the time and nothing else: for five minutes such a signature fits any call with
any body. So a node signs more beside it (method, path, digest of the body, the time, a nonce), and
the gate, which alone can be reached, takes no call without that.
"""

import binascii
import secrets
from base64 import b64decode, b64encode
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from federation.deployment.node_keys import (
    MAX_AGE,
    MAX_CLOCK_SKEW,
    TIMESTAMP_HEADER,
    NodeKeys,
)

NONCE_HEADER: Final = "waypost-nonce"
BODY_HEADER: Final = "waypost-body-sha256"
CALL_HEADER: Final = "waypost-signature"
NONCE_BYTES: Final = 16
MAX_CALLS: Final = 20_000
"""Of one node within `MAX_AGE`: 65 a second, and 3 MB of nonces."""
DIGEST: Final = ec.ECDSA(hashes.SHA256())


class Refusal(Enum):
    """Why a call is not passed on."""

    STRANGER = "no registered node signed it"
    REVOKED = "its node was shut out"
    OLD_NODE = "it is signed without path, body and nonce"
    REPEATED = "it was made before"
    TOO_MANY = "the node makes too many calls"


def sign_call(
    key: ec.EllipticCurvePrivateKey, path: str, body: bytes, timestamp: str
) -> dict[str, str]:
    """Return the headers that bind a signature to one call.

    Args:
        key: The node's.
        path: Of the call, which is a POST.
        body: Of the call.
        timestamp: As it stands in Flower's own header.
    """
    nonce, digest = secrets.token_hex(NONCE_BYTES), sha256(body).hexdigest()
    signature = key.sign(_said(path, digest, timestamp, nonce), DIGEST)
    return {
        NONCE_HEADER: nonce,
        BODY_HEADER: digest,
        CALL_HEADER: b64encode(signature).decode("ascii"),
    }


@dataclass(slots=True)
class SignedCalls:
    """Admits each signed call once; one per gate, since it remembers nonces in memory.

    Calls that were signed before the gate began are refused, as it cannot know them.

    Attributes:
        began: When the gate did.
        max_calls: Of one node within `MAX_AGE`, so that its nonces do not fill the memory.
    """

    began: datetime
    max_calls: int = MAX_CALLS
    _nonces: dict[str, "OrderedDict[str, datetime]"] = field(
        default_factory=lambda: defaultdict(OrderedDict), init=False, repr=False
    )

    def admit(
        self, keys: NodeKeys, path: str, headers: Mapping[str, str], now: datetime
    ) -> str | Refusal:
        """Return the node that signed a call, before its body is read, or why it is refused.

        The body must then be checked with `fits`.
        """
        name = keys.admit(headers, now)
        if name is None:
            return Refusal.REVOKED if keys.has_revoked(headers, now) else Refusal.STRANGER
        if CALL_HEADER not in headers:
            return Refusal.OLD_NODE
        if not _is_signed(keys.keys[name], path, headers):
            return Refusal.STRANGER
        signed_at = datetime.fromisoformat(headers[TIMESTAMP_HEADER])
        if signed_at < self.began - MAX_CLOCK_SKEW:
            return Refusal.REPEATED
        return self._remember(name, headers[NONCE_HEADER], now) or name

    def _remember(self, name: str, nonce: str, now: datetime) -> Refusal | None:
        nonces = self._nonces[name]
        while nonces and now - next(iter(nonces.values())) > MAX_AGE + MAX_CLOCK_SKEW:
            nonces.popitem(last=False)
        if nonce in nonces:
            return Refusal.REPEATED
        if len(nonces) >= self.max_calls:
            return Refusal.TOO_MANY
        nonces[nonce] = now
        return None


def fits(headers: Mapping[str, str], body: bytes | bytearray) -> bool:
    """Whether a body is the one that was signed."""
    return sha256(body).hexdigest() == headers[BODY_HEADER]


def _is_signed(key: bytes, path: str, headers: Mapping[str, str]) -> bool:
    public = load_pem_public_key(key)
    try:
        nonce, digest = headers[NONCE_HEADER], headers[BODY_HEADER]
        said = _said(path, digest, headers[TIMESTAMP_HEADER], nonce)
        signature = b64decode(headers[CALL_HEADER], validate=True)
        if isinstance(public, ec.EllipticCurvePublicKey) and len(nonce) == 2 * NONCE_BYTES:
            public.verify(signature, said, DIGEST)
            return True
    except (KeyError, ValueError, binascii.Error, InvalidSignature):
        pass
    return False


def _said(path: str, digest: str, timestamp: str, nonce: str) -> bytes:
    return f"waypost call\nPOST\n{path}\n{digest}\n{timestamp}\n{nonce}".encode()
