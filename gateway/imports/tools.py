"""Which tool wrote a file, by what is in it."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.imports import (
    fastchat,
    helm,
    inspect_logs,
    langfuse,
    lm_eval,
    mapped_tables,
    openai_evals,
    promptfoo,
)
from gateway.imports.contents import Content, fields_of, files_in, open_content
from gateway.imports.mapped_tables import Columns
from gateway.imports.records import Answer, InvalidImport, Skipped


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool whose files can be read."""

    name: str
    recognises: Callable[[Content, Mapping[str, Any]], bool]
    read: Callable[[Sequence[Content]], Iterator[Answer | Skipped]]


TOOLS: Final = tuple(
    Tool(module.NAME, module.recognises, module.read)
    for module in (lm_eval, inspect_logs, promptfoo, langfuse, openai_evals, helm, fastchat)
)
KNOWN: Final = f"in a form of {', '.join(tool.name for tool in TOOLS)}"


@dataclass(frozen=True, slots=True)
class Found:
    """What lies at some paths.

    Attributes:
        answers: By the name of the tool that wrote them; can be read once.
        files: How many each tool has.
        others: Files of the folders that no tool wrote.
        folders: Where all of them lie; what is above is the user's own affair.
    """

    answers: Mapping[str, Iterator[Answer | Skipped]]
    files: Mapping[str, int]
    others: Sequence[Path]
    folders: Sequence[Path]

    def below(self, place: str) -> str:
        """Shorten a place: a table that others may get does not say where its files lay."""
        starts = (f"{folder}/" for folder in self.folders)
        return place.removeprefix(next((start for start in starts if place.startswith(start)), ""))


def find(paths: Sequence[Path], columns: Columns | None = None) -> Found:
    """Sort the files at `paths` by tool.

    Args:
        paths: Files and folders.
        columns: What the columns are called, of tables that no known tool wrote; then all files
            are read as such.

    Raises:
        InvalidImport: A file is damaged, several tools might have written it, or, where it is named
            itself, none; or nothing is found.
    """
    folders = [path if path.is_dir() else path.parent for path in paths]
    if columns is not None:
        files = [path for path, _ in files_in(paths, mapped_tables.SUFFIXES)]
        if not files:
            raise InvalidImport(f"{', '.join(map(str, paths))}: no table is there")
        name = mapped_tables.NAME
        return Found({name: mapped_tables.read(files, columns)}, {name: len(files)}, [], folders)
    found: dict[Tool, list[Content]] = defaultdict(list)
    others = []
    for path, is_named in files_in(paths):
        content = open_content(path)
        fields = fields_of(content)
        tools = [tool for tool in TOOLS if tool.recognises(content, fields)]
        if len(tools) > 1:
            names = " or ".join(tool.name for tool in tools)
            raise InvalidImport(f"{path}: may be of {names}; name the files of one tool")
        if tools:
            found[tools[0]].append(content)
        elif is_named:
            raise InvalidImport(
                f"{path}: is not {KNOWN}; if it is a table, name its columns in a file (--map)"
            )
        else:
            others.append(path)
    if not found:
        raise InvalidImport(f"{', '.join(map(str, paths))}: no file is {KNOWN}")
    answers = {tool.name: tool.read(contents) for tool, contents in found.items()}
    return Found(answers, {t.name: len(each) for t, each in found.items()}, others, folders)
