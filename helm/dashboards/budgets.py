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
        "Who is refused, does the budget store work, and how are allotted tokens used?",
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
            "Requests refused by a budget in this time range.",
            Query(increase("waypost_budget_refused_total")),
            decimals=0,
            height=GRAPH_HEIGHT,
        ),
        number(
            "Running",
            "Reservations not settled yet: one per request in progress.",
            Query(total("waypost_budget_running")),
            height=GRAPH_HEIGHT,
        ),
        number(
            "Served unchecked",
            "Requests served in this time range while the budget store was down, with "
            "`when_store_is_down` set to open.",
            Query(increase("waypost_budget_served_unchecked_total")),
            steps=[(1, ORANGE)],
            below=GREEN,
            decimals=0,
            height=GRAPH_HEIGHT,
        ),
        graph(
            "Refusals by scope",
            "Requests per second that were refused with status 429, by the scope whose budget was "
            "used up.",
            "reqps",
            Query(per_second("waypost_budget_refused_total", by="scope"), "{{scope}}"),
            is_stacked=True,
        ),
        graph(
            "Reserved and settled",
            "Reservations made and settled per second. If the lines stay apart, reservations are "
            "not settled.",
            "reqps",
            Query(per_second("waypost_budget_reserved_total"), "reserved"),
            Query(per_second("waypost_budget_settled_total"), "settled"),
        ),
        graph(
            "Open reservations",
            "Running: the request is in progress. Unsettled: it has ended, and its charge waits "
            "for the store.",
            "short",
            Query(total("waypost_budget_running"), "running"),
            Query(total("waypost_budget_unsettled"), "unsettled"),
        ),
        graph(
            "Most used budgets",
            "Spent and held share of the ten budgets that are closest to their cap. `waypost "
            "budgets show ID` says whose a budget is.",
            "percentunit",
            Query(
                f"topk(10, max by (budget, scope, measure, window) (waypost_budget_used{at()}"
                f" / (waypost_budget_limit{at()} > 0)))",
                "{{budget}}: {{scope}}, {{measure}} per {{window}}",
            ),
        ),
    ]


def _ledger() -> list[PanelBuilder]:
    leases = ("renewed", "expired", "lost")
    return [
        states(
            "Store",
            "Whether the budget store (Redis, or the memory of the process) answered its last "
            "call.",
            Query(f"min by (instance) (waypost_budget_store_up{at()})", "{{instance}}"),
            {"0": ("down", RED), "1": ("up", GREEN)},
            width=THIRD,
        ),
        graph(
            "Effects of an outage",
            "Failed calls to the store, requests refused because of that, and requests served "
            "unchecked.",
            "reqps",
            Query(per_second("waypost_budget_store_failures_total"), "failed store calls"),
            Query(per_second("waypost_budget_refused_for_outage_total"), "refused"),
            Query(per_second("waypost_budget_served_unchecked_total"), "served unchecked"),
            width=THIRD,
        ),
        graph(
            "Leases",
            "Reservations per second. Expired: unsettled, as when a gateway dies. Lost: expired "
            "while the request ran.",
            "short",
            *(Query(per_second(f"waypost_budget_leases_{name}_total"), name) for name in leases),
            width=THIRD,
        ),
        number(
            "Budgets out of date",
            "Yes if the budget definitions could not be read from the database lately.",
            Query(highest("waypost_budget_definitions_stale")),
            "bool_yes_no",
            steps=[(1, ORANGE)],
            below=GREEN,
            width=QUARTER,
        ),
        number(
            "Failed reads of definitions",
            "Failed reads in this time range; the last known budgets stay in force.",
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
            "Mean completion tokens allotted to a turn, and used by it.",
            "short",
            Query(f"{per_second(allotted)} / {per_second(TURNS)}", "allotted"),
            Query(f"{per_second(used)} / {per_second(TURNS)}", "used"),
            width=THIRD,
        ),
        graph(
            "Cut off",
            "Share of turns whose answer was cut off by the allotted tokens.",
            "percentunit",
            Query(f"{per_second(cut_off)} / {per_second(TURNS)}", "cut off"),
            most=1.0,
            width=THIRD,
        ),
        graph(
            "Turns with a budget",
            "Turns per second with a turn budget, and those that the built-in policy served "
            "because the active one failed.",
            "reqps",
            Query(per_second(TURNS), "turns"),
            Query(per_second("waypost_turn_budget_policy_failures_total"), "policy failed"),
            width=THIRD,
        ),
    ]
