import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.artifacts.signature import FORM, MAX_BYTES, Signature, TrustedKeys
from router_models.errors import ArtifactRejected
from tests.fakes.signing import FEDERATION, OPERATOR, STRANGER, signed

NAME, OTHER_NAME = "kmeans-20261103-0123456789ab", "kmeans-20261103-ba9876543210"
DATA = b"every byte of an artefact"
KEYS = TrustedKeys(
    {key.public_key().public_bytes_raw(): name for key, name in ((OPERATOR, "ops"),)}
)


def test_what_a_trusted_key_signed_is_accepted_and_says_by_whom():
    assert KEYS.check(NAME, DATA, signed(OPERATOR, NAME, DATA)) == "ops"


def test_an_equal_file_has_an_equal_signature():
    assert signed(OPERATOR, NAME, DATA) == signed(OPERATOR, NAME, DATA)


def test_where_no_key_is_trusted_nothing_is_asked_for():
    assert TrustedKeys().check(NAME, DATA, None) is None
    assert TrustedKeys().check(NAME, DATA, b"nonsense") is None


@pytest.mark.parametrize(
    ("data", "line", "reason"),
    [
        (DATA, None, "it is not signed"),
        (DATA + b"\x00", signed(OPERATOR, NAME, DATA), "by ops does not match"),
        (DATA, signed(OPERATOR, OTHER_NAME, DATA), f"signature is that of {OTHER_NAME}"),
        (DATA, signed(OPERATOR, OTHER_NAME, DATA).replace(OTHER_NAME.encode(), NAME.encode()),
         "by ops does not match"),
        (DATA, signed(OPERATOR, NAME, b"other bytes"), "by ops does not match"),
        (DATA, signed(STRANGER, NAME, DATA), "a key that artifacts.trusted_keys does not have"),
        (DATA, signed(STRANGER, NAME, DATA).replace(
            STRANGER.public_key().public_bytes_raw().hex().encode(),
            OPERATOR.public_key().public_bytes_raw().hex().encode()),
         "by ops does not match"),
    ],
    ids=["unsigned", "file", "name", "renamed", "of-another", "unknown-key", "borrowed-key"],
)  # fmt: skip
def test_a_forgery_is_refused_and_says_why(data, line, reason):
    with pytest.raises(ArtifactRejected, match=reason):
        KEYS.check(NAME, data, line)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff" * 64,
        f"{FORM} {NAME} {'00' * 32}\n".encode(),
        f"{FORM} {NAME} {'00' * 31} {'00' * 64}\n".encode(),
        f"{FORM} {NAME} {'zz' * 32} {'00' * 64}\n".encode(),
        signed(OPERATOR, NAME, DATA).replace(b"-v1", b"-v2"),
        signed(OPERATOR, NAME, DATA) + b" " * MAX_BYTES,
    ],
)
def test_what_is_no_signature_is_refused_and_breaks_nothing(line):
    with pytest.raises(ArtifactRejected, match="not in the form of one"):
        KEYS.check(NAME, DATA, line)


def test_a_signature_of_the_wrong_length_is_refused():
    short = Signature(NAME, OPERATOR.public_key().public_bytes_raw(), b"\x00" * 63)
    with pytest.raises(ArtifactRejected, match="does not match"):
        KEYS.check(NAME, DATA, short.to_line())


@given(st.integers(0, 511))
def test_no_bit_of_a_signature_can_be_changed(bit):
    found = Signature.parse(signed(OPERATOR, NAME, DATA))
    value = bytearray(found.value)
    value[bit // 8] ^= 1 << bit % 8
    assert not Signature(NAME, found.public_key, bytes(value)).is_of(DATA)


def test_while_a_key_is_replaced_both_are_trusted():
    both = TrustedKeys(
        {key.public_key().public_bytes_raw(): name
         for key, name in ((OPERATOR, "old"), (FEDERATION, "new"))}
    )  # fmt: skip
    assert both.check(NAME, DATA, signed(OPERATOR, NAME, DATA)) == "old"
    assert both.check(NAME, DATA, signed(FEDERATION, NAME, DATA)) == "new"
