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
from gateway.artifacts.trust import signature_path
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
        pinned_versions: What requests pinned last.
    """

    def __init__(
        self,
        store: SealedStore[Any],
        parse: Callable[[bytes], ServedT],
        *,
        noun: str,
        default_file: Path | None = None,
        max_pinned: int = MAX_PINNED,
    ) -> None:
        """Take the store to follow.

        Args:
            store: Its ``active`` file names the version.
            parse: Verifies and builds; refuses what cannot serve here with `ArtifactRejected`.
            noun: What the log calls it.
            default_file: Artefact that serves until one is activated in the store.
            max_pinned: Pinned versions kept in memory.
        """
        self.current: ServedT | None = None
        self.last_error: str | None = None
        self.rejected = 0
        self.swaps = 0
        self._store = store
        self._parse = parse
        self._noun = noun
        self._default_file = default_file
        self.pinned_versions = PinnedVersions(self._read_version, max_pinned)
        self._seen: _Target | None = None

    @property
    def version(self) -> str | None:
        """Name of what serves; None where nothing does."""
        return None if self.current is None else self.current.version

    async def refresh(self) -> bool:
        """Look once for another artefact and put it in place; return whether one was.

        Never raises for an artefact that cannot be used: what serves goes on serving.
        """
        try:
            target = await asyncio.to_thread(self._find_target)
        except Exception as error:
            self.rejected += 1
            self.last_error = f"looking into {self._store.folder} failed: {error!r}"
            raise
        if target == self._seen:
            return False
        try:
            artifact = await asyncio.to_thread(self._read_target, target)
        except ArtifactRejected as error:
            self._refuse(target, error)
            return False
        self._seen = target
        self.last_error = None
        if artifact is self.current:
            return False
        self.current = artifact
        self.swaps += 1
        _log.info("%s %s serves", self._noun, "none" if artifact is None else artifact.version)
        return True

    async def pinned(self, version: str) -> ServedT:
        """Return the artefact of `version`, from memory or from the store.

        Raises:
            ArtifactRejected: There is no such version, or it cannot serve here.
        """
        check_version(version)
        current = self.current
        if current is not None and current.version == version:
            return current
        return await self.pinned_versions.get(version)

    def _refuse(self, target: "_Target", error: ArtifactRejected) -> None:
        message = f"{target.name}: {error}"
        if not isinstance(error.__cause__, OSError):
            # Not read again until the file changes; a disk that fails is asked again.
            self._seen = target
        if message != self.last_error:
            self.rejected += 1
            self.last_error = message
            serving = f"{self.version} still serves" if self.version else "and no other serves"
            _log.error("%s was refused, %s: %s", self._noun, serving, message)

    def _find_target(self) -> "_Target":
        """Find out which file shall serve, without reading it."""
        try:
            version = self._store.active()
        except ArtifactRejected as error:
            return _Target(None, None, (), str(error))
        path = self._default_file if version is None else self._store.path(version)
        return _Target(version, path, () if path is None else _fingerprints(path), None)

    def _read_target(self, target: "_Target") -> ServedT | None:
        if target.problem is not None:
            raise ArtifactRejected(target.problem)
        if target.path is None:
            return None
        current = self.current
        if target.version is None:
            artifact = self._parse(read_artifact(target.path))
            return current if current and current.version == artifact.version else artifact
        if current and current.version == target.version:
            # A version that serves already needs no second look, whatever became of its file.
            return current
        return self._read_version(target.version)

    def _read_version(self, version: str) -> ServedT:
        artifact = self._parse(self._store.read(version))
        check_name(version, artifact.manifest)
        return artifact


class PinnedVersions(Generic[ServedT]):
    """The versions that requests pinned last, each read once however many requests wait for it.

    Args:
        read: Reads one version; runs in a thread.
        max_versions: Kept in memory; the one unused longest goes first.

    Attributes:
        reads: Those under way, by version.
    """

    def __init__(self, read: Callable[[str], ServedT], max_versions: int) -> None:
        self._read = read
        self._max_versions = max_versions
        self._versions: OrderedDict[str, ServedT] = OrderedDict()
        self.reads: dict[str, asyncio.Task[ServedT]] = {}

    async def get(self, version: str) -> ServedT:
        """Return a version, from memory or from the store.

        Raises:
            ArtifactRejected: There is no such version, or it cannot serve here.
        """
        artifact = self._versions.get(version)
        if artifact is None:
            # Shielded: others may wait for the same read when this request is cancelled.
            artifact = await asyncio.shield(self._begin_read(version))
        self._versions[version] = artifact
        self._versions.move_to_end(version)
        while len(self._versions) > self._max_versions:
            self._versions.popitem(last=False)
        return artifact

    def _begin_read(self, version: str) -> "asyncio.Task[ServedT]":
        task = self.reads.get(version)
        if task is None:
            task = asyncio.create_task(asyncio.to_thread(self._read, version))
            self.reads[version] = task
            task.add_done_callback(lambda done: self._end_read(version, done))
        return task

    def _end_read(self, version: str, task: "asyncio.Task[ServedT]") -> None:
        self.reads.pop(version, None)
        if not task.cancelled():
            task.exception()  # read, so that asyncio reports none that every waiter has left


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
class _Target:
    """What shall serve, as one look at the folder found it."""

    version: str | None
    path: Path | None
    fingerprints: tuple[tuple[int, ...] | None, ...]
    problem: str | None

    @property
    def name(self) -> str:
        if self.path is None:
            return ACTIVE_FILE
        return self.path.name.removesuffix(SUFFIX)


def _fingerprints(path: Path) -> tuple[tuple[int, ...] | None, ...]:
    """Do that for an artefact and its signature."""
    return _fingerprint(path), _fingerprint(signature_path(path))


def _fingerprint(path: Path) -> tuple[int, ...] | None:
    """Tell whether a file was replaced, mended or given other permissions."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
