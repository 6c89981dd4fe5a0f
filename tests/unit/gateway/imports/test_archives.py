import struct
import zipfile

import pytest

from gateway.imports import archives
from gateway.imports.archives import names_of, read_member
from gateway.imports.records import InvalidImport
from tests.fakes.evaluation_files import GPT


def test_members_compressed_by_zstd_and_by_deflate_are_read(tmp_path):
    assert read_member(GPT, "header.json").startswith(b'{"version":2')
    log = tmp_path / "a.eval"
    with zipfile.ZipFile(log, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", b"{}" * 1000)
    assert read_member(log, "header.json") == b"{}" * 1000


def test_a_member_that_inflates_to_too_much_is_not_inflated(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 1 << 20)
    log = tmp_path / "bomb.eval"
    with zipfile.ZipFile(log, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", bytes((1 << 20) + 1))
    with pytest.raises(InvalidImport, match="more than the 1 MiB that one entry may have"):
        read_member(log, "header.json")


def test_a_member_that_lies_about_its_size_is_damaged(tmp_path):
    raw = bytearray(GPT.read_bytes())
    at = raw.rfind(b"PK\x01\x02")  # the last entry of the directory: header.json
    raw[at + 24 : at + 28] = struct.pack("<I", 10)
    log = tmp_path / "lies.eval"
    log.write_bytes(raw)
    with pytest.raises(InvalidImport, match=r"header\.json: is damaged"):
        read_member(log, "header.json")


def test_members_that_overlap_are_refused(tmp_path):
    log = tmp_path / "bomb.eval"
    with zipfile.ZipFile(log, "w", zipfile.ZIP_STORED) as archive:
        for at in range(20):
            archive.writestr(f"samples/{at}.json", b"x" * 1000)
    raw = log.read_bytes()
    whole = raw[: 1000 + 30 + len("samples/0.json")] + raw[raw.find(b"PK\x01\x02") :]
    end = whole.rfind(b"PK\x05\x06")
    start = struct.pack("<I", whole.find(b"PK\x01\x02"))
    log.write_bytes(whole[: end + 16] + start + whole[end + 20 :])
    with pytest.raises(InvalidImport, match="its members overlap"):
        names_of(log)


def test_a_log_that_was_not_finished_says_so(tmp_path):
    log = tmp_path / "a.eval"
    with zipfile.ZipFile(log, "w") as archive:
        archive.writestr("_journal/start.json", b"{}")
    with pytest.raises(InvalidImport, match=r"header\.json: is missing; the log was not finished"):
        read_member(log, "header.json")


def test_a_member_that_is_there_twice_is_refused(tmp_path):
    log = tmp_path / "a.eval"
    with zipfile.ZipFile(log, "w") as archive:
        archive.writestr("header.json", b"{}")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("header.json", b"{}")
    with pytest.raises(InvalidImport, match=r"header\.json is in it twice"):
        names_of(log)


def test_a_damaged_member_is_named(tmp_path):
    raw = bytearray(GPT.read_bytes())
    raw[raw.rfind(b"PK\x03\x04") + 60] ^= 0xFF
    log = tmp_path / "damaged.eval"
    log.write_bytes(raw)
    with pytest.raises(InvalidImport, match=r"header\.json: is damaged"):
        read_member(log, "header.json")
