"""Training sessions on disk, so that a coordinator that was killed can resume them.

Each session has a folder: ``session.json``, and whatever the training leaves there. Only the
coordinator changes a session; anybody may add one that waits.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

SESSION_FILE: Final = "session.json"
MAX_KEPT: Final = 100
"""Sessions that are kept; older ones are deleted when one ends."""

State = Literal["waiting", "training", "finished", "failed"]
Task = Literal["router", "reasoner"]


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """One training, as it stands.

    Attributes:
        id: The folder's name; later sessions sort later.
        asked_by: Such as ``schedule`` or ``operator``.
        grow: What may join the latest router, of `federation.protocol.joining.GROWTHS`; None to
            train anew.
        task: What is trained.
        run_id: Flower's name of the run that is or was trained in.
        attempts: How often it was begun; more than once after a kill.
        reason: Why it failed.
        report: What the training says of itself.
    """

    id: str
    asked_by: str
    asked_at: datetime
    grow: str | None = None
    task: Task = "router"
    state: State = "waiting"
    run_id: int | None = None
    attempts: int = 0
    ended_at: datetime | None = None
    reason: str | None = None
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether there is something left to do."""
        return self.state in {"waiting", "training"}

    @property
    def is_full_router_training(self) -> bool:
        """Whether it trains a router from nothing, which is what is done again and again."""
        return self.task == "router" and self.grow is None


@dataclass(frozen=True, slots=True)
class SessionStore:
    """Reads and writes the folder of sessions."""

    folder: Path

    def ask(
        self, asked_by: str, now: datetime, grow: str | None = None, task: Task = "router"
    ) -> SessionRecord:
        """Ask for a training; one of the same kind that waits already will do."""
        for session in self.recent():
            if session.state == "waiting" and (session.grow, session.task) == (grow, task):
                return session
        session = SessionRecord(f"{now:%Y%m%dT%H%M%S%f}", asked_by, now, grow, task)
        self.folder_of(session).mkdir(parents=True, mode=0o700)
        self.write(session)
        return session

    def list_all(self) -> list[SessionRecord]:
        """Read every session, the oldest first."""
        return [self.read(session_id) for session_id in self._ids()]

    def recent(self) -> list[SessionRecord]:
        """Read the sessions since the last router that was trained anew, and that; oldest first."""
        found: list[SessionRecord] = []
        for session_id in reversed(self._ids()):
            found.insert(0, self.read(session_id))
            if not found[0].is_open and found[0].is_full_router_training:
                break
        return found

    def latest(self, file: str) -> tuple[SessionRecord, bytes] | None:
        """Read what the newest finished session that has it left in `file`."""
        for session_id in reversed(self._ids()):
            session = self.read(session_id)
            path = self.folder_of(session) / file
            if session.state == "finished" and path.exists():
                return session, path.read_bytes()
        return None

    def read(self, session_id: str) -> SessionRecord:
        """Read one session.

        Raises:
            ValueError: Its file is damaged.
        """
        path = self.folder / session_id / SESSION_FILE
        try:
            table = json.loads(path.read_text(encoding="utf-8"))
            for name in ("asked_at", "ended_at"):
                table[name] = table[name] and datetime.fromisoformat(table[name])
            return SessionRecord(**table)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged: {error}; delete its folder") from error

    def write(self, session: SessionRecord) -> None:
        """Replace a session's file, all of it or nothing."""
        text = json.dumps(asdict(session), default=datetime.isoformat, indent=2)
        _replace(self.folder_of(session) / SESSION_FILE, text.encode())

    def begin(self, session: SessionRecord, run_id: int) -> SessionRecord:
        """Note that `run_id` trains."""
        begun = replace(session, state="training", run_id=run_id, attempts=session.attempts + 1)
        self.write(begun)
        return begun

    def note(self, session: SessionRecord, report: Mapping[str, Any]) -> None:
        """Store the report of a session that is running."""
        self.write(replace(self.read(session.id), report=report))

    def end(
        self,
        session: SessionRecord,
        now: datetime,
        *,
        reason: str | None,
        report: Mapping[str, Any] | None = None,
    ) -> SessionRecord:
        """Note how a session ended; it failed where there is a reason.

        Without a report, the one that was noted last stays.
        """
        state: State = "finished" if reason is None else "failed"
        report = self.read(session.id).report if report is None else report
        ended = replace(session, state=state, ended_at=now, reason=reason, report=report)
        self.write(ended)
        for session_id in self._ids()[:-MAX_KEPT]:
            shutil.rmtree(self.folder / session_id)
        return ended

    def folder_of(self, session: SessionRecord) -> Path:
        """Return where a session's files are kept."""
        return self.folder / session.id

    def _ids(self) -> list[str]:
        return sorted(path.parent.name for path in self.folder.glob(f"*/{SESSION_FILE}"))


@dataclass(frozen=True, slots=True)
class FileCheckpoints:
    """Keeps a session's latest checkpoint in a file."""

    path: Path

    def load(self) -> bytes | None:
        """Return it; None where there is none."""
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None

    def save(self, data: bytes) -> None:
        """Keep it, all of it or nothing."""
        _replace(self.path, data)

    def clear(self) -> None:
        """Forget it."""
        self.path.unlink(missing_ok=True)


def _replace(path: Path, data: bytes) -> None:
    """Write a file that is there as a whole or not at all, even after a power cut."""
    descriptor, part = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    Path(part).replace(path)
