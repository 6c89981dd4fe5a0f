"""Does training with the other organisations work, and what came of it?"""

from grafana_foundation_sdk.models.dashboard import Dashboard

from helm.dashboards.frame import Row, frame
from helm.dashboards.panels import (
    FULL,
    GRAPH_HEIGHT,
    GREEN,
    QUARTER,
    RED,
    THIRD,
    PanelBuilder,
    graph,
    number,
    states,
)
from helm.dashboards.queries import Query, at, highest, total

OF = "waypost_federation_"
UP = {"0": ("down", RED), "1": ("up", GREEN)}


def build() -> Dashboard:
    """Make the dashboard of a coordinator and of the nodes that this Prometheus scrapes."""
    return frame(
        "federation",
        "Waypost / Federation",
        "Does training with other organisations work, and with what result?",
        f"{OF}child_up",
        [
            Row("Coordinator: latest session", _session()),
            Row("Coordinator: sites and rounds", _rounds()),
            Row("Processes", _processes()),
            Row("Node: routers received by this gateway", _node()),
        ],
        has_router=False,
    )


def _session() -> list[PanelBuilder]:
    return [
        number(
            "State",
            "State of the training session that started last.",
            Query(f"max by (state) ({OF}last_session_state{at()} == 1)", "{{state}}"),
            shows_name=True,
        ),
        number("Rounds", "That it has been through.", Query(highest(f"{OF}rounds"))),
        number("Sites", "That it admitted.", Query(highest(f"{OF}members"))),
        number(
            "Nodes refused",
            "Nodes refused by that session: their key is unknown, or their settings contradict "
            "the session's.",
            Query(highest(f"{OF}refused_nodes")),
            steps=[(1, RED)],
            below=GREEN,
        ),
        number(
            "Last successful session",
            "Time since a session last finished successfully.",
            Query(f"time() - max({OF}last_finished_timestamp_seconds{at()})"),
            "s",
        ),
        number(
            "Attempts",
            "Times the session was started. More than one: the coordinator was restarted in the "
            "middle of it.",
            Query(highest(f"{OF}last_session_attempts")),
            steps=[(2, RED)],
            below=GREEN,
        ),
    ]


def _rounds() -> list[PanelBuilder]:
    return [
        graph(
            "Answers by site",
            "Answers of the session by site and result. A site whose answers are rejected or "
            "missing contributes nothing to the router.",
            "short",
            Query(highest(f"{OF}answers", by="site, result"), "{{site}}: {{result}}"),
            width=THIRD,
        ),
        graph(
            "Time spent",
            "Time spent in the rounds of the session, by kind of exchange.",
            "s",
            Query(highest(f"{OF}round_duration_seconds", by="exchange"), "{{exchange}}"),
            is_stacked=True,
            width=THIRD,
        ),
        graph(
            "Outcomes at the sites",
            "Number of sites. Activated: the router serves there now. Candidate: it was kept, and "
            "the earlier one serves.",
            "short",
            Query(highest(f"{OF}verdicts", by="outcome"), "{{outcome}}"),
            is_stacked=True,
            width=THIRD,
        ),
        graph(
            "Sessions on disk",
            "Sessions by state. The coordinator keeps the latest 100.",
            "short",
            Query(highest(f"{OF}sessions", by="state"), "{{state}}"),
            is_stacked=True,
            width=FULL,
        ),
    ]


def _processes() -> list[PanelBuilder]:
    return [
        states(
            "Child processes",
            "Whether Flower's SuperLink and SuperNode and Waypost's own child processes run.",
            Query(highest(f"{OF}child_up", by="instance, child"), "{{instance}} {{child}}"),
            UP,
        ),
        graph(
            "Restarts",
            "Restarts of child processes since the start.",
            "short",
            Query(
                total(f"{OF}child_restarts_total", by="instance, child"), "{{instance}} {{child}}"
            ),
        ),
    ]


def _node() -> list[PanelBuilder]:
    return [
        graph(
            "Routers kept",
            "Routers kept at this site, by the outcome of their assessment on its own held-out "
            "answers.",
            "short",
            Query(total(f"{OF}node_routers", by="outcome"), "{{outcome}}"),
            is_stacked=True,
        ),
        number(
            "Last verdict",
            "Time since a router was last assessed at this site.",
            Query(f"time() - max({OF}node_last_verdict_timestamp_seconds{at()})"),
            "s",
            width=QUARTER,
            height=GRAPH_HEIGHT,
        ),
        number(
            "Privacy spent",
            "Share of the epsilon limit that this node has spent. At 100 % it takes part in no "
            "more trainings.",
            Query(f"max({OF}node_epsilon_spent{at()} / {OF}node_epsilon_limit{at()})"),
            "percentunit",
            steps=[(0.9, RED)],
            below=GREEN,
            width=QUARTER,
            height=GRAPH_HEIGHT,
        ),
    ]
