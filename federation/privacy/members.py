"""Who adds up with whom in a secure sum: keys that each site was given by the others' operators.

The one-time keys of a secure sum travel through the coordinator, which could put its own in between
or invent members. So a site signs its one-time key with the key that it also calls the coordinator
with, and masks an answer only for members whose keys it has pinned.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from federation.privacy.secure_sum import KEY_BYTES, SecureSumRefused

NUMBER_BYTES: Final = 48
"""Of each of the two numbers in a signature by a P-384 key."""
CARD_BYTES: Final = KEY_BYTES + KEY_BYTES + 2 * NUMBER_BYTES
"""One-time key, fingerprint of the site's own key, signature."""
DIGEST: Final = ec.ECDSA(hashes.SHA384())


def unsigned(key: bytes) -> bytes:
    """Lay out the card of a site that has no members pinned: nobody who has will accept it."""
    return key.ljust(CARD_BYTES, b"\0")


@dataclass(frozen=True, slots=True)
class Identity:
    """A site's own key, and the keys of those that it adds up with.

    Attributes:
        own: Private half of the key by which the others know this site.
        pinned: Public keys by fingerprint, this site's own among them.
    """

    own: ec.EllipticCurvePrivateKey
    pinned: Mapping[bytes, ec.EllipticCurvePublicKey]

    @classmethod
    def from_keys(cls, private_key: bytes, public_keys: Sequence[bytes]) -> "Identity":
        """Read an OpenSSH private key, and public keys in PEM.

        Raises:
            ValueError: One of them is no elliptic curve key.
        """
        own = serialization.load_ssh_private_key(private_key, password=None)
        others = [serialization.load_pem_public_key(key) for key in public_keys]
        if not isinstance(own, ec.EllipticCurvePrivateKey):
            raise ValueError("the private key is no elliptic curve key")  # noqa: TRY004
        return cls.of(own, [key for key in others if isinstance(key, ec.EllipticCurvePublicKey)])

    @classmethod
    def of(
        cls, own: ec.EllipticCurvePrivateKey, others: Iterable[ec.EllipticCurvePublicKey]
    ) -> "Identity":
        """Pin the keys of others, and one's own."""
        return cls(own, {_fingerprint(key): key for key in (own.public_key(), *others)})

    def sign(self, key: bytes, label: str) -> bytes:
        """Lay out the card that vouches for a one-time key in one step of one training."""
        first, second = decode_dss_signature(self.own.sign(_said(key, label), DIGEST))
        numbers = (number.to_bytes(NUMBER_BYTES, "big") for number in (first, second))
        return key + _fingerprint(self.own.public_key()) + b"".join(numbers)

    def check(self, cards: Sequence[bytes], label: str) -> None:
        """Check that every member is another pinned site.

        Raises:
            SecureSumRefused: One is not, or is there twice; the message says which.
        """
        for card in cards:
            self._check_one(card, label)
        n_sites = len({_signer(card) for card in cards})
        if n_sites < len(cards):
            raise SecureSumRefused(
                f"the {len(cards)} members of this secure sum are only {n_sites} of the sites in "
                "federation.node.members"
            )

    def _check_one(self, card: bytes, label: str) -> None:
        key, signer, signature = card[:KEY_BYTES], _signer(card), card[2 * KEY_BYTES :]
        public = self.pinned.get(signer)
        if public is None:
            raise SecureSumRefused(
                f"a member of this secure sum is none of the sites in federation.node.members: its "
                f"key has the fingerprint {signer.hex()[:16]}"
            )
        numbers = (signature[:NUMBER_BYTES], signature[NUMBER_BYTES:])
        first, second = (int.from_bytes(number, "big") for number in numbers)
        try:
            public.verify(encode_dss_signature(first, second), _said(key, label), DIGEST)
        except InvalidSignature as error:
            raise SecureSumRefused(
                f"the site with the key {signer.hex()[:16]}, of federation.node.members, did not "
                "sign its part in this secure sum"
            ) from error


def _signer(card: bytes) -> bytes:
    return card[KEY_BYTES : 2 * KEY_BYTES]


def _said(key: bytes, label: str) -> bytes:
    return b"waypost secure sum member\0" + label.encode() + b"\0" + key


def _fingerprint(key: ec.EllipticCurvePublicKey) -> bytes:
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return sha256(key.public_bytes(encoding, form)).digest()
