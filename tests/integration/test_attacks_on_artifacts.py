"""Somebody can write to the folder of artefacts, and wants something of theirs to serve.

A gateway with trusted keys keeps to what those keys signed, on every way by which an artefact comes
to serve: at the start, while it runs, after a rollback, for one request, and from a federation.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.artifacts.store import ACTIVE_FILE, policy_store, replace_file
from gateway.artifacts.trust import signature_path
from gateway.pool.announcements import GGUF_SUFFIX, Announcement, AnnouncementFile
from gateway.pool.pool import open_pool
from gateway.providers.http import HttpClient
from gateway.routing.encoders import load_encoder
from gateway.settings.config import GatewaySettings
from router_models.artifacts import adapter
from router_models.artifacts.artifact import read_manifest
from router_models.artifacts.sealed_file import Manifest
from tests.fakes.adapters import sealed_adapter
from tests.fakes.artifacts import router_artifact
from tests.fakes.gateway import LARGE, SMALL, RunningGateway, router_for, running_gateway
from tests.fakes.patience import PATIENCE_S
from tests.fakes.policies import policy_artifact
from tests.fakes.signing import FEDERATION, OPERATOR, STRANGER, signed, trusting
from tests.fakes.turns import until
from tests.fakes.upstream import completion, json_answer
from tests.integration.test_bad_artifacts import damaged, metric, until_rejected

BODY = {"model": "auto", "messages": [{"role": "user", "content": "Say hello."}]}
ENCODER = load_encoder("static")
GOOD = router_for(ENCODER)
OTHER = router_for(ENCODER, best=LARGE, seed=1)
GOOD_VERSION, OTHER_VERSION = (read_manifest(data).version for data in (GOOD, OTHER))
TRUSTED = trusting(OPERATOR, FEDERATION)

Attack = Callable[[], tuple[bytes, bytes | None]]
"""Returns the file and the signature that the attacker leaves under `OTHER_VERSION`."""


def of_another() -> tuple[bytes, bytes]:
    """The signature of another artefact, which a trusted key did sign."""
    return OTHER, signed(OPERATOR, GOOD_VERSION, GOOD)


def relabelled() -> tuple[bytes, bytes]:
    """The same, with this artefact's name written into it."""
    line = signed(OPERATOR, GOOD_VERSION, GOOD)
    return OTHER, line.replace(GOOD_VERSION.encode(), OTHER_VERSION.encode())


def other_manifest() -> tuple[bytes, bytes]:
    """An intact artefact, other than the signed one in a figure of its manifest alone."""
    changed = router_artifact(encoder=ENCODER, models=(SMALL, LARGE), training={"seed": 99})
    return changed, signed(OPERATOR, OTHER_VERSION, OTHER)


ATTACKS: dict[str, Attack] = {
    "unsigned": lambda: (OTHER, None),
    "unknown key": lambda: (OTHER, signed(STRANGER, OTHER_VERSION, OTHER)),
    "changed file": lambda: (damaged(OTHER), signed(OPERATOR, OTHER_VERSION, OTHER)),
    "changed manifest": other_manifest,
    "signature of another": of_another,
    "signature relabelled": relabelled,
    "signature damaged": lambda: (OTHER, signed(OPERATOR, OTHER_VERSION, OTHER)[:-9]),
    "signature empty": lambda: (OTHER, b""),
    "whole pair of another": lambda: (GOOD, signed(OPERATOR, GOOD_VERSION, GOOD)),
}


def smuggle(folder: Path, data: bytes, line: bytes | None, version: str = OTHER_VERSION) -> None:
    """Write as whoever may write to the folder: artefact, signature, and the name that serves."""
    path = folder / f"{version}.safetensors"
    if line is not None:
        replace_file(signature_path(path), line)
    replace_file(path, data)
    replace_file(folder / ACTIVE_FILE, f"{version}\n".encode())


@pytest.fixture
async def gateway(tmp_path):
    smuggle(tmp_path / "routers", GOOD, signed(OPERATOR, GOOD_VERSION, GOOD), GOOD_VERSION)
    async with running_gateway(tmp_path, keeps_store=True, artifacts=TRUSTED) as gateway:
        gateway.alpha.answers = [json_answer(completion())]
        gateway.beta.answers = [json_answer(completion())]
        yield gateway


async def serving(gateway: RunningGateway) -> str | None:
    """Ask, and return the version that routed."""
    async with gateway.caller() as http:
        response = await http.post("/v1/chat/completions", json=BODY)
    assert response.status_code == 200
    version: str | None = response.headers.get("x-waypost-router-version")
    return version


async def until_serving(gateway: RunningGateway, version: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await serving(gateway) != version:
            pass


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
async def test_a_router_that_nobody_trusted_signed_is_refused_and_the_old_one_serves(
    gateway, caplog, attack
):
    smuggle(gateway.store.folder, *attack())

    await until_rejected(gateway, 1)

    assert await serving(gateway) == GOOD_VERSION
    assert await metric(gateway, "router_loaded") == 1
    assert f"router was refused, {GOOD_VERSION} still serves: {OTHER_VERSION}: " in caplog.text


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
async def test_no_header_of_a_caller_loads_what_nobody_trusted_signed(gateway, attack):
    smuggle(gateway.store.folder, *attack())
    chosen = {"x-waypost-router-version": OTHER_VERSION}

    async with gateway.caller() as http:
        response = await http.post("/v1/chat/completions", json=BODY, headers=chosen)

    assert response.status_code == 400


async def test_a_gateway_that_starts_serves_no_unsigned_router(tmp_path):
    smuggle(tmp_path / "routers", OTHER, None)
    async with running_gateway(tmp_path, keeps_store=True, artifacts=TRUSTED) as gateway:
        gateway.alpha.answers = [json_answer(completion())]
        assert await serving(gateway) is None
        assert await metric(gateway, "router_artifacts_rejected_total") == 1


async def test_a_link_out_of_the_folder_serves_nothing_that_is_not_signed(gateway, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(OTHER)
    path = gateway.store.path(OTHER_VERSION)
    path.symlink_to(elsewhere)
    signature_path(path).symlink_to(signature_path(gateway.store.path(GOOD_VERSION)))
    (gateway.store.folder / ACTIVE_FILE).write_text(f"{OTHER_VERSION}\n")

    await until_rejected(gateway, 1)

    assert await serving(gateway) == GOOD_VERSION


async def test_a_refused_router_serves_as_soon_as_its_signature_is_there(gateway):
    smuggle(gateway.store.folder, OTHER, None)
    await until_rejected(gateway, 1)

    line = signed(FEDERATION, OTHER_VERSION, OTHER)
    replace_file(signature_path(gateway.store.path(OTHER_VERSION)), line)

    await until_serving(gateway, OTHER_VERSION)


async def test_an_older_signed_version_serves_again_for_that_is_a_rollback(gateway):
    smuggle(gateway.store.folder, OTHER, signed(OPERATOR, OTHER_VERSION, OTHER))
    await until_serving(gateway, OTHER_VERSION)

    (gateway.store.folder / ACTIVE_FILE).write_text(f"{GOOD_VERSION}\n")

    await until_serving(gateway, GOOD_VERSION)


async def test_a_key_that_is_no_longer_trusted_ends_what_it_signed(tmp_path):
    smuggle(tmp_path / "routers", GOOD, signed(OPERATOR, GOOD_VERSION, GOOD), GOOD_VERSION)
    only_new = trusting(FEDERATION)
    async with running_gateway(tmp_path, keeps_store=True, artifacts=only_new) as gateway:
        gateway.alpha.answers = [json_answer(completion())]
        assert await serving(gateway) is None


async def test_an_unsigned_budget_policy_is_refused_and_a_signed_one_serves(gateway):
    data = policy_artifact(encoder=ENCODER)
    store = policy_store(gateway.settings)
    version = store.form.read(data)[0].version
    smuggle(store.folder, data, None, version)
    async with asyncio.timeout(PATIENCE_S):
        while await metric(gateway, "policy_artifacts_rejected_total") < 1:
            pass
    assert await metric(gateway, "policy_loaded") == 0

    replace_file(signature_path(store.path(version)), signed(OPERATOR, version, data))

    async with asyncio.timeout(PATIENCE_S):
        while await metric(gateway, "policy_loaded") < 1:
            pass


def kept_adapter(folder: Path, line: Callable[[str, bytes], bytes | None]) -> str:
    """Write an adapter, and what `line` makes of it as its signature."""
    data = sealed_adapter()
    manifest: Manifest = adapter.load(data).manifest
    path = folder / f"{manifest.version}.safetensors"
    replace_file(path, data)
    signature = line(manifest.version, data)
    if signature is not None:
        replace_file(signature_path(path), signature)
    return manifest.version


async def test_an_announced_adapter_is_offered_only_if_it_is_signed(gateway, caplog):
    folder = gateway.settings.data_dir / "adapters"
    version = kept_adapter(folder, lambda *_: None)
    AnnouncementFile(folder).put(Announcement("planted", SMALL, version))
    await until(lambda: "planted is not offered" in caplog.text)

    kept_adapter(folder, lambda *of: signed(OPERATOR, *of))
    AnnouncementFile(folder).put(Announcement("tuned", SMALL, version))

    await until(lambda: "tuned" in gateway.app.pool.models)
    assert f"planted is not offered: {version}: it is not signed" in caplog.text


@pytest.mark.parametrize(
    ("key", "is_loaded"),
    [(None, False), (STRANGER, False), (OPERATOR, True)],
    ids=["unsigned", "unknown key", "signed"],
)
async def test_llama_cpp_is_given_only_files_that_are_signed(tmp_path, key, is_loaded):
    folder = tmp_path / "adapters"
    version = kept_adapter(folder, lambda *of: signed(OPERATOR, *of))
    file = folder / f"{version}{GGUF_SUFFIX}"
    file.write_bytes(b"weights")
    if key is not None:
        signature_path(file).write_bytes(signed(key, file.name, b"weights"))
    AnnouncementFile(folder).put(Announcement("tuned", "smollm2-135m", version))
    settings = GatewaySettings.model_validate(
        {"data_dir": tmp_path, "artifacts": TRUSTED, "embedded": {"enabled": True}}
    )

    http = HttpClient.open()
    pool = await open_pool(settings, {}, http, tmp_path)
    await http.aclose()
    assert pool.embedded is not None
    await pool.embedded.aclose()

    assert ("tuned" in pool.models) == is_loaded
    assert any(file.name in note for note in pool.notes) != is_loaded
