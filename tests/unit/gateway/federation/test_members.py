import shutil

import pytest

from federation.deployment.certificates import CertificateFolder
from gateway.federation.members import open_identity
from gateway.settings.config import ConfigurationError, GatewaySettings


@pytest.fixture
def folder(tmp_path) -> CertificateFolder:
    folder = CertificateFolder(tmp_path)
    for name in ("acme", "borealis", "cirrus"):
        folder.make_node_key(name)
    return folder


def settings_of(folder: CertificateFolder, **node) -> GatewaySettings:
    known = {"name": "acme", "private_key": folder.private_keys / "acme.key"}
    table = {"data_dir": folder.folder, "federation": {"node": known | node}}
    return GatewaySettings.model_validate(table)


def test_by_default_the_coordinator_names_the_members(folder):
    assert open_identity(settings_of(folder)) is None


def test_members_are_those_of_the_folder_and_the_site_itself(folder):
    (folder.public_keys / "acme.pub").unlink()
    (folder.public_keys / "cirrus.pub").rename(folder.folder / "cirrus.pub")
    with pytest.raises(ConfigurationError, match=r"3 sites with this one; .* makes 2"):
        open_identity(settings_of(folder, members=folder.public_keys))
    shutil.move(folder.folder / "cirrus.pub", folder.public_keys)
    identity = open_identity(settings_of(folder, members=folder.public_keys))
    assert identity is not None
    assert len(identity.pinned) == 3


def test_a_file_that_holds_no_key_stops_the_node(folder):
    (folder.public_keys / "broken.pub").write_text("no key")
    with pytest.raises(ConfigurationError, match=r"federation\.node\.members: .*broken\.pub"):
        open_identity(settings_of(folder, members=folder.public_keys))
