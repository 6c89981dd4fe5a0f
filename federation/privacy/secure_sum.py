"""Adds up clients' arrays so that whoever adds sees the total and nothing else.

Each pair of members agrees on a key (X25519) through the coordinator and stretches it into a mask
(HKDF, AES-CTR); one adds it, the other takes it away, modulo 2^64. A masked message is uniform
noise; the masks cancel in the sum of all members and in no other. Bonawitz et al. 2017 (doi
10.1145/3133956.3133982), section 4.0.1, without its recovery: if a member drops out, the others
repeat the step with fresh keys.

What it does not do: a coordinator that makes up members, or that says a member dropped out and
keeps the late message, can still single that member out. It protects against one that follows the
protocol and looks at what it gets, and against whoever steals its disk.
"""

from collections.abc import Collection, Sequence
from math import prod
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from federation.errors import FederationError
from router_models.types import Arrays

LEAST_MEMBERS = 3
"""Of two members each knows the other's values: the sum minus its own."""

FRACTION_BITS = 32
"""Resolution 2.3e-10: ten calls of a tenth of a micro-dollar are still told from nothing."""

KEY_BYTES = 32
WORD = np.dtype("<u8")


class SecureSumRefused(FederationError):
    """A member will not mask, or a sum cannot be unmasked; the message says why."""


def generate_private_key() -> bytes:
    """Draw the private key of one member for one sum; never use it for a second one."""
    return X25519PrivateKey.generate().private_bytes_raw()


def public_key(private_key: bytes) -> bytes:
    """Say what the other members need to know of a private key; 32 bytes."""
    return X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()


def mask(
    payload: Arrays, private_key: bytes, members: Collection[bytes], label: str
) -> dict[str, NDArray[np.uint64]]:
    """Hide one member's payload.

    Args:
        payload: Real numbers; each at most 2^31 / members in size.
        private_key: From `generate_private_key`; its public key is one of `members`.
        members: Public keys of all members, this one's included.
        label: Session, step and attempt; masks of another label do not cancel.

    Returns:
        Arrays of the same names and shapes.

    Raises:
        SecureSumRefused: Fewer than three members, a key that is no key or not unique, a value that
            is not finite or too large.
    """
    ordered = sorted(members)
    own = public_key(private_key)
    if len(set(ordered)) != len(ordered) or own not in ordered:
        raise SecureSumRefused("the members' keys must be distinct and include this member's own")
    if len(ordered) < LEAST_MEMBERS:
        raise SecureSumRefused(
            f"{len(ordered)} members; a secure sum needs at least {LEAST_MEMBERS}"
        )
    names = sorted(payload)
    words = np.concatenate([_encode(name, payload[name], len(ordered)) for name in names])
    info = b"waypost secure sum\0" + label.encode() + b"\0" + b"".join(ordered)
    for other in ordered:
        if other != own:
            stream = _stream(private_key, other, info, len(words))
            words = words + stream if own < other else words - stream
    return _split(words, names, [np.shape(payload[name]) for name in names])


def unmask(masked: Sequence[Arrays], n_members: int) -> dict[str, NDArray[np.float64]]:
    """Add up what all members sent.

    Raises:
        SecureSumRefused: A member's message is missing, or the messages' names, shapes or dtypes
            differ.
    """
    if len(masked) != n_members or not masked:
        raise SecureSumRefused(
            f"{len(masked)} of {n_members} members answered, so the masks cannot be removed"
        )
    layouts = [{n: (a.shape, a.dtype) for n, a in message.items()} for message in masked]
    if any(layout != layouts[0] for layout in layouts):
        raise SecureSumRefused("the members' messages differ in names, shapes or dtypes")
    if any(dtype != WORD for _, dtype in layouts[0].values()):
        raise SecureSumRefused("a masked array must hold 64-bit words")
    return {name: _decode(sum(message[name] for message in masked)) for name in masked[0]}


def _encode(name: str, array: NDArray[Any], n_members: int) -> NDArray[np.uint64]:
    """Write real numbers as fixed point; the sum over all members stays below 2^63."""
    flat = np.asarray(array, np.float64).ravel()
    largest = 2.0 ** (63 - FRACTION_BITS) / n_members
    if not (np.abs(flat) < largest).all():
        raise SecureSumRefused(
            f"{name!r} holds a value that is not finite or beyond {largest:.3g}, the most that "
            f"{n_members} members can add up"
        )
    return np.rint(flat * 2.0**FRACTION_BITS).astype("<i8").view(WORD)


def _decode(words: Any) -> NDArray[np.float64]:
    numbers: NDArray[np.float64] = np.asarray(words, WORD).view("<i8") / 2.0**FRACTION_BITS
    return numbers


def _stream(private_key: bytes, other: bytes, info: bytes, n_words: int) -> NDArray[np.uint64]:
    """Stretch what two members share into as many random words as there are values."""
    try:
        secret = X25519PrivateKey.from_private_bytes(private_key).exchange(
            X25519PublicKey.from_public_bytes(other)
        )
    except ValueError as error:
        raise SecureSumRefused("a member's public key is not a valid key") from error
    key = HKDF(SHA256(), KEY_BYTES, salt=None, info=info).derive(secret)
    # A key serves one stream only, so the counter may start at 0.
    encryptor = Cipher(AES(key), CTR(bytes(16))).encryptor()
    return np.frombuffer(encryptor.update(bytes(WORD.itemsize * n_words)), WORD)


def _split(
    words: NDArray[np.uint64], names: list[str], shapes: list[tuple[int, ...]]
) -> dict[str, NDArray[np.uint64]]:
    ends = np.cumsum([prod(shape) for shape in shapes])
    parts = np.split(words, ends[:-1])
    return {n: part.reshape(s) for n, part, s in zip(names, parts, shapes, strict=True)}
