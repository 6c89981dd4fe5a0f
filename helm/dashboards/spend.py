"""Who spends how much on what? From the gateway's database, by the query of `waypost spend`."""

from typing import Any, Final

from grafana_foundation_sdk.models.dashboard import Dashboard
from sqlalchemy import ColumnClause, Dialect, literal_column
from sqlalchemy.dialects import postgresql

from gateway.evaluation_log.spend import By, Spending
from helm.dashboards.frame import Row, sql_frame
from helm.dashboards.panels import FULL, PanelBuilder
from helm.dashboards.sql_panels import days, listing, number

SINCE: Final[ColumnClause[Any]] = literal_column("$__timeFrom()")
UNTIL: Final[ColumnClause[Any]] = literal_column("$__timeTo()")
"""Which Grafana replaces by the ends of the time range that the user looks at."""
MOST_ROWS: Final = 100
FIGURES: Final = (
    'sum(cost_nusd) / 1e9 AS "USD"',
    'sum(requests) AS "requests"',
    'sum(prompt_tokens) AS "prompt tokens"',
    'sum(cached_tokens)::float / nullif(sum(prompt_tokens), 0) AS "from the cache"',
    'sum(completion_tokens) AS "completion tokens"',
)
UNITS: Final = {
    "USD": "currencyUSD",
    "requests": "short",
    "prompt tokens": "short",
    "from the cache": "percentunit",
    "completion tokens": "short",
}


def build() -> Dashboard:
    """Make the dashboard of those who pay."""
    return sql_frame(
        "spend",
        "Waypost / Spend",
        "Who spends how much on what? It needs a gateway on Postgres.",
        [
            Row("In this time range", _now()),
            Row("By day", _by_day()),
            Row("Who and what", _lists()),
        ],
    )


def _now() -> list[PanelBuilder]:
    figures = {
        "Spent": ("USD charged for all requests.", "sum(cost_nusd) / 1e9", "currencyUSD"),
        "Estimated": (
            "Share of it that rests on the gateway's own count of tokens.",
            "sum(estimated_nusd)::float / nullif(sum(cost_nusd), 0)",
            "percentunit",
        ),
        "Requests": ("Requests, refused ones included.", "sum(requests)", "short"),
        "Refused": (
            "Requests that reached no model, over budget for example.",
            "sum(refused)",
            "short",
        ),
    }
    return [
        number(title, meaning, f"SELECT {figure} AS value FROM {_spent('team')}", unit)
        for title, (meaning, figure, unit) in figures.items()
    ]


def _by_day() -> list[PanelBuilder]:
    meanings: dict[By, str] = {
        "team": "What was charged on each day in UTC, by team.",
        "model": "What was charged on each day in UTC, by the model that answered.",
    }
    return [
        days(f"USD by day and {name}", meaning, _daily(name), "currencyUSD")
        for name, meaning in meanings.items()
    ]


def _lists() -> list[PanelBuilder]:
    return [
        listing("Teams", "Those that spent most first.", _top("team"), UNITS),
        listing("Models", "Those that cost most first.", _top("model"), UNITS),
        listing(
            "Keys and their models",
            "Which key was answered by which model, the dearest first.",
            _top("team", "key", "model"),
            UNITS,
            width=FULL,
        ),
        listing(
            "End users",
            "By the digest of what callers call them, those that spent most first; see "
            "`waypost spend --user`.",
            _top("team", "user", known="user"),
            UNITS,
        ),
        listing(
            "Tasks",
            "By what callers call their requests, the dearest first.",
            _top("team", "task", known="task"),
            UNITS,
        ),
        listing(
            "Most refused",
            "Keys whose requests reached no model, most refusals first.",
            f'SELECT team, key, sum(refused) AS "refused", sum(requests) AS "requests"'
            f" FROM {_spent('team', 'key')} GROUP BY team, key HAVING sum(refused) > 0"
            f" ORDER BY 3 DESC, 1, 2 LIMIT {MOST_ROWS}",
            {"refused": "short", "requests": "short"},
            width=FULL,
        ),
    ]


def _top(*by: By, known: By | None = None) -> str:
    """Select those that cost most; only those whose `known` is."""
    names = ", ".join(f'"{name}"' for name in by)
    where = "" if known is None else f" WHERE \"{known}\" <> ''"
    return (
        f"SELECT {names}, {', '.join(FIGURES)} FROM {_spent(*by)}{where}"
        f" GROUP BY {names} ORDER BY sum(cost_nusd) DESC, {names} LIMIT {MOST_ROWS}"
    )


def _daily(name: By) -> str:
    return (
        f"SELECT (day || 'T00:00:00Z')::timestamptz AS time, \"{name}\" AS metric,"
        f' cost_nusd / 1e9 AS "USD" FROM {_spent("day", name)} ORDER BY 1, 2'
    )


def _spent(*by: By) -> str:
    """Write the query of `waypost spend` as a table of its own."""
    dialect: Dialect = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]
    query = Spending(by, SINCE, UNTIL).query(dialect).order_by(None)
    sql = str(query.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
    return f"({' '.join(sql.split())}) AS spend"
