"""Does routing pay, does the router know what it says, and would the next one do better?"""

from grafana_foundation_sdk.models.dashboard import Dashboard

from helm.dashboards.frame import Row, frame
from helm.dashboards.panels import (
    BLUE,
    FULL,
    GRAPH_HEIGHT,
    GREEN,
    GREY,
    ORANGE,
    QUARTER,
    RED,
    THIRD,
    Line,
    PanelBuilder,
    graph,
    join_by,
    listing,
    number,
    pairs,
)
from helm.dashboards.queries import RANGE, Query, at, highest, increase, per_second

PAID = "willingness_to_pay_usd"
FRONTIER = "waypost_router_frontier_"
EXPLORED = 'reason="explored"'
ROUTED = 'reason=~"router|explored"'
INPUT = 'gen_ai_token_type="input"'
READ = 'use="read"'
DOCUMENTED = "Measured by `waypost frontier` on graded answers whose model was drawn at random."


def build() -> Dashboard:
    """Make the dashboard of what routing is for."""
    return frame(
        "cost-and-quality",
        "Waypost / Cost and quality",
        "Does routing pay, are the predictions right, and would the next router do better?",
        "waypost_build_info",
        [
            Row("Frontier of the router that serves and of the next one", _frontier()),
            Row("Calibration: what was predicted, and what grades said", _calibration()),
            Row("Savings", _savings()),
            Row("Decisions", _decisions()),
            Row("Prompt caches", _caches()),
        ],
    )


def _frontier() -> list[PanelBuilder]:
    columns, queries = {}, []
    for role in ("current", "candidate"):
        for figure, bound in (
            ("cost_usd", "estimate"),
            ("quality", "estimate"),
            ("quality", "low"),
            ("quality", "high"),
        ):
            name = f"{role} {_column(figure, bound)}"
            columns[name.replace(" ", "_")] = name
            expr = _of(figure, role, bound)
            queries.append(Query(expr, ref_id=name.replace(" ", "_")))
    single = [
        Query(_of(figure, "best_single", "estimate"), ref_id=f"single_{figure.split('_')[0]}")
        for figure in ("cost_usd", "quality")
    ]
    columns |= {"single_cost": "single cost", "single_quality": "single quality"}
    joined = join_by(PAID, columns)
    units = {
        name: "currencyUSD" if name.endswith("cost") else "percentunit" for name in columns.values()
    }
    return [
        pairs(
            "Quality over cost",
            f"{DOCUMENTED} Thin lines are the 95 % interval; the point is the best single model, "
            "where the log tells which one that is.",
            *queries,
            *single,
            transformations=joined,
            lines=[
                *_lines("current", BLUE),
                *_lines("candidate", ORANGE),
                Line("best single model", "single cost", "single quality", GREY),
            ],
            x_label="mean cost of a query",
            y_label="mean quality",
            x_unit="currencyUSD",
            y_unit="percentunit",
            width=FULL,
            height=12,
        ),
        listing(
            "Operating points",
            f"{DOCUMENTED} One row per willingness to pay, USD per unit of quality.",
            *queries,
            *single,
            transformations=joined,
            units={PAID: "currencyUSD", **units},
            width=FULL,
        ),
        number(
            "Measured",
            "Time since `waypost frontier` last ran. Schedule it once a day.",
            Query(f"time() - max({FRONTIER}measured_timestamp_seconds{at()})"),
            "s",
            steps=[(7 * 86_400, ORANGE)],
            below=GREEN,
            width=QUARTER,
            height=GRAPH_HEIGHT,
        ),
        graph(
            "Effective answers",
            "Number of answers of its own that the least certain point is worth, by the "
            "probabilities with which models were drawn. Points below 30 are not shown.",
            "short",
            Query(
                f"min by (role, version) ({FRONTIER}effective_answers{at()})",
                "{{role}}: {{version}}",
            ),
            width=18,
        ),
    ]


def _calibration() -> list[PanelBuilder]:
    graded = "waypost_router_graded_answers_total"
    predicted = "waypost_router_graded_predicted_quality_total"
    observed = "waypost_router_graded_observed_quality_total"
    mean = {
        name: f"{increase(counter, by='bucket')} / ({increase(graded, by='bucket')} > 0)"
        for name, counter in (("predicted", predicted), ("observed", observed))
    }
    gap = (
        f"({per_second(predicted, by='version')} - {per_second(observed, by='version')})"
        f" / {per_second(graded, by='version')}"
    )
    return [
        pairs(
            "Observed over predicted quality",
            "One point per tenth of predicted quality. On the grey line predictions are right; "
            "above it they are too low, below it too high.",
            *(Query(expr, ref_id=name) for name, expr in mean.items()),
            transformations=join_by("bucket", {name: name for name in mean}),
            lines=[
                Line("observed", "predicted", "observed", BLUE),
                Line("right", "predicted", "predicted", GREY, has_points=False),
            ],
            x_label="predicted quality",
            y_label="mean grade",
            x_unit="percentunit",
            y_unit="percentunit",
            width=THIRD,
        ),
        graph(
            "Predicted minus observed quality",
            "By router version. The alert CalibrationDrift fires above 0.1.",
            "percentunit",
            Query(gap, "{{version}}"),
            least=None,
            width=THIRD,
        ),
        graph(
            "Mean grade by model",
            "Of all graded answers, also of models that callers named.",
            "percentunit",
            Query(
                f"{per_second('waypost_grade_scores_total', by='model')}"
                f" / {per_second('waypost_grades_total', by='model')}",
                "{{model}}",
            ),
            most=1.0,
            width=THIRD,
        ),
    ]


def _savings() -> list[PanelBuilder]:
    best = "waypost_router_best_single_cost_usd_total"
    predicted = "waypost_router_predicted_cost_usd_total"
    observed = "waypost_router_observed_cost_usd_total"
    saved = f"1 - {per_second(predicted)} / ({per_second(best)} > 0)"
    return [
        number(
            "Saved",
            "USD in this time range: predicted cost of always asking the best single model, minus "
            "predicted cost of the models that were asked.",
            Query(f"{increase(best)} - {increase(predicted)}"),
            "currencyUSD",
            below=GREEN,
            width=QUARTER,
            height=GRAPH_HEIGHT,
        ),
        number(
            "Charged against expected",
            "Charged over predicted cost of routed turns. Above 1 the router predicts too low a "
            "cost.",
            Query(f"{increase(observed)} / {increase(predicted)}"),
            "none",
            steps=[(0.8, GREEN), (1.25, ORANGE), (2.0, RED)],
            below=ORANGE,
            decimals=2,
            width=QUARTER,
            height=GRAPH_HEIGHT,
        ),
        graph(
            "Saved by routing",
            "Share of the predicted cost of always asking the best single model that routing "
            "saves.",
            "percentunit",
            Query(saved, "saved"),
            least=None,
            most=1.0,
            width=12,
        ),
        graph(
            "Cost per hour",
            "USD per hour for routed turns, at the current rate.",
            "currencyUSD",
            Query(f"3600 * {per_second(best)}", "best single model, expected"),
            Query(f"3600 * {per_second(predicted)}", "routed, expected"),
            Query(f"3600 * {per_second(observed)}", "routed, charged"),
        ),
        graph(
            "Charged minus expected cost of a turn",
            "By model. A model that drifts above 0 costs more than predicted, for example because "
            "its answers became longer.",
            "currencyUSD",
            Query(
                f"({per_second(observed, by='model')} - {per_second(predicted, by='model')})"
                f" / {per_second('waypost_router_decisions_total', ROUTED, by='model')}",
                "{{model}}",
            ),
            least=None,
        ),
    ]


def _decisions() -> list[PanelBuilder]:
    decisions = "waypost_router_decisions_total"
    explored = f"({per_second(decisions, EXPLORED)} or vector(0))"
    routed = f"{per_second(decisions, ROUTED, by='model')}"
    return [
        graph(
            "Share of each model",
            "Share of routed turns by model. The alert RouterCollapse fires when one model has 96 "
            "%.",
            "percentunit",
            Query(f"{routed} / on() group_left() {per_second(decisions, ROUTED)}", "{{model}}"),
            is_stacked=True,
            most=1.0,
            width=THIRD,
        ),
        graph(
            "Exploration",
            "Share of routed turns whose model was drawn by exploration. Without exploration, no "
            "frontier can be measured and other models get no new grades.",
            "percentunit",
            Query(f"{explored} / {per_second(decisions, ROUTED)}", "explored"),
            width=THIRD,
        ),
        graph(
            "Why a model answered",
            "Turns per second by reason. named: the caller chose the model. router_missing and "
            "router_failed: the default model answered.",
            "reqps",
            Query(per_second(decisions, by="reason"), "{{reason}}"),
            is_stacked=True,
            width=THIRD,
        ),
        number(
            "Grades",
            "Grades received in this time range. Routers are trained from grades only.",
            Query(f"sum(increase(waypost_grades_total{at()}{RANGE}))"),
            steps=[(1, GREEN)],
            below=RED,
            width=QUARTER,
        ),
        number(
            "Serving",
            "Version of the active router.",
            Query(highest("waypost_router_info", by="version"), "{{version}}"),
            shows_name=True,
            width=9,
        ),
        number(
            "Candidate",
            "Newest version that was assessed and kept and is not active.",
            Query(highest("waypost_router_candidate_info", by="version"), "{{version}}"),
            shows_name=True,
            width=9,
        ),
    ]


def _caches() -> list[PanelBuilder]:
    tokens, model = "waypost_prompt_cache_tokens_total", "gen_ai_request_model"
    put_in = per_second("gen_ai_client_token_usage_sum", INPUT, by=model)
    read = f"({per_second(tokens, READ, by=model)} or 0 * {put_in})"
    return [
        graph(
            "Share of the prompt cache",
            "Share of input tokens that providers read from their prompt caches, by model. A model "
            "that is at 0 while others are not has no cache, or conversations move away from it.",
            "percentunit",
            Query(f"{read} / {put_in}", "{{gen_ai_request_model}}"),
            most=1.0,
        ),
        graph(
            "Read from and written to prompt caches",
            "Tokens per second. Writing costs more than plain input at some providers, so what is "
            "written should be read more than once.",
            "short",
            Query(per_second(tokens, by="use"), "{{use}}"),
        ),
    ]


def _of(figure: str, role: str, bound: str) -> str:
    return highest(FRONTIER + figure, f'role="{role}"', f'bound="{bound}"', by=PAID)


def _column(figure: str, bound: str) -> str:
    return "cost" if figure == "cost_usd" else f"quality {bound}".removesuffix(" estimate")


def _lines(role: str, color: str) -> list[Line]:
    bounds = [
        Line(
            f"{role}, {bound}",
            f"{role} cost",
            f"{role} quality {bound}",
            color,
            is_drawn_thin=True,
            has_points=False,
        )
        for bound in ("low", "high")
    ]
    return [Line(role, f"{role} cost", f"{role} quality", color), *bounds]
