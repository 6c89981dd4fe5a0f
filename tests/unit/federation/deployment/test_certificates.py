from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from federation.deployment.certificates import CertificateFolder, write_private
from federation.deployment.node_keys import NodeKeys

NOW = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> CertificateFolder:
    return CertificateFolder(tmp_path / "certificates")


def test_the_server_certificate_is_signed_by_the_authority_and_names_the_hosts(folder):
    folder.issue_server(["coordinator.example", "127.0.0.1"], NOW)

    authority = x509.load_pem_x509_certificate(folder.authority.read_bytes())
    server = x509.load_pem_x509_certificate(folder.server.read_bytes())
    server.verify_directly_issued_by(authority)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["coordinator.example"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


def test_a_renewed_server_certificate_keeps_the_authority_that_nodes_trust(folder):
    folder.issue_server(["a.example"], NOW)
    authority, server = folder.authority.read_bytes(), folder.server.read_bytes()

    folder.issue_server(["a.example"], NOW)

    assert folder.authority.read_bytes() == authority
    assert folder.server.read_bytes() != server


def test_nobody_but_the_owner_can_read_a_private_file(folder):
    written = folder.issue_server(["a.example"], NOW) + folder.make_node_key("acme")

    modes = {path.name: path.stat().st_mode & 0o777 for path in written}
    assert [modes[name] for name in ("ca.key", "server.key", "acme.key")] == [0o600] * 3


def test_a_private_file_is_replaced_whatever_its_mode_was(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(b"old")
    path.chmod(0o644)

    write_private(path, b"new")

    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_node_key_that_exists_is_left_alone(folder):
    folder.make_node_key("acme")
    before = (folder.private_keys / "acme.key").read_bytes()

    assert folder.make_node_key("acme") == []
    assert (folder.private_keys / "acme.key").read_bytes() == before


def test_the_two_halves_of_a_node_key_belong_together(folder):
    folder.make_node_key("acme")

    private = serialization.load_ssh_private_key(
        (folder.private_keys / "acme.key").read_bytes(), password=None
    )
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert NodeKeys.read(folder.public_keys).keys == {"acme": public}
