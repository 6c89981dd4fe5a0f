import asyncio
import logging
from contextlib import suppress

import pytest

from gateway.artifacts.active import ActivePolicy, ActiveRouter
from gateway.artifacts.store import ArtifactStore, policy_store
from gateway.following import watch
from gateway.settings.config import GatewaySettings
from router_models.artifacts.artifact import read_manifest
from router_models.errors import ArtifactRejected
from tests.fakes.artifacts import ENCODER, EncoderIdentity, router_artifact
from tests.fakes.patience import PATIENCE_S
from tests.fakes.policies import policy_artifact

FIRST, SECOND, THIRD = (router_artifact(seed) for seed in range(3))
FOREIGN = router_artifact(encoder=EncoderIdentity(id="minilm2-cheap-1"))
VERSIONS = tuple(read_manifest(data).version for data in (FIRST, SECOND, THIRD))


class CountingStore(ArtifactStore):
    """Notes every read, so that a test can see what was kept in memory."""

    reads: list[str] = []  # noqa: RUF012

    def read(self, version: str) -> bytes:
        self.reads.append(version)
        return super().read(version)


@pytest.fixture
def store(tmp_path) -> ArtifactStore:
    CountingStore.reads.clear()
    store = CountingStore(tmp_path / "routers")
    for data in (FIRST, SECOND, THIRD):
        store.put(data)
    return store


@pytest.fixture
def packaged(tmp_path):
    path = tmp_path / "packaged.safetensors"
    path.write_bytes(THIRD)
    return path


@pytest.fixture
def active(store) -> ActiveRouter:
    return ActiveRouter(store, ENCODER)


def version_of(active: ActiveRouter) -> str | None:
    return None if active.current is None else active.current.version


async def test_without_a_folder_there_is_no_router(tmp_path):
    active = ActiveRouter(ArtifactStore(tmp_path / "none"), ENCODER)
    assert not await active.refresh()
    assert (active.current, active.last_error, active.rejected, active.swaps) == (None, None, 0, 0)


async def test_serves_the_router_that_was_activated(store, active):
    assert not await active.refresh()
    store.activate(VERSIONS[0])
    assert await active.refresh()
    assert version_of(active) == VERSIONS[0]
    assert not await active.refresh()


async def test_swaps_and_rolls_back_while_holders_keep_theirs(store, active):
    store.activate(VERSIONS[0])
    await active.refresh()
    held = active.current
    store.activate(VERSIONS[1])
    assert await active.refresh()
    assert version_of(active) == VERSIONS[1]
    assert held.version == VERSIONS[0]
    store.rollback()
    assert await active.refresh()
    assert (version_of(active), active.swaps) == (VERSIONS[0], 3)


async def test_serves_the_packaged_router_until_one_is_activated(store, packaged):
    active = ActiveRouter(store, ENCODER, default_file=packaged)
    assert await active.refresh()
    assert version_of(active) == VERSIONS[2]
    store.activate(VERSIONS[0])
    await active.refresh()
    assert version_of(active) == VERSIONS[0]
    (store.folder / "active").unlink()
    await active.refresh()
    assert version_of(active) == VERSIONS[2]


async def test_activating_the_packaged_version_itself_is_no_swap(store, packaged):
    active = ActiveRouter(store, ENCODER, default_file=packaged)
    await active.refresh()
    store.activate(VERSIONS[2])
    assert not await active.refresh()
    (store.folder / "active").unlink()
    assert not await active.refresh()
    assert active.swaps == 1


async def test_a_packaged_router_that_is_missing_is_an_error(store, tmp_path):
    active = ActiveRouter(store, ENCODER, default_file=tmp_path / "packaged.safetensors")
    assert not await active.refresh()
    assert active.current is None
    assert "packaged" in str(active.last_error)


async def test_without_an_active_version_no_router_serves_any_more(store, active):
    store.activate(VERSIONS[0])
    await active.refresh()
    (store.folder / "active").unlink()
    assert await active.refresh()
    assert active.current is None


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (SECOND[:-1], "not a valid safetensors file"),
        (SECOND[:-1] + b"\x7f", "checksum"),
        (b"", "too short"),
        (FIRST, "it was renamed"),
    ],
)
async def test_a_damaged_router_is_refused_and_the_old_one_serves_on(
    store, active, data, why, caplog
):
    store.activate(VERSIONS[0])
    await active.refresh()
    store.activate(VERSIONS[1])
    store.path(VERSIONS[1]).write_bytes(data)
    assert not await active.refresh()
    assert (version_of(active), active.rejected) == (VERSIONS[0], 1)
    assert VERSIONS[1] in active.last_error
    assert why in active.last_error
    assert f"{VERSIONS[0]} still serves" in caplog.text


async def test_the_log_says_when_no_other_router_serves(store, active, caplog):
    store.activate(VERSIONS[0])
    store.path(VERSIONS[0]).write_bytes(b"")
    await active.refresh()
    assert f"router was refused, and no other serves: {VERSIONS[0]}: " in caplog.text


async def test_a_router_of_another_encoder_is_refused(store, active):
    store.activate(VERSIONS[0])
    await active.refresh()
    store.activate(store.put(FOREIGN).version)
    assert not await active.refresh()
    assert version_of(active) == VERSIONS[0]
    assert "trained on encoder minilm2-cheap-1" in active.last_error


async def test_a_refused_router_is_not_read_again_until_its_file_changes(store, active):
    store.activate(VERSIONS[1])
    store.path(VERSIONS[1]).write_bytes(b"hello")
    store.reads.clear()
    await active.refresh()
    await active.refresh()
    assert (len(store.reads), active.rejected) == (1, 1)
    store.put(SECOND)
    assert await active.refresh()
    assert (version_of(active), active.last_error) == (VERSIONS[1], None)


async def test_a_missing_file_is_looked_for_again_and_counted_once(store, active):
    store.activate(VERSIONS[1])
    store.path(VERSIONS[1]).unlink()
    assert not await active.refresh()
    assert not await active.refresh()
    assert active.rejected == 1
    store.put(SECOND)
    assert await active.refresh()
    assert active.last_error is None


async def test_the_serving_router_outlives_its_file(store, active):
    store.activate(VERSIONS[0])
    await active.refresh()
    store.path(VERSIONS[0]).unlink()
    assert not await active.refresh()
    assert (version_of(active), active.rejected) == (VERSIONS[0], 0)


async def test_going_back_to_the_serving_router_clears_the_error(store, active):
    store.activate(VERSIONS[0])
    await active.refresh()
    store.activate(VERSIONS[1])
    store.path(VERSIONS[1]).write_bytes(b"hello")
    await active.refresh()
    store.rollback()
    assert not await active.refresh()
    assert (version_of(active), active.last_error) == (VERSIONS[0], None)


async def test_an_active_file_that_names_no_version_is_refused(store, active):
    store.activate(VERSIONS[0])
    await active.refresh()
    (store.folder / "active").write_text("../../etc/passwd")
    assert not await active.refresh()
    assert version_of(active) == VERSIONS[0]
    assert "is not a version" in active.last_error


async def until(condition) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 -- threads load, so there is no event to await
            await asyncio.sleep(0)


async def test_watches_the_folder_until_cancelled(store, active):
    task = asyncio.create_task(watch(active, 0.001))
    store.activate(VERSIONS[0])
    await until(lambda: version_of(active) == VERSIONS[0])
    store.activate(VERSIONS[1])
    await until(lambda: version_of(active) == VERSIONS[1])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_poll_that_fails_does_not_end_the_watch(store, active, monkeypatch, caplog):
    def fail(self):
        raise OSError(5, "Input/output error")

    store.activate(VERSIONS[0])
    with monkeypatch.context() as patch:
        patch.setattr(ArtifactStore, "active", fail)
        task = asyncio.create_task(watch(active, 0.001))
        await until(lambda: active.rejected > 1)
        assert "Input/output error" in active.last_error
    await until(lambda: active.current is not None)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert caplog.records[0].levelno == logging.ERROR


async def test_a_pinned_version_is_loaded_once(store, active):
    store.activate(VERSIONS[0])
    await active.refresh()
    first = await active.pinned(VERSIONS[1])
    assert first.version == VERSIONS[1]
    assert await active.pinned(VERSIONS[1]) is first
    assert store.reads == [VERSIONS[0], VERSIONS[0], VERSIONS[1]]  # activated, served, pinned
    assert version_of(active) == VERSIONS[0]


async def test_pinning_the_serving_version_reads_nothing(store, active):
    store.activate(VERSIONS[0])
    await active.refresh()
    store.reads.clear()
    assert await active.pinned(VERSIONS[0]) is active.current
    assert store.reads == []


async def test_requests_that_pin_the_same_version_at_once_share_one_load(store, active):
    found = await asyncio.gather(*(active.pinned(VERSIONS[1]) for _ in range(20)))
    assert all(router is found[0] for router in found)
    assert store.reads == [VERSIONS[1]]


async def test_a_request_that_leaves_does_not_cancel_the_load_of_another(store, active):
    leaving = asyncio.create_task(active.pinned(VERSIONS[1]))
    staying = asyncio.create_task(active.pinned(VERSIONS[1]))
    await asyncio.sleep(0)
    leaving.cancel()
    assert (await staying).version == VERSIONS[1]
    assert store.reads == [VERSIONS[1]]


async def test_only_the_latest_pinned_versions_stay_in_memory(store):
    active = ActiveRouter(store, ENCODER, max_pinned=2)
    for index in (0, 1, 0, 2):
        await active.pinned(VERSIONS[index])
    store.reads.clear()
    await active.pinned(VERSIONS[0])
    await active.pinned(VERSIONS[2])
    assert store.reads == []
    await active.pinned(VERSIONS[1])
    assert store.reads == [VERSIONS[1]]


@pytest.mark.parametrize(
    "version", ["../../etc/passwd", "", "active", "kmeans-20261103-000000000000"]
)
async def test_a_version_that_is_not_there_cannot_be_pinned(active, version):
    with pytest.raises(ArtifactRejected):
        await active.pinned(version)


async def test_a_version_of_another_encoder_cannot_be_pinned(store, active):
    version = store.put(FOREIGN).version
    with pytest.raises(ArtifactRejected, match="trained on encoder"):
        await active.pinned(version)


async def test_a_load_cut_short_at_shutdown_is_forgotten(active):
    waiting = asyncio.create_task(active.pinned(VERSIONS[1]))
    await asyncio.sleep(0)
    active.pinned_versions.reads[VERSIONS[1]].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not active.pinned_versions.reads


async def test_a_load_that_everybody_left_fails_quietly(store, active):
    store.path(VERSIONS[1]).write_bytes(b"hello")
    leaving = asyncio.create_task(active.pinned(VERSIONS[1]))
    await asyncio.sleep(0)
    leaving.cancel()
    await until(lambda: not active.pinned_versions.reads)
    assert active.last_error is None


async def test_a_policy_of_another_encoder_leaves_the_old_one_serving(tmp_path, caplog):
    store = policy_store(GatewaySettings(data_dir=tmp_path))
    policy = ActivePolicy(store, ENCODER)
    served = store.put(policy_artifact(0)).version
    store.activate(served)
    assert await policy.refresh()
    other = EncoderIdentity(id="another-1")
    store.activate(store.put(policy_artifact(1, encoder=other)).version)
    with caplog.at_level(logging.CRITICAL):
        assert not await policy.refresh()
    assert policy.current is not None
    assert (policy.current.version, policy.rejected) == (served, 1)
