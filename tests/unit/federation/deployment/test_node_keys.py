import os
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from federation.deployment.certificates import CertificateFolder
from federation.deployment.node_keys import NodeKeys, WatchedKeys
from tests.fakes.clocks import ManualClock

NOW = datetime(2026, 11, 22, 22, 0, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> CertificateFolder:
    certificates = CertificateFolder(tmp_path)
    certificates.make_node_key("acme")
    certificates.make_node_key("zenith")
    return certificates


def signed(
    folder: CertificateFolder, claimed: str, signer: str, at: datetime = NOW
) -> dict[str, str]:
    """Headers that say `claimed` and are signed by `signer`."""
    raw = (folder.private_keys / f"{signer}.key").read_bytes()
    key = serialization.load_ssh_private_key(raw, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    signature = key.sign(at.isoformat().encode(), ec.ECDSA(hashes.SHA256()))
    public = NodeKeys.read(folder.public_keys).keys[claimed]
    return {
        "flwr-public-key": b64encode(public).decode(),
        "flwr-timestamp": at.isoformat(),
        "flwr-signature": b64encode(signature).decode(),
    }


def test_a_registered_node_is_let_in_by_name(folder):
    keys = NodeKeys.read(folder.public_keys)

    assert keys.admit(signed(folder, "zenith", "zenith"), NOW) == "zenith"


def test_a_public_key_alone_lets_nobody_in(folder):
    keys = NodeKeys.read(folder.public_keys)

    assert keys.admit(signed(folder, "zenith", "acme"), NOW) is None


@pytest.mark.parametrize("age", [timedelta(seconds=306), timedelta(seconds=-6)])
def test_an_old_or_future_signature_lets_nobody_in(folder, age):
    keys = NodeKeys.read(folder.public_keys)

    assert keys.admit(signed(folder, "acme", "acme", NOW - age), NOW) is None


@pytest.mark.parametrize("name", ["flwr-public-key", "flwr-timestamp", "flwr-signature"])
@pytest.mark.parametrize("value", ["", "%%%", "Kg=="])
def test_headers_that_make_no_sense_let_nobody_in(folder, name, value):
    keys = NodeKeys.read(folder.public_keys)

    assert keys.admit({**signed(folder, "acme", "acme"), name: value}, NOW) is None


def test_a_timestamp_without_a_zone_lets_nobody_in(folder):
    keys = NodeKeys.read(folder.public_keys)
    headers = signed(folder, "acme", "acme", NOW.replace(tzinfo=None))

    assert keys.admit(headers, NOW) is None


def test_no_headers_let_nobody_in(folder):
    assert NodeKeys.read(folder.public_keys).admit({}, NOW) is None


def test_a_removed_file_shuts_its_node_out_and_a_returned_one_lets_it_in(folder):
    clock = ManualClock(0.0)
    watched = WatchedKeys(folder.public_keys, clock, staleness_s=1.0)
    file = folder.public_keys / "acme.pub"
    content = file.read_bytes()
    assert set(watched().keys) == {"acme", "zenith"}

    file.unlink()
    clock.advance(1.1)
    assert set(watched().keys) == {"zenith"}

    file.write_bytes(content)
    clock.advance(1.1)
    assert set(watched().keys) == {"acme", "zenith"}


def test_a_file_without_a_key_shuts_out_nobody_else(folder):
    (folder.public_keys / "bad.pub").write_text("no key")

    read = NodeKeys.read(folder.public_keys)

    assert set(read.keys) == {"acme", "zenith"}
    assert "bad.pub" in read.problems[0]


@pytest.mark.parametrize("name", ["pipe.pub", "pipe.pub.revoked"])
def test_a_pipe_in_the_folder_of_keys_holds_up_nobody(folder, name):
    os.mkfifo(folder.public_keys / name)

    assert set(NodeKeys.read(folder.public_keys).keys) == {"acme", "zenith"}


@pytest.mark.parametrize("name", ["/dev/zero", "."])
def test_a_device_or_folder_in_place_of_a_key_is_not_read(folder, name):
    (folder.public_keys / "odd.pub").symlink_to(name)

    assert "no regular file" in NodeKeys.read(folder.public_keys).problems[0]


def test_a_key_of_another_kind_is_a_problem(folder):
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    (folder.public_keys / "short.pub").write_bytes(
        other.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    )

    assert "short.pub" in NodeKeys.read(folder.public_keys).problems[0]


def test_a_link_that_leads_nowhere_shuts_out_nobody_else(folder):
    (folder.public_keys / "odd.pub").symlink_to("x" * 300)  # longer than a name may be

    keys = NodeKeys.read(folder.public_keys)
    assert set(keys.keys) == {"acme", "zenith"}
    assert len(keys.problems) == 1


def test_a_node_is_revoked_whatever_else_lies_in_the_folder(folder):
    os.mkfifo(folder.public_keys / "pipe.pub")
    (folder.public_keys / "odd.pub").mkdir()
    key = (folder.public_keys / "acme.pub").read_text()
    (folder.public_keys / "alias.pub").write_text(key)

    assert [path.name for path in folder.revoke("acme")] == [
        "acme.pub.revoked",
        "alias.pub.revoked",
    ]
    assert set(NodeKeys.read(folder.public_keys).keys) == {"zenith"}


def test_every_key_that_was_revoked_stays_known(folder):
    first = NodeKeys.read(folder.public_keys).keys["acme"]
    folder.revoke("acme")
    folder.rotate("acme")
    second = NodeKeys.read(folder.public_keys).keys["acme"]

    assert [path.name for path in folder.revoke("acme")] == ["acme.pub.revoked.2"]
    assert NodeKeys.read(folder.public_keys).revoked == {first, second}
    assert (folder.public_keys / "acme.pub.revoked").exists()


def test_a_file_that_holds_no_key_can_be_revoked_too(folder):
    (folder.public_keys / "broken.pub").write_text("no key")

    assert [path.name for path in folder.revoke("broken")] == ["broken.pub.revoked"]
    assert set(NodeKeys.read(folder.public_keys).keys) == {"acme", "zenith"}


def test_nobody_unknown_can_be_revoked(folder):
    with pytest.raises(FileNotFoundError):
        folder.revoke("nobody")
