import asyncio
import os
from pathlib import Path

import pytest

from gateway.following import watch
from gateway.pool.announcements import Announcement, AnnouncementFile, OfferedModels
from gateway.types import HostedModel, ModelPrice
from router_models.errors import ArtifactRejected
from tests.fakes.turns import until

FIRST = "lora-20261123-000000000001"
SECOND = "lora-20261123-000000000002"
PRICE = ModelPrice(input_nusd_per_mtok=1, output_nusd_per_mtok=2)
MODELS = {
    "base": HostedModel("base", "vllm", "meta/base", PRICE, request_defaults={"top_p": 0.9}),
    "tiny": HostedModel("tiny", "embedded", "tiny", PRICE, request_defaults={"temperature": 0.0}),
}
ON = {"lora": [{"id": 0, "scale": 1.0}]}


@pytest.fixture
def file(tmp_path: Path) -> AnnouncementFile:
    return AnnouncementFile(tmp_path / "adapters")


@pytest.fixture
def offered(file) -> OfferedModels:
    return OfferedModels(MODELS, file, {FIRST: ON}, "embedded")


def test_nothing_is_announced_at_first(file):
    assert file.read() == ()


def test_a_name_is_given_to_another_version_and_says_what_had_it(file):
    assert file.put(Announcement("maths", "base", FIRST)) is None
    file.put(Announcement("law", "base", FIRST))

    assert file.put(Announcement("maths", "base", SECOND)) == Announcement("maths", "base", FIRST)
    assert {one.name: one.version for one in file.read()} == {"law": FIRST, "maths": SECOND}


def test_an_announcement_is_taken_back_once(file):
    file.put(Announcement("maths", "base", FIRST))

    assert file.remove("maths").version == FIRST
    with pytest.raises(ArtifactRejected, match="no adapter is offered under the name 'maths'"):
        file.remove("maths")


@pytest.mark.parametrize(
    "content",
    ["{", "[1]", '{"name": "x"}', '[{"name": "m", "model": "base", "version": "../../etc"}]'],
)
def test_refuses_a_file_of_something_else(file, content):
    file.folder.mkdir()
    file.path.write_text(content)

    with pytest.raises(ArtifactRejected):
        file.read()


def test_a_pipe_in_the_place_of_the_file_does_not_hold_up_its_reader(file):
    file.folder.mkdir()
    os.mkfifo(file.path)

    with pytest.raises(ArtifactRejected, match="it is no regular file"):
        file.read()


async def test_offers_an_announced_adapter_as_its_base_under_another_name(file, offered):
    file.put(Announcement("maths", "base", FIRST))

    assert await offered.refresh()
    assert list(offered) == ["base", "tiny", "maths"]
    maths = offered["maths"]
    assert (maths.name, maths.upstream_name, maths.provider) == ("maths", FIRST, "vllm")
    assert (maths.price, maths.request_defaults) == (PRICE, {"top_p": 0.9})


async def test_withdraws_what_is_announced_no_longer(file, offered):
    file.put(Announcement("maths", "base", FIRST))
    await offered.refresh()
    file.remove("maths")

    assert await offered.refresh()
    assert "maths" not in offered
    assert not await offered.refresh()


async def test_turns_on_an_adapter_that_was_loaded_at_the_start(file, offered):
    file.put(Announcement("tuned", "tiny", FIRST))
    await offered.refresh()

    tuned = offered["tuned"]
    assert (tuned.upstream_name, tuned.request_defaults) == ("tiny", {"temperature": 0.0, **ON})


async def test_one_that_can_only_be_loaded_at_the_start_waits_for_it(file, offered):
    file.put(Announcement("tuned", "tiny", SECOND))

    await offered.refresh()
    assert "tuned" not in offered


@pytest.mark.parametrize(
    "announcement",
    [Announcement("maths", "nowhere", FIRST), Announcement("tiny", "base", FIRST)],
    ids=["no such model", "a configured model's name"],
)
async def test_what_cannot_be_offered_does_not_keep_others_from_it(file, offered, announcement):
    file.put(announcement)
    file.put(Announcement("law", "base", SECOND))

    await offered.refresh()
    assert set(offered) == {"base", "tiny", "law"}
    assert offered["tiny"] == MODELS["tiny"]


async def test_goes_on_offering_while_the_file_is_damaged(file, offered, caplog):
    file.put(Announcement("maths", "base", FIRST))
    await offered.refresh()
    file.path.write_text("{")

    assert not await offered.refresh()
    assert not await offered.refresh()
    assert "maths" in offered
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1


async def test_watches_the_file(file, offered):
    watching = asyncio.create_task(watch(offered, 0.001))
    file.put(Announcement("maths", "base", FIRST))
    await until(lambda: "maths" in offered)
    watching.cancel()
