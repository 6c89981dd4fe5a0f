import errno
import fcntl
import os
from itertools import count
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.storage import spool as spool_module
from gateway.storage.spool import Spool, SpoolFull


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def spool(directory: Path):
    spool = Spool(directory, 10_000)
    yield spool
    spool.close()


def drain(spool: Spool, max_payloads: int = 100) -> list[bytes]:
    drained: list[bytes] = []
    while payloads := spool.read(max_payloads):
        drained += payloads
        spool.acknowledge()
    return drained


def files(directory: Path) -> list[Path]:
    return sorted(directory.iterdir())


def test_an_untouched_spool_is_empty_and_makes_no_directory(spool, directory):
    assert spool.is_empty
    assert spool.size_bytes == 0
    assert spool.read(10) == []
    assert spool.adopt() == 0
    assert not directory.exists()


def test_payloads_come_back_in_order(spool):
    spool.append([b"1", b"2"])
    spool.append([b"3"])

    assert drain(spool, 2) == [b"1", b"2", b"3"]
    assert spool.is_empty


def test_what_was_not_acknowledged_comes_again(spool):
    spool.append([b"1", b"2", b"3"])

    assert spool.read(2) == [b"1", b"2"]
    assert spool.read(2) == [b"1", b"2"]
    spool.acknowledge()
    assert spool.read(2) == [b"3"]


def test_an_acknowledged_segment_is_deleted(spool, directory):
    spool.append([b"1"])
    assert len(files(directory)) == 1

    drain(spool)

    assert files(directory) == []


def test_appending_goes_on_in_a_new_segment_after_reading_began(spool, directory):
    spool.append([b"1", b"2"])
    spool.read(1)
    spool.acknowledge()
    spool.append([b"3"])

    assert len(files(directory)) == 2
    assert drain(spool) == [b"2", b"3"]


def test_a_long_segment_is_followed_by_another(directory):
    spool = Spool(directory, 10_000, segment_bytes=20)
    for number in range(5):
        spool.append([b"%d" % number * 10])

    assert len(files(directory)) == 5
    assert [payload[:1] for payload in drain(spool)] == [b"0", b"1", b"2", b"3", b"4"]


def test_a_full_spool_refuses_the_whole_batch(spool):
    spool.append([b"x" * 9_000])

    with pytest.raises(SpoolFull):
        spool.append([b"y", b"z" * 2_000])

    assert drain(spool) == [b"x" * 9_000]


def test_the_bound_holds_for_all_processes_together(directory, spool):
    other = Spool(directory, 10_000)
    other.append([b"x" * 9_000])

    with pytest.raises(SpoolFull):
        spool.append([b"y" * 2_000])
    other.close()


def test_a_disk_that_fills_up_leaves_whole_lines(spool, monkeypatch):
    spool.append([b"1"])
    calls = count()

    def fail_once(descriptor: int) -> None:
        if next(calls) == 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail_once)
    with pytest.raises(OSError, match="No space"):
        spool.append([b"2"])
    spool.append([b"3"])

    assert drain(spool) == [b"1", b"3"]


def test_a_directory_that_cannot_be_made_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(OSError, match="file"):
        Spool(tmp_path / "file" / "spool", 100).append([b"1"])


def test_segments_are_private(spool, directory):
    spool.append([b"1"])

    assert directory.stat().st_mode & 0o777 == 0o700
    assert files(directory)[0].stat().st_mode & 0o777 == 0o600


def test_segments_of_a_living_process_are_left_alone(directory, spool):
    spool.append([b"1"])

    other = Spool(directory, 10_000)

    assert other.adopt() == 0
    assert spool.adopt() == 0


def test_segments_of_a_dead_process_are_taken_over_in_order(directory, spool):
    clock = count(1)
    for payload in (b"1", b"2"):
        dead = Spool(directory, 10_000, clock_ns=lambda: next(clock))
        dead.append([payload])
        dead.close()
    spool.append([b"3"])

    assert spool.adopt() == 2
    assert drain(spool) == [b"1", b"2", b"3"]


@pytest.mark.parametrize("torn", [b"0000", b"00000000 wrong\n", b"\n", b"\xff\xfe\n"])
def test_a_torn_line_is_skipped_and_counted(directory, torn):
    dead = Spool(directory, 10_000)
    dead.append([b"1"])
    dead.close()
    with files(directory)[0].open("ab") as segment:
        segment.write(torn)
    spool = Spool(directory, 10_000)
    spool.adopt()

    assert drain(spool) == [b"1"]
    assert spool.torn_lines == 1
    assert files(directory) == []


def test_a_segment_with_nothing_but_a_torn_line_is_deleted(directory):
    directory.mkdir()
    (directory / "1.rows").write_bytes(b"deadbeef {")
    spool = Spool(directory, 10_000)
    spool.adopt()

    assert spool.read(10) == []
    assert spool.torn_lines == 1
    assert spool.is_empty


def test_a_segment_deleted_between_opening_and_locking_is_not_adopted(directory, monkeypatch):
    dead = Spool(directory, 10_000)
    dead.append([b"1"])
    dead.close()
    flock = fcntl.flock

    def delete_first(descriptor: int, operation: int) -> None:
        files(directory)[0].unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", delete_first)

    assert Spool(directory, 10_000).adopt() == 0


def test_a_segment_deleted_between_listing_and_opening_is_not_adopted(directory, monkeypatch):
    dead = Spool(directory, 10_000)
    dead.append([b"1"])
    dead.close()
    path = files(directory)[0]
    monkeypatch.setattr(Spool, "_files", lambda spool: [(path, 1)])
    path.unlink()

    assert Spool(directory, 10_000).adopt() == 0


def test_a_segment_deleted_between_listing_and_measuring_counts_nothing():
    class Gone:
        path = "/gone"

        def stat(self):
            raise FileNotFoundError

    gone = cast("os.DirEntry[str]", Gone())
    assert spool_module._stat_existing(gone) == (Path("/gone"), 0)


@settings(max_examples=25)
@given(batches=st.lists(st.lists(st.binary().filter(lambda b: b"\n" not in b), min_size=1)))
def test_every_payload_without_newlines_survives(tmp_path_factory, batches):
    spool = Spool(tmp_path_factory.mktemp("spool"), 1_000_000, segment_bytes=50)
    for batch in batches:
        spool.append(batch)

    assert drain(spool, 3) == [payload for batch in batches for payload in batch]
    spool.close()
