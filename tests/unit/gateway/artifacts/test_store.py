import os
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.artifacts import store as artifact_store
from gateway.artifacts.store import ArtifactStore, check_version, read_artifact
from router_models.artifacts.artifact import read_manifest
from router_models.artifacts.assessment import Assessment
from router_models.errors import ArtifactRejected
from tests.fakes.artifacts import CREATED_AT, router_artifact

FIRST, SECOND, THIRD = (router_artifact(seed) for seed in range(3))
VERSIONS = tuple(read_manifest(data).version for data in (FIRST, SECOND, THIRD))


@pytest.fixture
def store(tmp_path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "data" / "routers")


@pytest.fixture
def full_store(store: ArtifactStore) -> ArtifactStore:
    for data in (FIRST, SECOND, THIRD):
        store.put(data)
    return store


def test_keeps_an_artefact_under_its_version(store):
    manifest = store.put(FIRST)
    assert manifest.version == VERSIONS[0]
    assert (store.folder / f"{VERSIONS[0]}.safetensors").read_bytes() == FIRST
    assert store.read(VERSIONS[0]) == FIRST
    assert store.manifest(VERSIONS[0]) == manifest


def test_leaves_an_artefact_that_is_there_already_as_it_is(store):
    store.put(FIRST)
    before = store.path(VERSIONS[0]).stat()
    store.put(FIRST)
    assert store.path(VERSIONS[0]).stat() == before


def test_mends_a_damaged_file_when_its_artefact_is_put_again(store):
    store.put(FIRST)
    store.path(VERSIONS[0]).write_bytes(FIRST[:-1])
    store.put(FIRST)
    assert store.read(VERSIONS[0]) == FIRST


def test_does_not_keep_what_is_no_artefact(store):
    with pytest.raises(ArtifactRejected):
        store.put(b"hello")
    assert not store.folder.exists()


def test_leaves_no_other_files_behind(full_store):
    full_store.activate(VERSIONS[0])
    names = {path.name for path in full_store.folder.iterdir()}
    assert names == {f"{v}.safetensors" for v in VERSIONS} | {"active", "history"}


def test_a_write_that_fails_leaves_the_old_file_and_no_other(store, monkeypatch):
    store.put(FIRST)
    store.activate(VERSIONS[0])
    store.put(SECOND)
    names = sorted(store.folder.iterdir())

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        store.activate(VERSIONS[1])
    assert sorted(store.folder.iterdir()) == names
    assert store.active() == VERSIONS[0]


def test_nothing_is_active_in_a_folder_that_does_not_exist(store):
    assert store.active() is None
    assert store.list_all() == ()
    assert store.history() == []


def test_nothing_is_active_where_the_folder_is_a_file(tmp_path):
    (tmp_path / "routers").write_text("")
    assert ArtifactStore(tmp_path / "routers").active() is None


def test_activates_one_version_after_another(full_store):
    assert full_store.activate(VERSIONS[0]).version == VERSIONS[0]
    full_store.activate(VERSIONS[1])
    assert full_store.active() == VERSIONS[1]
    assert full_store.history() == list(VERSIONS[:2])


def test_activating_the_active_version_changes_nothing(full_store):
    full_store.activate(VERSIONS[0])
    full_store.activate(VERSIONS[0])
    assert full_store.history() == [VERSIONS[0]]


def test_remembers_only_the_latest_activations(full_store, monkeypatch):
    monkeypatch.setattr(artifact_store, "HISTORY_VERSIONS", 2)
    for version in VERSIONS:
        full_store.activate(version)
    assert full_store.history() == list(VERSIONS[1:])


def test_does_not_activate_a_version_it_lacks(store):
    with pytest.raises(ArtifactRejected, match="is not in"):
        store.activate(VERSIONS[0])


def test_does_not_activate_a_damaged_version(full_store):
    full_store.activate(VERSIONS[0])
    full_store.path(VERSIONS[1]).write_bytes(SECOND[:-1] + b"!")
    with pytest.raises(ArtifactRejected, match="checksum"):
        full_store.activate(VERSIONS[1])
    assert full_store.active() == VERSIONS[0]


def test_does_not_activate_a_renamed_file(store):
    store.put(FIRST)
    store.path(VERSIONS[0]).rename(store.path(VERSIONS[1]))
    with pytest.raises(ArtifactRejected, match=f"holds {VERSIONS[0]}: it was renamed"):
        store.activate(VERSIONS[1])


def test_rolls_back_step_by_step(full_store):
    for version in VERSIONS:
        full_store.activate(version)
    assert full_store.rollback().version == VERSIONS[1]
    assert full_store.rollback().version == VERSIONS[0]
    assert full_store.active() == VERSIONS[0]
    with pytest.raises(ArtifactRejected, match="no earlier version"):
        full_store.rollback()
    assert full_store.active() == VERSIONS[0]


def test_a_version_rolled_back_can_be_activated_again(full_store):
    full_store.activate(VERSIONS[0])
    full_store.activate(VERSIONS[1])
    full_store.rollback()
    full_store.activate(VERSIONS[1])
    assert full_store.history() == list(VERSIONS[:2])


def test_rolls_back_to_the_last_version_where_the_active_file_was_lost(full_store):
    full_store.activate(VERSIONS[0])
    (full_store.folder / "active").unlink()
    assert full_store.rollback().version == VERSIONS[0]


def test_does_not_roll_back_to_a_version_that_is_gone(full_store):
    full_store.activate(VERSIONS[0])
    full_store.activate(VERSIONS[1])
    full_store.path(VERSIONS[0]).unlink()
    with pytest.raises(ArtifactRejected, match="is not in"):
        full_store.rollback()
    assert full_store.active() == VERSIONS[1]


def test_an_activation_cut_short_after_its_history_does_no_harm(full_store):
    full_store.activate(VERSIONS[0])
    full_store.activate(VERSIONS[1])
    with (full_store.folder / "history").open("a") as file:
        file.write(f"{VERSIONS[2]}\n")
    assert full_store.rollback().version == VERSIONS[0]
    assert full_store.history() == [VERSIONS[0]]


def test_ignores_junk_in_the_history(full_store):
    (full_store.folder / "history").write_bytes(b"\xff\n../../etc\n" + VERSIONS[0].encode() + b"\n")
    assert full_store.history() == [VERSIONS[0]]


@pytest.mark.parametrize("content", [b"", b"../../etc/passwd", b"\xff\xfe", b"x" * 10_000])
def test_an_active_file_that_names_no_version_is_an_error(full_store, content):
    full_store.activate(VERSIONS[0])
    (full_store.folder / "active").write_bytes(content)
    with pytest.raises(ArtifactRejected, match="is not a version"):
        full_store.active()
    assert not any(item.is_active for item in full_store.list_all())
    assert full_store.activate(VERSIONS[1]).version == full_store.active()


def test_an_active_file_that_cannot_be_read_is_an_error(store):
    (store.folder / "active").mkdir(parents=True)
    with pytest.raises(ArtifactRejected, match="cannot be read"):
        store.active()


def test_lists_the_newest_first_and_what_cannot_be_used_last(store):
    late = router_artifact(7, created_at=CREATED_AT + timedelta(days=1))
    for data in (FIRST, late, SECOND):
        store.put(data)
    store.activate(VERSIONS[0])
    store.path(VERSIONS[1]).write_bytes(b"hello")
    (store.folder / "notes.safetensors").write_bytes(b"")
    newest, first, *broken = store.list_all()
    assert newest.version == read_manifest(late).version
    assert (first.version, first.is_active, first.problem) == (VERSIONS[0], True, None)
    assert {item.version for item in broken} == {VERSIONS[1], "notes"}
    assert all(item.manifest is None and item.problem for item in broken)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        "../kmeans-20261103-9f86d081884c",
        "kmeans-20261103-9f86d081884c/..",
        "kmeans-20261103-9f86d081884c\n",
        "kmeans-20261103-9f86d081884c.safetensors",
        "kmeans-20261103-9F86D081884C",
        "kmeans-٢٠٢٦١١٠٣-9f86d081884c",
        "/etc/passwd",
        "a" * 100_000,
    ],
)
def test_only_versions_lead_to_files(store, name):
    for read in (check_version, store.path, store.read, store.manifest, store.activate):
        with pytest.raises(ArtifactRejected, match="is not a version") as caught:
            read(name)
        assert len(str(caught.value)) < 300


def test_does_not_read_a_file_that_is_too_long(tmp_path, monkeypatch):
    monkeypatch.setattr(artifact_store, "MAX_ARTIFACT_BYTES", 10)
    path = tmp_path / "big.safetensors"
    path.write_bytes(bytes(11))
    with pytest.raises(ArtifactRejected, match="too long"):
        read_artifact(path)


def test_says_which_file_cannot_be_read(tmp_path):
    with pytest.raises(ArtifactRejected, match="cannot be read"):
        read_artifact(tmp_path)
    with pytest.raises(ArtifactRejected, match="x is not in"):
        read_artifact(Path(tmp_path, "x"))


def test_others_may_read_what_was_written(full_store):
    assert full_store.path(VERSIONS[0]).stat().st_mode & 0o777 == 0o644


def noted(day: int, outcome="candidate") -> Assessment:
    return Assessment(outcome, f"day {day}", CREATED_AT + timedelta(days=day), {"rows": 7.0})


def test_keeps_beside_a_version_what_was_made_of_it(full_store):
    full_store.note(VERSIONS[0], noted(1))
    assert full_store.assessment(VERSIONS[0]) == noted(1)
    assert full_store.assessment(VERSIONS[1]) is None
    assert {item.version: item.assessment for item in full_store.list_all()} == {
        VERSIONS[0]: noted(1),
        VERSIONS[1]: None,
        VERSIONS[2]: None,
    }


def test_a_note_that_cannot_be_read_does_no_harm(full_store):
    (full_store.folder / f"{VERSIONS[0]}.json").write_text("{")
    assert full_store.assessment(VERSIONS[0]) is None
    assert full_store.activate(VERSIONS[0]).version == VERSIONS[0]


def test_a_candidate_is_activated_and_rolled_back_like_any_other(full_store):
    full_store.activate(VERSIONS[0])
    full_store.note(VERSIONS[1], noted(1))
    full_store.activate(VERSIONS[1])
    assert full_store.rollback().version == VERSIONS[0]


def test_prunes_the_oldest_assessments_first(full_store):
    for day, version in enumerate(VERSIONS):
        full_store.note(version, noted(day))
    assert full_store.prune(1) == (VERSIONS[1], VERSIONS[0])
    assert {path.name for path in full_store.folder.iterdir()} == {
        f"{VERSIONS[2]}.safetensors",
        f"{VERSIONS[2]}.json",
    }


def test_does_not_prune_what_serves_or_served_or_nobody_assessed(full_store):
    full_store.note(VERSIONS[0], noted(1))
    full_store.activate(VERSIONS[0])
    full_store.note(VERSIONS[1], noted(2, "activated"))
    full_store.activate(VERSIONS[1])
    assert full_store.prune(0) == ()
    assert len(full_store.list_all()) == 3


@pytest.mark.parametrize("name", ["..", "../../etc/passwd", ""])
def test_only_versions_lead_to_notes(store, name):
    with pytest.raises(ArtifactRejected, match="is not a version"):
        store.assessment(name)
    with pytest.raises(ArtifactRejected, match="is not a version"):
        store.note(name, noted(1))
