"""Who is refused, does the ledger work, and what becomes of allotted tokens?"""

from grafana_foundation_sdk.models.dashboard import Dashboard

from helm.dashboards.frame import Row, frame
from helm.dashboards.panels import (
    GRAPH_HEIGHT,
    GREEN,
    ORANGE,
    QUARTER,
    RED,
    THIRD,
    PanelBuilder,
    graph,
    number,
    states,
)
from helm.dashboards.queries import Query, at, highest, increase, per_second, total

TURNS = "waypost_turn_budget_turns_total"


def build() -> Dashboard:
    """Make the dashboard of spending limits and turn budgets."""
    return frame(
        "budgets",
        "Waypost / Budgets",
        "Who is refused, does the ledger work, and what becomes of allotted tokens?",
        "waypost_build_info",
        [
            Row("Limits", _limits()),
            Row("Ledger", _ledger()),
            Row("Turn budgets", _turn_budgets()),
        ],
    )


def _limits() -> list[PanelBuilder]:
    return [
        number(
            "Refused",
            "By a budget, in this time range.",
            Query(increase("waypost_budget_refused_total")),
            decimals=0,
            height=GRAPH_HEIGHT,
        ),
        number(
            "Running",
            "Reservations that are not settled yet: one per request under way.",
            Query(total("waypost_budget_running")),
            height=GRAPH_HEIGHT,
        ),
        number(
            "Served unchecked",
            "In this time range, because the store was down and `when_store_is_down` is open.",
            Query(increase("waypost_budget_served_unchecked_total")),
            steps=[(1, ORANGE)],
            below=GREEN,
            decimals=0,
            height=GRAPH_HEIGHT,
        ),
        graph(
            "Refusals by scope",
            "Whose budget was used up. 429 with the scope in the error's code.",
            "reqps",
            Query(per_second("waypost_budget_refused_total", by="scope"), "{{scope}}"),
            is_stacked=True,
        ),
        graph(
            "Reserved and settled",
            "The two lines are one as long as nothing leaks.",
            "reqps",
            Query(per_second("waypost_budget_reserved_total"), "reserved"),
            Query(per_second("waypost_budget_settled_total"), "settled"),
        ),
        graph(
            "Open reservations",
            "Unsettled: finished, but the store has not been told yet.",
            "short",
            Query(total("waypost_budget_running"), "running"),
            Query(total("waypost_budget_unsettled"), "unsettled"),
        ),
    ]


def _ledger() -> list[PanelBuilder]:
    leases = ("renewed", "expired", "lost")
    return [
        states(
            "Store",
            "Redis, or the process' own memory.",
            Query(f"min by (instance) (waypost_budget_store_up{at()})", "{{instance}}"),
            {"0": ("down", RED), "1": ("up", GREEN)},
            width=THIRD,
        ),
        graph(
            "What an outage cost",
            "Store calls that failed, requests refused for it, requests served unchecked.",
            "reqps",
            Query(per_second("waypost_budget_store_failures_total"), "failed store calls"),
            Query(per_second("waypost_budget_refused_for_outage_total"), "refused"),
            Query(per_second("waypost_budget_served_unchecked_total"), "served unchecked"),
            width=THIRD,
        ),
        graph(
            "Leases",
            "Expired: a gateway died under the request. Lost: one ended while its request ran.",
            "short",
            *(Query(per_second(f"waypost_budget_leases_{name}_total"), name) for name in leases),
            width=THIRD,
        ),
        number(
            "Budgets out of date",
            "Whether they could not be read from the database lately.",
            Query(highest("waypost_budget_definitions_stale")),
            "bool_yes_no",
            steps=[(1, ORANGE)],
            below=GREEN,
            width=QUARTER,
        ),
        number(
            "Failed reads of definitions",
            "In this time range; the last known budgets stay in force.",
            Query(increase("waypost_budget_definition_read_failures_total")),
            steps=[(1, ORANGE)],
            below=GREEN,
            decimals=0,
            width=QUARTER,
        ),
    ]


def _turn_budgets() -> list[PanelBuilder]:
    allotted = "waypost_turn_budget_allotted_tokens_total"
    used = "waypost_turn_budget_used_tokens_total"
    cut_off = "waypost_turn_budget_cut_off_total"
    return [
        graph(
            "Tokens of a turn",
            "Mean allotted to a turn, and used by it.",
            "short",
            Query(f"{per_second(allotted)} / {per_second(TURNS)}", "allotted"),
            Query(f"{per_second(used)} / {per_second(TURNS)}", "used"),
            width=THIRD,
        ),
        graph(
            "Cut off",
            "Share of turns that ended at their allotment.",
            "percentunit",
            Query(f"{per_second(cut_off)} / {per_second(TURNS)}", "cut off"),
            most=1.0,
            width=THIRD,
        ),
        graph(
            "Turns with a budget",
            "And those for which the active policy failed and the built-in one proposed.",
            "reqps",
            Query(per_second(TURNS), "turns"),
            Query(per_second("waypost_turn_budget_policy_failures_total"), "policy failed"),
            width=THIRD,
        ),
    ]
