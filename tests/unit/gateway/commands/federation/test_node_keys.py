"""One command shuts a node out, and one gives it another key."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from federation.deployment.certificates import CertificateFolder
from federation.deployment.node_keys import NodeKeys
from gateway.commands.federation import command


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    file = tmp_path / "waypost.toml"
    file.write_text(f'data_dir = "{tmp_path}"\n')
    return file


@pytest.fixture
def folder(tmp_path: Path) -> CertificateFolder:
    folder = CertificateFolder(tmp_path / "federation" / "certificates")
    folder.make_node_key("acme")
    folder.make_node_key("zenith")
    return folder


def run(settings_file: Path, name: str, *arguments: str) -> Result:
    return CliRunner().invoke(command, [name, "--config", str(settings_file), *arguments])


def keys(folder: CertificateFolder) -> dict[str, bytes]:
    return dict(NodeKeys.read(folder.public_keys).keys)


def test_a_revoked_node_is_let_in_no_more_and_can_be_let_in_again(settings_file, folder):
    before = keys(folder)
    result = run(settings_file, "revoke", "acme")

    assert "acme.pub.revoked" in result.output
    assert set(keys(folder)) == {"zenith"}
    revoked = folder.public_keys / "acme.pub.revoked"
    revoked.rename(folder.public_keys / "acme.pub")
    assert keys(folder) == before


def test_a_node_gets_another_key(settings_file, folder):
    before, private = keys(folder), folder.private_keys / "acme.key"
    old = private.read_bytes()
    result = run(settings_file, "rotate", "acme")

    assert "give the node its file" in result.output
    assert keys(folder)["acme"] != before["acme"]
    assert keys(folder)["zenith"] == before["zenith"]
    assert private.read_bytes() != old


def test_a_node_that_made_its_key_itself_gets_that_one(settings_file, folder, tmp_path):
    own = CertificateFolder(tmp_path / "own")
    own.make_node_key("acme")
    result = run(settings_file, "rotate", "acme", "--key", str(own.public_keys / "acme.pub"))

    assert result.exit_code == 0, result.output
    assert keys(folder)["acme"] == keys(own)["acme"]


def test_a_node_that_was_revoked_is_let_in_again_by_a_new_key_only(settings_file, folder):
    before = keys(folder)
    run(settings_file, "revoke", "acme")
    result = run(settings_file, "rotate", "acme")

    assert result.exit_code == 0, result.output
    assert keys(folder)["acme"] != before["acme"]
    assert keys(folder)["zenith"] == before["zenith"]


def test_a_file_that_holds_no_key_leaves_the_old_one(settings_file, folder, tmp_path):
    before = keys(folder)
    (tmp_path / "no.pub").write_text("no key")
    result = run(settings_file, "rotate", "acme", "--key", str(tmp_path / "no.pub"))

    assert result.exit_code == 1
    assert "--key" in result.output
    assert keys(folder) == before


@pytest.mark.parametrize("name", ["revoke", "rotate"])
def test_a_node_that_is_not_there_is_named(settings_file, folder, name):
    result = run(settings_file, name, "borealis")

    assert result.exit_code == 1
    assert "borealis: no such node" in result.output
