"""Opens files that people name: JSON, JSON Lines or an archive, whatever the name says.

Only one line, member or document is held at a time, and none may be larger than the limits below.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.imports.archives import names_of, read_member
from gateway.imports.records import InvalidImport, Record, shown

MAX_DOCUMENT_BYTES: Final = 1024 * 1024 * 1024
MAX_LINE_BYTES: Final = 64 * 1024 * 1024
SUFFIXES: Final = (".json", ".jsonl", ".ndjson", ".eval")
"""Files of a folder that are looked at; a file that is named is opened whatever its name."""


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON object that is a whole file."""

    path: Path

    def record(self) -> Record:
        """Read the file."""
        value = _whole(self.path)
        if not isinstance(value, dict):
            raise InvalidImport(f"{self.path}: must be a JSON object, not {shown(value)}")
        return Record(value, str(self.path))


@dataclass(frozen=True, slots=True)
class Records:
    """JSON objects, a line each, or in one JSON list."""

    path: Path
    are_lines: bool

    def __iter__(self) -> Iterator[Record]:
        """Yield them in order, each with its place."""
        values = _lines(self.path) if self.are_lines else _list(self.path)
        for place, value in values:
            if not isinstance(value, dict):
                raise InvalidImport(f"{place}: must be a JSON object, not {shown(value)}")
            yield Record(value, place)


@dataclass(frozen=True, slots=True)
class Archive:
    """A zip of JSON documents."""

    path: Path

    def names(self) -> list[str]:
        """Name the members, in the order in which they were written."""
        return names_of(self.path)

    def record(self, name: str) -> Record:
        """Read one member."""
        place = f"{self.path}, {name}"
        value = _decoded(read_member(self.path, name), place)
        if not isinstance(value, dict):
            raise InvalidImport(f"{place}: must be a JSON object, not {shown(value)}")
        return Record(value, place)


Content = Document | Records | Archive


def open_content(path: Path) -> Content:
    """Tell by its bytes what a file is.

    Raises:
        InvalidImport: It is missing, empty, compressed, too large, or no JSON.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
            line = start + file.readline(MAX_LINE_BYTES)
            has_more = file.read(1) != b""
    except OSError as error:
        raise InvalidImport(f"{path}: cannot be read: {error.strerror}") from error
    if start == b"PK\x03\x04":
        return Archive(path)
    if start[:2] == b"\x1f\x8b" or start == b"\x28\xb5\x2f\xfd":
        raise InvalidImport(f"{path}: is compressed; unpack it first")
    if not line.strip() and not has_more:
        raise InvalidImport(f"{path}: is empty")
    if path.suffix in {".jsonl", ".ndjson"} or (has_more and _is_object(line)):
        return Records(path, are_lines=True)
    return Records(path, are_lines=False) if line.lstrip()[:1] == b"[" else Document(path)


def fields_of(content: Content) -> Mapping[str, Any]:
    """Return the fields of a document, or of the first of several records: they tell the tool."""
    if isinstance(content, Document):
        return content.record().fields
    first = next(iter(content), None) if isinstance(content, Records) else None
    return {} if first is None else first.fields


def files_in(
    paths: Sequence[Path], suffixes: Sequence[str] = SUFFIXES
) -> Iterator[tuple[Path, bool]]:
    """Yield each file once, of folders those with such a suffix.

    With it comes whether it was named, rather than found in a folder.

    Raises:
        InvalidImport: A path is not there.
    """
    seen: set[Path] = set()
    for path in paths:
        if not path.exists():
            raise InvalidImport(f"{path} does not exist")
        is_folder = path.is_dir()
        there = sorted(path.rglob("*")) if is_folder else [path]
        for file in there:
            if is_folder and (file.suffix not in suffixes or not file.is_file()):
                continue
            if file.resolve() not in seen:
                seen.add(file.resolve())
                yield file, not is_folder


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except ValueError:
        return False


def _whole(path: Path) -> Any:
    if path.stat().st_size > MAX_DOCUMENT_BYTES:
        raise InvalidImport(
            f"{path}: is larger than {MAX_DOCUMENT_BYTES >> 20} MiB, the most that is read as one "
            "JSON document; export it as JSON Lines, or in parts"
        )
    return _decoded(path.read_bytes(), str(path))


def _list(path: Path) -> Iterator[tuple[str, Any]]:
    values = _whole(path)
    yield from ((f"{path}, entry {at}", value) for at, value in enumerate(values, 1))


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open("rb") as file:
        read: Callable[[], bytes] = lambda: file.readline(MAX_LINE_BYTES + 1)  # noqa: E731
        for number, line in enumerate(iter(read, b""), 1):
            place = f"{path}, line {number}"
            if len(line) > MAX_LINE_BYTES:
                raise InvalidImport(f"{place}: is longer than {MAX_LINE_BYTES >> 20} MiB")
            if line.strip():
                yield place, _decoded(line, place)


def _decoded(raw: bytes, place: str) -> Any:
    try:
        return orjson.loads(raw)
    except ValueError as error:
        # Python's own writer, which most of these tools use, writes NaN.
        if any(word in raw for word in (b"NaN", b"Infinity")):
            try:
                return json.loads(raw)
            except (ValueError, RecursionError):
                pass
        raise InvalidImport(
            f"{place}: is no whole JSON ({error}); the file is cut or damaged: export it anew"
        ) from error
