"""The metrics of a coordinator and of a node: read at each scrape out of what they keep on disk.

Their work is done by child processes; the parent that keeps those running answers scrapes. See
``docs/reference/metrics.md``.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, get_args

import click
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric

from federation.deployment.sessions import SessionRecord, SessionStore, State
from federation.deployment.supervisor import Supervisor
from federation.privacy.accounting import PrivacyAccount
from gateway.artifacts.store import ArtifactStore
from gateway.artifacts.trust import open_regular
from gateway.federation.paths import ROUTER
from gateway.telemetry.families import Read, counters, gauge, gauges
from gateway.telemetry.series import Reading
from router_models.artifacts.artifact import read_manifest
from router_models.artifacts.assessment import Outcome
from router_models.errors import ArtifactRejected

OUTCOMES: Final = get_args(Outcome)


@contextmanager
def exposed(host: str, port: int | None, *reads: Read) -> Iterator[str | None]:
    """Answer scrapes while the context lasts; yields where, or None where no port is set.

    Raises:
        OSError: The port cannot be listened on.
    """
    if port is None:
        yield None
        return
    registry = CollectorRegistry()
    for read in reads:
        registry.register(Reading(read))
    server, thread = start_http_server(port, host, registry)
    try:
        yield f"http://{host}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def echo_metrics_url(url: str | None) -> None:
    """Tell the operator where scrapes are answered."""
    if url is not None:
        click.echo(f"  metrics: {url}")


def read_children(groups: Mapping[str, Supervisor]) -> Read:
    """Say which child processes run."""

    def read() -> Iterator[Metric]:
        up = {name: float(group.are_up) for name, group in groups.items()}
        restarts = {name: float(group.restarts) for name, group in groups.items()}
        yield gauges(
            "waypost_federation_child_up", "1 if the child process runs, else 0.", "child", up
        )
        yield counters(
            "waypost_federation_child_restarts",
            "Times the child process was restarted.",
            "child",
            restarts,
        )

    return read


def read_sessions(store: SessionStore) -> Read:
    """Say how a coordinator's trainings went, the last one in detail."""

    def read() -> Iterator[Metric]:
        sessions = store.list_all()
        by_state = Counter(session.state for session in sessions)
        states = {state: float(by_state[state]) for state in get_args(State)}
        yield gauges(
            "waypost_federation_sessions",
            "Training sessions by state, the latest hundred.",
            "state",
            states,
        )
        begun = [session for session in sessions if session.state != "waiting"]
        finished = [s.ended_at for s in sessions if s.state == "finished" and s.ended_at]
        yield gauge(
            "waypost_federation_last_finished_timestamp_seconds",
            "Unix time at which a session last finished successfully.",
            finished[-1].timestamp() if finished else None,
        )
        last = begun[-1] if begun else None
        yield from _read_last(last)
        yield from _read_report({} if last is None else last.report)
        yield gauge(
            "waypost_federation_loss",
            "Validation loss of the last router whose training measured one.",
            _loss([store.folder_of(session) / ROUTER for session in begun]),
        )

    return read


def read_node(store: ArtifactStore, account: PrivacyAccount | None) -> Read:
    """Say what a node made of the routers it got, and what its answers cost of its privacy."""

    def read() -> Iterator[Metric]:
        judged = sorted(
            (assessment.assessed_at, assessment.outcome) for _, assessment in store.assessments()
        )
        by_outcome = Counter(outcome for _, outcome in judged)
        kept = {outcome: float(by_outcome[outcome]) for outcome in OUTCOMES}
        name = "waypost_federation_node"
        yield gauges(f"{name}_routers", "Routers assessed and kept by this site.", "outcome", kept)
        yield gauges(
            f"{name}_last_verdict_timestamp_seconds",
            "Unix time at which this site assessed the last router.",
            "outcome",
            {outcome: at.timestamp() for at, outcome in judged[-1:]},
        )
        spent = None if account is None else account.read().epsilon_spent()
        limit = None if account is None else account.epsilon
        yield gauge(
            f"{name}_epsilon_spent",
            "Epsilon spent by this site's answers so far; no series without a limit.",
            spent,
        )
        yield gauge(
            f"{name}_epsilon_limit", "Epsilon that this site's answers may spend in all.", limit
        )

    return read


def _read_last(session: SessionRecord | None) -> Iterator[Metric]:
    name = "waypost_federation_last_session"
    states: dict[str, float] = {}
    attempts = asked = ended = None
    if session is not None:
        states = {state: float(state == session.state) for state in get_args(State)}
        attempts, asked = session.attempts, session.asked_at.timestamp()
        ended = None if session.ended_at is None else session.ended_at.timestamp()
    yield gauges(
        f"{name}_state",
        "1 for the state of the session that started last, 0 for the others.",
        "state",
        states,
    )
    yield gauge(
        f"{name}_attempts",
        "Times that session was started; above 1 after a restart of the coordinator.",
        attempts,
    )
    yield gauge(
        f"{name}_asked_timestamp_seconds", "Unix time at which that session was requested.", asked
    )
    yield gauge(
        f"{name}_ended_timestamp_seconds",
        "Unix time at which that session ended; no series while it runs.",
        ended,
    )


def _read_report(report: Mapping[str, Any]) -> Iterator[Metric]:
    """Put a `federation.protocol.report.SessionReport`, as a session keeps it, into families."""
    rounds: Sequence[Mapping[str, Any]] = report.get("rounds", ())
    seconds: Counter[str] = Counter()
    answers: Counter[tuple[str, str]] = Counter()
    for each in rounds:
        seconds[each["exchange"]] += each["duration_s"]
        for result in ("accepted", "rejected", "silent"):
            answers.update((site, result) for site in each[result])
    name = "waypost_federation"
    yield gauge(f"{name}_rounds", "Finished rounds of that session.", len(rounds))
    yield gauges(
        f"{name}_round_duration_seconds",
        "Seconds that these rounds took, by kind of exchange.",
        "exchange",
        seconds,
    )
    by_site = GaugeMetricFamily(
        f"{name}_answers", "Answers of that session by site and result.", labels=["site", "result"]
    )
    for (site, result), number in answers.items():
        by_site.add_metric([site, result], number)
    yield by_site
    yield gauge(
        f"{name}_members", "Sites admitted to that session.", len(report.get("members", ()))
    )
    yield gauge(
        f"{name}_refused_nodes", "Nodes refused by that session.", len(report.get("refused", ()))
    )
    verdicts = Counter(verdict["outcome"] for verdict in report.get("verdicts", {}).values())
    told = {outcome: float(verdicts[outcome]) for outcome in OUTCOMES}
    told["unanswered"] = float(len(report.get("unanswered", ())))
    yield gauges(
        f"{name}_verdicts",
        "Sites by what they decided on the router of that session.",
        "outcome",
        told,
    )


def _loss(routers: Sequence[Path]) -> float | None:
    """Return the loss of the newest router whose training had one."""
    for path in reversed(routers):
        try:
            with open_regular(path) as file:
                training = read_manifest(file.read()).training
        except (OSError, ArtifactRejected):
            continue
        losses = training.get("losses") or {}
        return losses.get(str(training.get("best_round")))
    return None
