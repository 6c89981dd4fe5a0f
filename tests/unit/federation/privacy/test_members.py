import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from federation.privacy.members import Identity, unsigned
from federation.privacy.secure_sum import SecureSumRefused

KEYS = [ec.generate_private_key(ec.SECP384R1()) for _ in range(3)]
SITES = [Identity.of(key, [other.public_key() for other in KEYS]) for key in KEYS]
ONE_TIME = [bytes([place]) * 32 for place in range(3)]


def cards(label: str = "step") -> list[bytes]:
    return [site.sign(key, label) for site, key in zip(SITES, ONE_TIME, strict=True)]


def test_sites_that_pinned_each_other_add_up():
    SITES[0].check(cards(), "step")


def test_a_card_of_another_step_is_refused():
    with pytest.raises(SecureSumRefused, match="did not sign"):
        SITES[0].check(cards("another step"), "step")


def test_a_card_whose_key_was_replaced_is_refused():
    first, *others = cards()
    with pytest.raises(SecureSumRefused, match="did not sign"):
        SITES[0].check([b"\xff" * 32 + first[32:], *others], "step")


def test_a_card_without_a_signature_is_of_nobody():
    with pytest.raises(SecureSumRefused, match=r"none of the sites in federation\.node\.members"):
        SITES[0].check([*cards()[:2], unsigned(ONE_TIME[2])], "step")


def test_a_site_that_was_not_pinned_is_refused_by_its_fingerprint():
    stranger = Identity.of(ec.generate_private_key(ec.SECP384R1()), [])
    (fingerprint,) = stranger.pinned
    with pytest.raises(SecureSumRefused, match=fingerprint.hex()[:16]):
        SITES[0].check([*cards()[:2], stranger.sign(ONE_TIME[2], "step")], "step")


def test_a_key_of_another_kind_is_none_to_sign_with():
    private = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    with pytest.raises(ValueError, match="no elliptic curve key"):
        Identity.from_keys(private, [])
