"""Adapters that are offered as models: which, under which names, and on which models.

A hosted model that was tuned is that model under another name. Who announced it wrote a line into
``announced.json`` beside the adapters; gateways that poll the file offer it within a second or so.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, ValuesView
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from gateway.artifacts.store import check_version, replace_file
from gateway.artifacts.trust import open_regular
from gateway.types import HostedModel
from router_models.errors import ArtifactRejected

FILE_NAME: Final = "announced.json"
GGUF_SUFFIX: Final = ".gguf"
"""Of the form of an adapter that the embedded pool loads, beside the artefact."""
MAX_FILE_BYTES: Final = 1024 * 1024

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Announcement:
    """One adapter that callers can name.

    Attributes:
        name: What callers and routers call it.
        model: The hosted model that it changes.
        version: Of the adapter; what its host calls it.
    """

    name: str
    model: str
    version: str


@dataclass(frozen=True, slots=True)
class AnnouncementFile:
    """Keeps announcements in the folder of the adapters; every method blocks."""

    folder: Path

    @property
    def path(self) -> Path:
        """Where they are kept."""
        return self.folder / FILE_NAME

    def read(self) -> tuple[Announcement, ...]:
        """Return what is announced, the earliest first.

        Raises:
            ArtifactRejected: The file cannot be read or holds something else.
        """
        try:
            with open_regular(self.path) as file:
                lines = json.loads(file.read(MAX_FILE_BYTES))
            found = tuple(Announcement(**{k: str(v) for k, v in line.items()}) for line in lines)
        except (FileNotFoundError, NotADirectoryError):
            return ()
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ArtifactRejected(f"{self.path} cannot be read: {error}") from error
        for one in found:
            check_version(one.version)
        return found

    def put(self, announcement: Announcement) -> Announcement | None:
        """Announce; return what had the name before.

        Raises:
            ArtifactRejected: What is announced already cannot be read.
        """
        known = self.read()
        self._write([*(one for one in known if one.name != announcement.name), announcement])
        return _named(known, announcement.name)

    def remove(self, name: str) -> Announcement:
        """Take an announcement back and return it.

        Raises:
            ArtifactRejected: There is none of that name.
        """
        known = self.read()
        found = _named(known, name)
        if found is None:
            raise ArtifactRejected(f"no adapter is offered under the name {name!r}")
        self._write([one for one in known if one.name != name])
        return found

    def _write(self, announcements: Iterable[Announcement]) -> None:
        lines = [asdict(one) for one in announcements]
        replace_file(self.path, json.dumps(lines, indent=1).encode() + b"\n")


class OfferedModels(Mapping[str, HostedModel]):
    """The models of the settings, and those that were announced on top of them.

    Read on every request: one attribute holds all of them, and a refresh replaces it.
    """

    def __init__(
        self,
        models: Mapping[str, HostedModel],
        file: AnnouncementFile,
        tuned: Mapping[str, Mapping[str, Any]],
        fixed_provider: str,
        verify: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Take the models to begin with.

        Args:
            models: Those of the settings.
            file: Says what was announced.
            tuned: Request fields that turn on an adapter which `fixed_provider` loaded at the
                start, by version.
            fixed_provider: Can load adapters only as it starts; those announced later wait.
            verify: Reads an adapter's file by its version, and refuses one that may not serve here
                with `ArtifactRejected`.
        """
        self._models = models
        self._file = file
        self._tuned = tuned
        self._fixed_provider = fixed_provider
        self._verify = verify
        self._problem: str | None = None
        self._seen: tuple[Announcement, ...] = ()
        self._all: dict[str, HostedModel] = dict(models)

    def __getitem__(self, name: str) -> HostedModel:
        return self._all[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def values(self) -> ValuesView[HostedModel]:
        """Return the models."""
        return self._all.values()

    async def refresh(self) -> bool:
        """Look once for other announcements; return whether there were any.

        Never raises for a file that cannot be read: what is offered stays so.
        """
        try:
            found = await asyncio.to_thread(self._file.read)
        except ArtifactRejected as error:
            if str(error) != self._problem:
                _log.error("announced adapters cannot be read, the known ones stay: %s", error)
            self._problem = str(error)
            return False
        self._problem = None
        if found == self._seen:
            return False
        self._seen = found
        self._all = self._offer(await asyncio.to_thread(self._verified, found))
        _log.info("offered: %s", ", ".join(self._all))
        return True

    def _verified(self, announced: Iterable[Announcement]) -> list[Announcement]:
        verified = []
        for one in announced:
            try:
                self._verify(one.version)
            except ArtifactRejected as error:
                _log.error("%s is not offered: %s: %s", one.name, one.version, error)
            else:
                verified.append(one)
        return verified

    def _offer(self, announced: Iterable[Announcement]) -> dict[str, HostedModel]:
        offered = dict(self._models)
        for one in announced:
            base = self._models.get(one.model)
            if base is None or one.name in self._models:
                _log.warning(
                    "%s is not offered: there is no model %s, or the name is taken",
                    one.name,
                    one.model,
                )
            elif base.provider != self._fixed_provider:
                offered[one.name] = replace(
                    base, name=one.name, upstream_name=one.version, deployments=()
                )
            elif one.version in self._tuned:
                fields = {**base.request_defaults, **self._tuned[one.version]}
                offered[one.name] = replace(base, name=one.name, request_defaults=fields)
            else:
                _log.warning("%s is offered from the next start of the gateway on", one.name)
        return offered


def _named(announced: Iterable[Announcement], name: str) -> Announcement | None:
    return next((one for one in announced if one.name == name), None)
