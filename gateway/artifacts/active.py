"""What serves, router or budget policy: found, verified, and swapped while requests run."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

from budget.policies.artifact import PolicyManifest, SealedPolicy
from budget.policies.artifact import load as load_policy
from gateway.artifacts.store import (
    ACTIVE_FILE,
    SUFFIX,
    ArtifactStore,
    SealedStore,
    check_name,
    check_version,
    read_artifact,
)
from router_models.artifacts.artifact import load
from router_models.artifacts.router import Router
from router_models.artifacts.sealed_file import EncoderIdentity, Manifest
from router_models.errors import ArtifactRejected

__all__ = ["ActivePolicy", "ActiveRouter", "ArtifactStore"]

MAX_PINNED: Final = 4
"""How many pinned versions stay in memory; K-means takes about 0.3 MB, kNN tens."""

_log = logging.getLogger(__name__)


class Served(Protocol):
    """What an artefact is once it is loaded; immutable, so that a swap is one assignment."""

    @property
    def version(self) -> str:
        """Name of the artefact."""
        ...

    @property
    def manifest(self) -> Manifest:
        """What it was made of."""
        ...


ServedT = TypeVar("ServedT", bound=Served)


class ActiveArtifact(Generic[ServedT]):
    """The artefact that serves, and a few that requests pinned.

    The request path reads `current`, one attribute: no lock, no I/O. What is served is immutable,
    so a request that holds one goes on with it while another takes its place.

    Attributes:
        current: What to ask; None where there is none.
        last_error: Why the latest artefact was refused; None once one was accepted.
        rejected: Artefacts refused since the start.
        swaps: Artefacts put in place since the start.
    """

    def __init__(
        self,
        store: SealedStore[Any],
        load: Callable[[bytes], ServedT],
        *,
        noun: str,
        default_file: Path | None = None,
        max_pinned: int = MAX_PINNED,
    ) -> None:
        """Take the store to follow.

        Args:
            store: Its ``active`` file names the version.
            load: Verifies and builds; refuses what cannot serve here with `ArtifactRejected`.
            noun: What the log calls it.
            default_file: Artefact that serves until one is activated in the store.
            max_pinned: Pinned versions kept in memory.
        """
        self.current: ServedT | None = None
        self.last_error: str | None = None
        self.rejected = 0
        self.swaps = 0
        self._store = store
        self._load_bytes = load
        self._noun = noun
        self._default_file = default_file
        self._max_pinned = max_pinned
        self._pinned: OrderedDict[str, ServedT] = OrderedDict()
        self._loading: dict[str, asyncio.Task[ServedT]] = {}
        self._seen: _Wanted | None = None

    async def refresh(self) -> bool:
        """Look once for another artefact and put it in place; return whether one was.

        Never raises for an artefact that cannot be used: what serves goes on serving.
        """
        wanted = await asyncio.to_thread(self._look)
        if wanted == self._seen:
            return False
        try:
            found = await asyncio.to_thread(self._load_wanted, wanted)
        except ArtifactRejected as error:
            self._refuse(wanted, error)
            return False
        self._seen = wanted
        self.last_error = None
        if found is self.current:
            return False
        self.current = found
        self.swaps += 1
        _log.info("%s %s serves", self._noun, "none" if found is None else found.version)
        return True

    async def watch(self, poll_s: float) -> None:
        """Look for another artefact every `poll_s` seconds, until cancelled."""
        while True:
            try:
                await self.refresh()
            except Exception as error:  # noqa: BLE001
                # Whatever is wrong with the folder, the next poll may find it mended.
                self.rejected += 1
                self.last_error = f"polling {self._store.folder} failed: {error!r}"
                _log.exception("polling %s failed", self._store.folder)
            await asyncio.sleep(poll_s)

    async def pinned(self, version: str) -> ServedT:
        """Return the artefact of `version`, from memory or from the store.

        Raises:
            ArtifactRejected: There is no such version, or it cannot serve here.
        """
        check_version(version)
        current = self.current
        if current is not None and current.version == version:
            return current
        found = self._pinned.get(version)
        if found is None:
            # Shielded: others may wait for the same load when this request is cancelled.
            found = await asyncio.shield(self._loading_of(version))
        self._pinned[version] = found
        self._pinned.move_to_end(version)
        while len(self._pinned) > self._max_pinned:
            self._pinned.popitem(last=False)
        return found

    def _loading_of(self, version: str) -> "asyncio.Task[ServedT]":
        """Load a version once, however many requests wait for it."""
        task = self._loading.get(version)
        if task is None:
            task = asyncio.create_task(asyncio.to_thread(self._load, version))
            self._loading[version] = task
            task.add_done_callback(lambda done: self._loaded(version, done))
        return task

    def _loaded(self, version: str, task: "asyncio.Task[ServedT]") -> None:
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
            serving = "none" if self.current is None else self.current.version
            _log.error("%s refused, %s goes on serving: %s", self._noun, serving, message)

    def _look(self) -> "_Wanted":
        """Find out which file shall serve, without reading it."""
        try:
            version = self._store.active()
        except ArtifactRejected as error:
            return _Wanted(None, None, None, str(error))
        path = self._default_file if version is None else self._store.path(version)
        return _Wanted(version, path, None if path is None else _fingerprint(path), None)

    def _load_wanted(self, wanted: "_Wanted") -> ServedT | None:
        if wanted.problem is not None:
            raise ArtifactRejected(wanted.problem)
        if wanted.path is None:
            return None
        current = self.current
        if wanted.version is None:
            found = self._load_bytes(read_artifact(wanted.path))
            return current if current and current.version == found.version else found
        # A version that serves already needs no second look, whatever became of its file.
        return (
            current if current and current.version == wanted.version else self._load(wanted.version)
        )

    def _load(self, version: str) -> ServedT:
        found = self._load_bytes(self._store.read(version))
        check_name(version, found.manifest)
        return found


class ActivePolicy(ActiveArtifact[SealedPolicy]):
    """The budget policy that serves; without one a built-in policy does."""

    def __init__(self, store: SealedStore[PolicyManifest], encoder: EncoderIdentity) -> None:
        super().__init__(store, lambda data: load_policy(data, encoder), noun="budget policy")


class ActiveRouter(ActiveArtifact[Router]):
    """The router that serves; without one a default model does."""

    def __init__(
        self,
        store: ArtifactStore,
        encoder: EncoderIdentity,
        *,
        default_file: Path | None = None,
        max_pinned: int = MAX_PINNED,
    ) -> None:
        super().__init__(
            store,
            lambda data: load(data, encoder),
            noun="router",
            default_file=default_file,
            max_pinned=max_pinned,
        )


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
