"""Artefacts on disk, routers, budget policies or adapters: kept, listed, activated and rolled back.

A folder holds ``<version>.safetensors`` files that never change, a file ``active`` with the
version that serves, and a file ``history`` with the versions activated so far, the latest last.
Beside a version may stand ``<version>.json``: what federation made of it on this gateway's rows,
and ``<version>.safetensors.sig``: its signature.
Whoever may write there (this command line, a federation server, a volume that is synchronised)
changes what serves in every gateway that polls it; where keys are trusted, among what is signed.
See ``docs/reference/artefacts.md``.
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic

from budget.policies.artifact import POLICY_FILE, PolicyManifest
from gateway.artifacts.trust import ANYBODY, Trust, open_regular, signature_path
from gateway.settings.config import GatewaySettings
from router_models.artifacts.adapter import ADAPTER_FILE, AdapterManifest
from router_models.artifacts.artifact import ROUTER_FILE
from router_models.artifacts.assessment import Assessment
from router_models.artifacts.router import RouterManifest
from router_models.artifacts.sealed_file import VERSION_PATTERN, Manifest, ManifestT, SealedFile
from router_models.errors import ArtifactRejected

ACTIVE_FILE: Final = "active"
HISTORY_FILE: Final = "history"
SUFFIX: Final = ".safetensors"
NOTE_SUFFIX: Final = ".json"
HISTORY_VERSIONS: Final = 100
ROLLBACK_VERSIONS: Final = 5
"""Of the history that pruning leaves alone."""
MAX_ARTIFACT_BYTES: Final = 512 * 1024 * 1024
_MAX_NAME_BYTES: Final = 100


@dataclass(frozen=True, slots=True)
class StoredArtifact(Generic[ManifestT]):
    """One file of the store.

    Attributes:
        manifest: None where the file cannot be used.
        problem: Why it cannot; None where it can.
        assessment: What federation made of it here; None where it came another way.
    """

    version: str
    is_active: bool
    manifest: ManifestT | None
    problem: str | None
    assessment: Assessment | None


@dataclass(frozen=True, slots=True)
class SealedStore(Generic[ManifestT]):
    """Reads and writes one folder; every method blocks.

    Attributes:
        form: What kind of artefact the folder holds.
        command: The subcommand of `waypost` that shows it.
        trust: Whose artefacts are read.
    """

    folder: Path
    form: SealedFile[ManifestT]
    command: str
    trust: Trust = ANYBODY

    @property
    def takes_own(self) -> bool:
        """Whether what is made here can serve here."""
        return self.trust.takes_own

    def check(self, data: bytes, signature: bytes | None) -> None:
        """Make sure that a trusted key signed what came from elsewhere, before it is parsed.

        Raises:
            ArtifactRejected: It is not.
        """
        self.trust.keys.check(None, data, signature)

    def put(self, data: bytes, signature: bytes | None = None) -> ManifestT:
        """Keep an artefact from elsewhere; one that is there already is left as it is.

        Raises:
            ArtifactRejected: The bytes are not an artefact, or no trusted key signed them.
        """
        self.check(data, signature)
        manifest = self.form.read(data)[0]
        self.trust.keys.check(manifest.version, data, signature)
        self._keep(manifest.version, data, signature)
        return manifest

    def put_own(self, data: bytes) -> ManifestT:
        """Keep an artefact that was made here, and sign it where there is a key.

        Without one, where signatures are asked for, it cannot serve until it is signed.

        Raises:
            ArtifactRejected: The bytes are not an artefact, or the key cannot be read.
        """
        manifest = self.form.read(data)[0]
        self._keep(manifest.version, data, self.trust.sign(manifest.version, data))
        return manifest

    def read(self, version: str) -> bytes:
        """Return the bytes of `version`; only their length and who signed them are checked.

        Raises:
            ArtifactRejected: There is no such version, its file cannot be read, or no trusted key
                signed it.
        """
        path = self.path(version)
        data = read_artifact(path)
        self.trust.check_file(version, data, path)
        return data

    def verify(self, version: str) -> None:
        """Make sure that a trusted key signed `version`; where none is trusted, nothing is read.

        Raises:
            ArtifactRejected: There is no such version, or none signed it.
        """
        if self.trust.keys:
            self.read(version)

    def manifest(self, version: str) -> ManifestT:
        """Return the manifest of `version` after verifying its file.

        Raises:
            ArtifactRejected: There is no such version, its file is damaged or is another's.
        """
        manifest = self.form.read(self.read(version))[0]
        check_name(version, manifest)
        return manifest

    def list_all(self) -> tuple[StoredArtifact[ManifestT], ...]:
        """Verify and list everything in the store, the newest first."""
        active = self._active_or_none()
        names = [path.name.removesuffix(SUFFIX) for path in self.folder.glob(f"*{SUFFIX}")]
        stored = [self._describe(name, active) for name in names]
        stored.sort(key=lambda item: (_created(item), item.version), reverse=True)
        return tuple(stored)

    def active(self) -> str | None:
        """Return the version that shall serve; None where none was ever activated.

        Raises:
            ArtifactRejected: The file ``active`` cannot be read or names no version.
        """
        path = self.folder / ACTIVE_FILE
        try:
            with open_regular(path) as file:
                name = file.read(_MAX_NAME_BYTES).decode("ascii", "replace").strip()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ArtifactRejected(f"{path} cannot be read: {error.strerror}") from error
        check_version(name)
        return name

    def activate(self, version: str) -> ManifestT:
        """Let `version` serve; gateways that poll the folder follow within a poll.

        Raises:
            ArtifactRejected: There is no such version, or its file is damaged.
        """
        manifest = self.manifest(version)
        if version != self._active_or_none():
            # History first: were the process killed in between, `rollback` ignores what is past
            # the active version.
            self._write_history([*self.history(), version])
            replace_file(self.folder / ACTIVE_FILE, f"{version}\n".encode())
        return manifest

    def rollback(self) -> ManifestT:
        """Let the version serve that served before the active one.

        Raises:
            ArtifactRejected: There is none, or its file is missing or damaged.
        """
        history = self.history()
        active = self._active_or_none()
        while active is not None and history and history[-1] != active:
            history.pop()
        earlier = history[:-1] if active is not None else history
        if not earlier:
            raise ArtifactRejected(
                f"there is no earlier version to return to; `waypost {self.command} list` shows all"
            )
        manifest = self.manifest(earlier[-1])
        replace_file(self.folder / ACTIVE_FILE, f"{earlier[-1]}\n".encode())
        self._write_history(earlier)
        return manifest

    def note(self, version: str, assessment: Assessment) -> None:
        """Keep beside `version` why it serves or does not.

        Raises:
            ArtifactRejected: `version` is not the name of a version.
        """
        replace_file(self._note_path(version), assessment.to_json().encode())

    def assessment(self, version: str) -> Assessment | None:
        """Return what was noted of `version`; None where nothing legible was.

        Raises:
            ArtifactRejected: `version` is not the name of a version.
        """
        try:
            return Assessment.from_json(_read_regular(self._note_path(version)))
        except (OSError, ValueError):
            return None

    def assessments(self) -> list[tuple[str, Assessment]]:
        """List what was noted, with the versions it was noted of; no artefact is read."""
        names = (
            path.name.removesuffix(NOTE_SUFFIX) for path in self.folder.glob(f"*{NOTE_SUFFIX}")
        )
        versions = [name for name in names if VERSION_PATTERN.fullmatch(name)]
        noted = [(version, self.assessment(version)) for version in versions]
        return [(version, assessment) for version, assessment in noted if assessment is not None]

    def prune(self, keep: int) -> tuple[str, ...]:
        """Delete all but the `keep` latest assessed versions; return which were deleted.

        Those that serve, served lately, or came another way than by federation stay.
        """
        spared = {self._active_or_none(), *self.history()[-ROLLBACK_VERSIONS:]}
        assessed = [
            (item.assessment.assessed_at, item.version)
            for item in self.list_all()
            if item.assessment is not None and item.version not in spared
        ]
        assessed.sort(reverse=True)
        pruned = tuple(version for _, version in assessed[keep:])
        for version in pruned:
            self.path(version).unlink(missing_ok=True)
            signature_path(self.path(version)).unlink(missing_ok=True)
            self._note_path(version).unlink(missing_ok=True)
        return pruned

    def history(self) -> list[str]:
        """Return the versions activated so far, the latest last."""
        try:
            text = _read_regular(self.folder / HISTORY_FILE).decode("ascii", "replace")
        except OSError:
            return []
        return [line for line in text.split() if VERSION_PATTERN.fullmatch(line)]

    def path(self, version: str) -> Path:
        """Return where `version` is kept.

        Raises:
            ArtifactRejected: `version` is not the name of a version.
        """
        check_version(version)
        return self.folder / f"{version}{SUFFIX}"

    def _note_path(self, version: str) -> Path:
        check_version(version)
        return self.folder / f"{version}{NOTE_SUFFIX}"

    def _active_or_none(self) -> str | None:
        try:
            return self.active()
        except ArtifactRejected:
            return None

    def _describe(self, version: str, active: str | None) -> StoredArtifact[ManifestT]:
        is_active = version == active
        try:
            manifest = self.manifest(version)
            return StoredArtifact(version, is_active, manifest, None, self.assessment(version))
        except ArtifactRejected as error:
            return StoredArtifact(version, is_active, None, str(error), None)

    def _keep(self, version: str, data: bytes, signature: bytes | None) -> None:
        path = self.path(version)
        if signature is not None:
            replace_file(signature_path(path), signature)
        if not self._holds(path, data):
            replace_file(path, data)

    def _holds(self, path: Path, data: bytes) -> bool:
        try:
            return _read_regular(path) == data
        except OSError:
            return False

    def _write_history(self, versions: list[str]) -> None:
        lines = "".join(f"{version}\n" for version in versions[-HISTORY_VERSIONS:])
        replace_file(self.folder / HISTORY_FILE, lines.encode())


class ArtifactStore(SealedStore[RouterManifest]):
    """The store of routers."""

    def __init__(self, folder: Path, trust: Trust = ANYBODY) -> None:
        super().__init__(folder, ROUTER_FILE, "router", trust)


def router_store(settings: GatewaySettings) -> ArtifactStore:
    """Open the store of routers."""
    return ArtifactStore(settings.artifact_dir, Trust.of(settings.artifacts))


def policy_store(settings: GatewaySettings) -> SealedStore[PolicyManifest]:
    """Open the store of budget policies, which is kept beside that of routers."""
    folder = settings.data_dir / "policies"
    return SealedStore(folder, POLICY_FILE, "policy", Trust.of(settings.artifacts))


def adapter_store(settings: GatewaySettings) -> SealedStore[AdapterManifest]:
    """Open the store of adapters for hosted models, which is kept beside that of routers."""
    folder = settings.data_dir / "adapters"
    return SealedStore(folder, ADAPTER_FILE, "reasoner adapters", Trust.of(settings.artifacts))


def replace_file(path: Path, data: bytes) -> None:
    """Replace `path` whole or not at all, and survive a power cut."""
    folder = path.parent
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".", delete=False) as file:
        temporary = Path(file.name)
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            # Other accounts, such as the gateway's, may read what the operator wrote.
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_version(version: str) -> None:
    """Refuse whatever is not a version, so that no name leads out of the folder.

    Raises:
        ArtifactRejected: `version` has another form.
    """
    if VERSION_PATTERN.fullmatch(version) is None:
        raise ArtifactRejected(
            f"{version[:_MAX_NAME_BYTES]!r} is not a version; one looks like "
            "kmeans-20261103-9f86d081884c"
        )


def read_artifact(path: Path) -> bytes:
    """Read a file that should be an artefact.

    Raises:
        ArtifactRejected: It is missing, unreadable or too long to be one.
    """
    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size > MAX_ARTIFACT_BYTES:
                raise ArtifactRejected(f"{path.name} is too long to be an artefact")
            return file.read()
    except FileNotFoundError as error:
        raise ArtifactRejected(f"{path.name} is not in {path.parent}") from error
    except OSError as error:
        raise ArtifactRejected(f"{path} cannot be read: {error.strerror}") from error


def _read_regular(path: Path) -> bytes:
    with open_regular(path) as file:
        return file.read()


def check_name(version: str, manifest: Manifest) -> None:
    """Refuse a file whose name is not the version it holds.

    Raises:
        ArtifactRejected: It was renamed.
    """
    if manifest.version != version:
        raise ArtifactRejected(f"the file of {version} holds {manifest.version}: it was renamed")


def _created(stored: StoredArtifact[Any]) -> str:
    return "" if stored.manifest is None else stored.manifest.created_at.isoformat()
