"""The router that serves: found in the artefact store, verified, and swapped while requests run."""

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.artifact_store import (
    ACTIVE_FILE,
    SUFFIX,
    ArtifactStore,
    check_name,
    check_version,
    read_artifact,
)
from router_models.artifact import load
from router_models.errors import ArtifactRejected
from router_models.router import Router
from router_models.sealed_file import EncoderIdentity

__all__ = ["ActiveRouter", "ArtifactStore"]

PINNED_ROUTERS: Final = 4
"""How many pinned versions stay in memory; K-means takes about 0.3 MB, kNN tens."""

_log = logging.getLogger(__name__)


class ActiveRouter:
    """The router that serves, and a few that requests pinned.

    The request path reads `current`, one attribute: no lock, no I/O. A router is immutable, so a
    request that holds one goes on with it while another takes its place.

    Attributes:
        current: The router to ask; None where there is none, and a default model serves.
        last_error: Why the latest artefact was refused; None once one was accepted.
        rejected: Artefacts refused since the start.
        swaps: Routers put in place since the start.
    """

    def __init__(
        self,
        store: ArtifactStore,
        encoder: EncoderIdentity,
        *,
        default_file: Path | None = None,
        pinned_routers: int = PINNED_ROUTERS,
    ) -> None:
        """Take the store to follow.

        Args:
            store: Its ``active`` file names the router.
            encoder: The one that runs; artefacts of others are refused.
            default_file: Artefact that serves until one is activated in the store.
            pinned_routers: Pinned versions kept in memory.
        """
        self.current: Router | None = None
        self.last_error: str | None = None
        self.rejected = 0
        self.swaps = 0
        self._store = store
        self._encoder = encoder
        self._default_file = default_file
        self._pinned_routers = pinned_routers
        self._pinned: OrderedDict[str, Router] = OrderedDict()
        self._loading: dict[str, asyncio.Task[Router]] = {}
        self._seen: _Wanted | None = None

    async def refresh(self) -> bool:
        """Look once for another router and put it in place; return whether one was.

        Never raises for an artefact that cannot be used: the router that serves goes on serving.
        """
        wanted = await asyncio.to_thread(self._look)
        if wanted == self._seen:
            return False
        try:
            router = await asyncio.to_thread(self._load_wanted, wanted)
        except ArtifactRejected as error:
            self._refuse(wanted, error)
            return False
        self._seen = wanted
        self.last_error = None
        if router is self.current:
            return False
        self.current = router
        self.swaps += 1
        _log.info("router %s serves", "none" if router is None else router.version)
        return True

    async def watch(self, poll_s: float) -> None:
        """Look for another router every `poll_s` seconds, until cancelled."""
        while True:
            try:
                await self.refresh()
            except Exception as error:  # noqa: BLE001
                # Whatever is wrong with the folder, the next poll may find it mended.
                self.rejected += 1
                self.last_error = f"polling {self._store.folder} failed: {error!r}"
                _log.exception("polling %s failed", self._store.folder)
            await asyncio.sleep(poll_s)

    async def pinned(self, version: str) -> Router:
        """Return the router of `version`, from memory or from the store.

        Raises:
            ArtifactRejected: There is no such version, or it cannot serve here.
        """
        check_version(version)
        current = self.current
        if current is not None and current.version == version:
            return current
        router = self._pinned.get(version)
        if router is None:
            # Shielded: others may wait for the same load when this request is cancelled.
            router = await asyncio.shield(self._loading_of(version))
        self._pinned[version] = router
        self._pinned.move_to_end(version)
        while len(self._pinned) > self._pinned_routers:
            self._pinned.popitem(last=False)
        return router

    def _loading_of(self, version: str) -> "asyncio.Task[Router]":
        """Load a version once, however many requests wait for it."""
        task = self._loading.get(version)
        if task is None:
            task = asyncio.create_task(asyncio.to_thread(self._load, version))
            self._loading[version] = task
            task.add_done_callback(lambda done: self._loaded(version, done))
        return task

    def _loaded(self, version: str, task: "asyncio.Task[Router]") -> None:
        self._loading.pop(version, None)
        if not task.cancelled():
            task.exception()  # read, so that asyncio reports none that every waiter has left

    def _refuse(self, wanted: "_Wanted", error: ArtifactRejected) -> None:
        message = f"{wanted.name}: {error}"
        if not isinstance(error.__cause__, OSError):
            # Not read again until the file changes; a disk that fails is asked again.
            self._seen = wanted
        if message != self.last_error:
            self.rejected += 1
            self.last_error = message
            serving = "no router" if self.current is None else self.current.version
            _log.error("router refused, %s goes on serving: %s", serving, message)

    def _look(self) -> "_Wanted":
        """Find out which file shall serve, without reading it."""
        try:
            version = self._store.active()
        except ArtifactRejected as error:
            return _Wanted(None, None, None, str(error))
        path = self._default_file if version is None else self._store.path(version)
        return _Wanted(version, path, None if path is None else _fingerprint(path), None)

    def _load_wanted(self, wanted: "_Wanted") -> Router | None:
        if wanted.problem is not None:
            raise ArtifactRejected(wanted.problem)
        if wanted.path is None:
            return None
        current = self.current
        if wanted.version is None:
            router = load(read_artifact(wanted.path), self._encoder)
            return current if current and current.version == router.version else router
        # A version that serves already needs no second look, whatever became of its file.
        return (
            current if current and current.version == wanted.version else self._load(wanted.version)
        )

    def _load(self, version: str) -> Router:
        router = load(self._store.read(version), self._encoder)
        check_name(version, router.manifest)
        return router


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What shall serve, as one look at the folder found it."""

    version: str | None
    path: Path | None
    fingerprint: tuple[int, ...] | None
    problem: str | None

    @property
    def name(self) -> str:
        if self.path is None:
            return ACTIVE_FILE
        return self.path.name.removesuffix(SUFFIX)


def _fingerprint(path: Path) -> tuple[int, ...] | None:
    """Tell whether a file was replaced, mended or given other permissions."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
