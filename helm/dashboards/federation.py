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
        "Does training with the other organisations work, and what came of it?",
        f"{OF}child_up",
        [
            Row("Coordinator: the session that began last", _session()),
            Row("Coordinator: its sites and rounds", _rounds()),
            Row("Processes", _processes()),
            Row("Node: what this gateway made of the routers it was sent", _node()),
        ],
    )


def _session() -> list[PanelBuilder]:
    return [
        number(
            "State",
            "Of the session that began last.",
            Query(f"max by (state) ({OF}last_session_state{at()} == 1)", "{{state}}"),
            shows_name=True,
        ),
        number("Rounds", "That it has been through.", Query(highest(f"{OF}rounds"))),
        number("Sites", "That it admitted.", Query(highest(f"{OF}members"))),
        number(
            "Nodes refused",
            "Of an unknown key, or whose settings contradict the session's.",
            Query(highest(f"{OF}refused_nodes")),
            steps=[(1, RED)],
            below=GREEN,
        ),
        number(
            "Last good session",
            "How long ago it ended.",
            Query(f"time() - max({OF}last_finished_timestamp_seconds{at()})"),
            "s",
        ),
        number(
            "Attempts",
            "More than one: the coordinator was killed in the middle and went on.",
            Query(highest(f"{OF}last_session_attempts")),
            steps=[(2, RED)],
            below=GREEN,
        ),
    ]


def _rounds() -> list[PanelBuilder]:
    return [
        graph(
            "Answers by site",
            "Accepted ones counted. A site whose answers are rejected or that is silent learns "
            "from the others and gives nothing.",
            "short",
            Query(highest(f"{OF}answers", by="site, result"), "{{site}}: {{result}}"),
            width=THIRD,
        ),
        graph(
            "Time spent",
            "In the session's rounds, by what the sites were asked.",
            "s",
            Query(highest(f"{OF}round_duration_seconds", by="exchange"), "{{exchange}}"),
            is_stacked=True,
            width=THIRD,
        ),
        graph(
            "What sites made of the router",
            "Activated: it serves there now. Candidate: it was kept and the old one serves.",
            "short",
            Query(highest(f"{OF}verdicts", by="outcome"), "{{outcome}}"),
            is_stacked=True,
            width=THIRD,
        ),
        graph(
            "Sessions on disk",
            "By state; the coordinator keeps 100.",
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
            "Flower's SuperLink and SuperNode, and our own.",
            Query(highest(f"{OF}child_up", by="instance, child"), "{{instance}} {{child}}"),
            UP,
        ),
        graph(
            "Restarts",
            "Since the start.",
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
            "By what the gateway made of them on its own held-out answers.",
            "short",
            Query(total(f"{OF}node_routers", by="outcome"), "{{outcome}}"),
            is_stacked=True,
        ),
        number(
            "Last verdict",
            "How long ago a router was judged here.",
            Query(f"time() - max({OF}node_last_verdict_timestamp_seconds{at()})"),
            "s",
            width=QUARTER,
            height=GRAPH_HEIGHT,
        ),
        number(
            "Privacy spent",
            "Share of the epsilon that this node may ever spend.",
            Query(f"max({OF}node_epsilon_spent{at()} / {OF}node_epsilon_limit{at()})"),
            "percentunit",
            steps=[(0.9, RED)],
            below=GREEN,
            width=QUARTER,
            height=GRAPH_HEIGHT,
        ),
    ]
