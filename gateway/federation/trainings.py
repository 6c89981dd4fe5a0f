"""What an operator can ask a coordinator for, and how it went, in words."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final, TypeAlias, get_args

from federation.deployment import sessions
from federation.protocol import joining
from gateway.federation.paths import sessions_of
from gateway.settings.config import GatewaySettings

Task: TypeAlias = sessions.Task
TASKS: Final = get_args(Task)
GROWTHS: Final = tuple(joining.GROWTHS)
"""What may join the latest router."""


def ask(
    settings: GatewaySettings, now: datetime, grow: str | None, task: Task
) -> sessions.SessionRecord:
    """Ask the coordinator that shares the data directory for a training.

    Args:
        grow: Of `GROWTHS`; None to train anew.
    """
    return sessions_of(settings).ask("operator", now, grow, task)


def describe(session: sessions.SessionRecord) -> Iterator[str]:
    """Say in lines how a session went."""
    reason = f": {session.reason}" if session.reason else ""
    yield f"{session.id}  {session.state}  asked by {session.asked_by}{reason}"
    for line in _report_lines(session):
        yield f"  {line}"


def _report_lines(session: sessions.SessionRecord) -> Iterator[str]:
    """Put a `federation.protocol.report.SessionReport` into lines."""
    report = session.report
    if "version" in report:
        joined = report.get("joined")
        made = "router" if session.task == "router" else "adapters"
        yield f"{made} {report['version']}" + (f", which {joined} joined" if joined else "")
    for node, reason in report.get("refused", {}).items():
        yield f"refused node {node}: {reason}"
    for each in report.get("rounds", ()):
        yield f"{each['duration_s']:6.1f} s  {each['exchange']}: {', '.join(each['accepted'])}"
        for site, reason in each["rejected"].items():
            yield f"          without {site}: {reason}"
        for site in each["silent"]:
            yield f"          without {site}: no answer in time"
    for site, verdict in report.get("verdicts", {}).items():
        yield f"{site}: {verdict['outcome']}, {verdict['reason']}"
    for site, reason in report.get("unanswered", {}).items():
        yield f"{site}: no verdict, {reason}"
