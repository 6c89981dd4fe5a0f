import os
import re
import stat
from functools import partial

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.artifacts.store import ArtifactStore
from gateway.artifacts.trust import Trust, make_key, public_text, read_key, signature_path
from gateway.settings.base import ConfigurationError
from gateway.settings.config import GatewaySettings
from router_models.artifacts.artifact import read_manifest
from router_models.artifacts.assessment import Assessment
from router_models.errors import ArtifactRejected
from tests.fakes.artifacts import CREATED_AT, router_artifact
from tests.fakes.processes import ROOT
from tests.fakes.signing import FEDERATION, OPERATOR, STRANGER, key_file, signed, trust_in

FIRST, SECOND = router_artifact(0), router_artifact(1)
VERSIONS = tuple(read_manifest(data).version for data in (FIRST, SECOND))
SIGNED = tuple(signed(OPERATOR, v, d) for v, d in zip(VERSIONS, (FIRST, SECOND), strict=True))


@pytest.fixture
def store(tmp_path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "routers", trust_in(OPERATOR))


@pytest.fixture
def served(store: ArtifactStore) -> ArtifactStore:
    """A store with two signed versions, the second of which serves."""
    for data, line, version in zip((FIRST, SECOND), SIGNED, VERSIONS, strict=True):
        store.put(data, line)
        store.activate(version)
    return store


def test_what_is_signed_can_be_kept_activated_and_rolled_back(served):
    assert served.rollback().version == VERSIONS[0]
    assert served.active() == VERSIONS[0]
    assert [item.problem for item in served.list_all()] == [None, None]


def test_what_is_not_signed_is_not_kept(store):
    with pytest.raises(ArtifactRejected, match="it is not signed"):
        store.put(FIRST)
    with pytest.raises(ArtifactRejected, match=f"signature is that of {VERSIONS[1]}"):
        store.put(FIRST, signed(OPERATOR, VERSIONS[1], FIRST))
    assert not store.folder.exists()


def test_a_signature_is_checked_before_the_bytes_are_parsed(store):
    with pytest.raises(ArtifactRejected, match="by key-0 does not match"):
        store.put(b"not even an artefact", SIGNED[0])


def test_what_lost_its_signature_is_neither_activated_nor_rolled_back_to(served):
    signature_path(served.path(VERSIONS[0])).unlink()

    with pytest.raises(ArtifactRejected, match="it is not signed"):
        served.activate(VERSIONS[0])
    with pytest.raises(ArtifactRejected, match="it is not signed"):
        served.rollback()

    assert served.active() == VERSIONS[1]
    assert "not signed" in str(served.list_all()[0].problem or served.list_all()[1].problem)


def test_a_link_to_another_artefact_is_read_as_that_one_and_refused(served):
    path = served.path(VERSIONS[0])
    path.unlink()
    path.symlink_to(served.path(VERSIONS[1]))

    with pytest.raises(ArtifactRejected, match="does not match"):
        served.read(VERSIONS[0])


def test_a_pair_under_another_name_is_refused(served):
    first, second = map(served.path, VERSIONS)
    first.write_bytes(second.read_bytes())
    signature_path(first).write_bytes(signature_path(second).read_bytes())

    with pytest.raises(ArtifactRejected, match=f"signature is that of {VERSIONS[1]}"):
        served.read(VERSIONS[0])


@pytest.mark.parametrize("name", ["../../../etc/passwd", "..", "kmeans-20261103-0123456789ab.sig"])
def test_a_signed_name_never_leads_out_of_the_folder(store, name):
    with pytest.raises(ArtifactRejected):
        store.put(FIRST, signed(OPERATOR, name, FIRST))
    with pytest.raises(ArtifactRejected, match="is not a version"):
        store.read(name)
    assert not store.folder.exists()


def test_a_signature_that_cannot_be_read_is_refused(served):
    beside = signature_path(served.path(VERSIONS[0]))
    beside.unlink()
    beside.mkdir()
    with pytest.raises(ArtifactRejected, match="cannot be read"):
        served.read(VERSIONS[0])


@pytest.mark.parametrize("place", ["artefact", "signature", "active"])
def test_a_pipe_in_the_place_of_a_file_does_not_hold_up_its_reader(served, place):
    path = served.path(VERSIONS[0])
    places = {
        "artefact": path,
        "signature": signature_path(path),
        "active": served.folder / "active",
    }
    places[place].unlink()
    os.mkfifo(places[place])

    read = served.active if place == "active" else partial(served.read, VERSIONS[0])
    with pytest.raises(ArtifactRejected, match="cannot be read: it is no regular file"):
        read()


def test_a_pipe_in_the_place_of_a_note_or_the_history_holds_up_nobody(served):
    version = VERSIONS[0]
    for place in (f"{version}.json", "history"):
        (served.folder / place).unlink(missing_ok=True)
        os.mkfifo(served.folder / place)

    assert served.assessments() == []
    assert served.history() == []


def test_a_pipe_in_the_place_of_an_artefact_is_replaced_by_it(store):
    path = store.path(VERSIONS[0])
    path.parent.mkdir(parents=True)
    os.mkfifo(path)

    assert store.put(FIRST, SIGNED[0]).version == VERSIONS[0]
    assert path.read_bytes() == FIRST


def test_what_is_made_here_is_signed_here(tmp_path):
    trust = trust_in(OPERATOR, signing_key=key_file(tmp_path))
    store = ArtifactStore(tmp_path / "routers", trust)
    assert store.takes_own
    assert store.activate(store.put_own(FIRST).version).version == VERSIONS[0]


def test_what_is_made_here_without_a_key_is_kept_and_serves_once_it_is_signed(store):
    assert not store.takes_own
    store.put_own(FIRST)
    with pytest.raises(ArtifactRejected, match="it is not signed"):
        store.activate(VERSIONS[0])

    signature_path(store.path(VERSIONS[0])).write_bytes(SIGNED[0])

    assert store.activate(VERSIONS[0]).version == VERSIONS[0]


def test_without_keys_an_artefact_has_the_bytes_it_always_had_and_no_other_file(tmp_path):
    store = ArtifactStore(tmp_path / "routers")
    store.put(FIRST)
    store.put_own(SECOND)
    store.verify("kmeans-20261103-0123456789ab")
    assert {path.name: path.read_bytes() for path in store.folder.iterdir()} == {
        f"{VERSIONS[0]}.safetensors": FIRST,
        f"{VERSIONS[1]}.safetensors": SECOND,
    }


def test_a_version_that_is_pruned_takes_its_signature_along(store):
    store.put(FIRST, SIGNED[0])
    store.note(VERSIONS[0], Assessment("candidate", "it may lose", CREATED_AT, {}))
    assert store.prune(0) == (VERSIONS[0],)
    assert list(store.folder.iterdir()) == []


def test_a_new_key_is_for_its_owner_alone_and_never_overwrites(tmp_path):
    file = tmp_path / "key.pem"
    public_key = make_key(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert public_text(read_key(file)) == public_key
    with pytest.raises(FileExistsError):
        make_key(file)


@pytest.mark.parametrize("content", [b"", b"no key", None])
def test_what_holds_no_key_is_refused_at_the_start(tmp_path, content):
    file = tmp_path / "key.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"artifacts\.signing_key: .*key\.pem"):
        Trust(signing_key=file).require_key()
    Trust().require_key()


def test_a_key_of_another_kind_is_refused(tmp_path):
    file = tmp_path / "key.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(ArtifactRejected, match=r"another kind than Ed25519"):
        read_key(file)


@pytest.mark.parametrize("key", ["", "ab" * 31, "AB" * 32, "ab" * 32 + "\n", "no key"])
def test_a_key_that_is_none_stops_the_start(tmp_path, key):
    with pytest.raises(ValueError, match="ops is no public key"):
        GatewaySettings.model_validate(
            {"data_dir": tmp_path, "artifacts": {"trusted_keys": {"ops": key}}}
        )


def test_a_strangers_artefact_is_refused_however_it_came(store):
    for key in (STRANGER, FEDERATION):
        with pytest.raises(ArtifactRejected, match="does not have"):
            store.put(FIRST, signed(key, VERSIONS[0], FIRST))


def test_the_gateway_opens_every_store_with_the_keys_of_its_settings():
    """A store that is opened another way would ask for no signature."""
    modules = [path for path in (ROOT / "gateway").rglob("*.py") if path.name != "store.py"]
    opened = re.compile(r"(Artifact|Sealed)Store\(")
    assert len(modules) > 100
    assert [path.name for path in modules if opened.search(path.read_text())] == []
