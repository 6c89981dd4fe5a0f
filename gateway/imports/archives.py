"""Reads members of zip archives, those compressed by zstd too, which Python reads from 3.14 on.

Needs pyarrow for zstd, so nothing that serves imports this.
"""

import zipfile
import zlib
from pathlib import Path
from typing import Final

import pyarrow as pa

from gateway.imports.records import InvalidImport

MAX_MEMBER_BYTES: Final = 256 * 1024 * 1024
ZSTD: Final = 93
"""Method of zip's specification, APPNOTE 6.3.7 section 4.4.5."""
_LOCAL_HEADER_BYTES: Final = 30


def names_of(path: Path) -> list[str]:
    """Name the members of an archive.

    Raises:
        InvalidImport: It is damaged, or its members overlap, as those of a bomb do.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InvalidImport(f"{path}: is no whole zip archive ({error}); copy it anew") from error
    names = [member.filename for member in members]
    if sum(member.compress_size for member in members) > path.stat().st_size:
        raise InvalidImport(f"{path}: its members overlap: this is no log")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidImport(f"{path}: {twice} is in it twice; copy the log anew")
    return names


def read_member(path: Path, name: str) -> bytes:
    """Read one member whole.

    Raises:
        InvalidImport: It is too large, damaged, or compressed in a way that is not known.
    """
    place = f"{path}, {name}"
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo(name)
            if member.file_size > MAX_MEMBER_BYTES:
                raise InvalidImport(
                    f"{place}: has {member.file_size >> 20} MiB, more than the "
                    f"{MAX_MEMBER_BYTES >> 20} MiB that one entry may have; take it out"
                )
            if member.compress_type == ZSTD:
                content = _inflated(path, member)
            else:
                content = archive.read(member)
    except KeyError as error:
        raise InvalidImport(f"{place}: is missing; the log was not finished") from error
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise InvalidImport(f"{place}: is damaged ({error}); copy the log anew") from error
    if len(content) != member.file_size or zlib.crc32(content) != member.CRC:
        raise InvalidImport(f"{place}: is damaged; copy the log anew")
    return content


def _inflated(path: Path, member: zipfile.ZipInfo) -> bytes:
    with path.open("rb") as file:
        file.seek(member.header_offset)
        header = file.read(_LOCAL_HEADER_BYTES)
        lengths = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
        file.seek(sum(lengths), 1)
        stream = pa.BufferReader(file.read(member.compress_size))
    with pa.CompressedInputStream(stream, "zstd") as inflating:
        content: bytes = inflating.read(member.file_size + 1)
    return content
