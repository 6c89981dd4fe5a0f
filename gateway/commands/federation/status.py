"""`waypost federation status`: see how trainings went."""

from collections.abc import Iterator

import click

from federation.deployment.sessions import SessionRecord
from gateway.commands.options import settings_option
from gateway.federation.paths import sessions_of
from gateway.settings.config import GatewaySettings


@click.command("status")
@settings_option
@click.option("--last", type=click.IntRange(1), default=5, help="How many sessions to show.")
def command(settings: GatewaySettings, last: int) -> None:
    """Show how the latest trainings of this coordinator went, the newest last."""
    sessions = sessions_of(settings).list_all()
    if not sessions:
        click.echo("no session yet; `waypost federation train` requests one")
    for session in sessions[-last:]:
        describe(session)


def describe(session: SessionRecord) -> None:
    """Say how a session went."""
    reason = f": {session.reason}" if session.reason else ""
    click.echo(f"{session.id}  {session.state}  asked by {session.asked_by}{reason}")
    for line in _lines(session):
        click.echo(f"  {line}")


def _lines(session: SessionRecord) -> Iterator[str]:
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
