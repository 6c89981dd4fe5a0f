"""Every query of the dashboard Spend, asked of a real Postgres as Grafana would ask it."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError

from gateway.evaluation_log.row_layout import to_row
from gateway.evaluation_log.spend import Spending, spend
from gateway.storage.database import create_database_engine, writing
from gateway.storage.rows import insert_rows
from helm.dashboards.sql_panels import POSTGRES
from tests.fakes.dashboards import read_dashboards
from tests.fakes.postgres import Postgres
from tests.fakes.schemas import with_schema
from tests.fakes.turns import START_UNIX_S, make_turn

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "see-what-was-spent.md"
DASHBOARDS = read_dashboards(POSTGRES)
PANELS = {
    panel["title"]: panel
    for dashboard in DASHBOARDS.values()
    for panel in dashboard["panels"]
    if panel["type"] != "row"
}
SINCE = datetime.fromtimestamp(START_UNIX_S, UTC) - timedelta(days=30)
UNTIL = datetime.fromtimestamp(START_UNIX_S, UTC) + timedelta(days=3)


@pytest.fixture
def engine(postgres: Postgres) -> Iterator[Engine]:
    """Two teams, three models, two days, a refusal, and a turn from before the time range."""
    engine = create_database_engine(postgres.new_database())
    with_schema(engine)
    turns = [
        make_turn(1, team_id="blue", served_model="small", cost_nusd=10**9, given_up_nusd=0),
        make_turn(2, team_id="blue", served_model="large", cost_nusd=2 * 10**9, given_up_nusd=0),
        make_turn(3, team_id="red", cost_nusd=5, started_at_unix_s=START_UNIX_S + 86_400),
        make_turn(4, team_id="red", key_id="k", served_model=None, usage=None, cost_nusd=0),
        make_turn(5, started_at_unix_s=START_UNIX_S - 40 * 86_400),
    ]
    with writing(engine) as connection:
        insert_rows(connection, [to_row(turn) for turn in turns])
    yield engine
    engine.dispose()


def ask(engine: Engine, title: str, role: str | None = None) -> list[dict[str, Any]]:
    """Ask a panel's query over the time range, in a session of another zone than UTC."""
    (target,) = PANELS[title]["targets"]
    sql = target["rawSql"]
    for macro, moment in (("$__timeFrom()", SINCE), ("$__timeTo()", UNTIL)):
        assert macro in sql
        sql = sql.replace(macro, f"'{moment:%Y-%m-%dT%H:%M:%SZ}'")
    assert "$" not in sql
    with engine.connect() as connection:
        connection.execute(text("SET LOCAL TIME ZONE 'Pacific/Auckland'"))
        if role is not None:
            connection.execute(text(f"SET LOCAL ROLE {role}"))
        return [dict(row) for row in connection.exec_driver_sql(sql).mappings()]


@pytest.mark.parametrize("title", PANELS)
def test_every_query_returns_rows(engine, title):
    assert ask(engine, title)


def test_the_dashboard_says_what_the_command_says(engine):
    rows = spend(engine, Spending(("team", "key", "model"), SINCE, UNTIL))
    expected = {(row["team"], row["key"], row["model"]): row["cost_nusd"] / 1e9 for row in rows}

    shown = ask(engine, "Keys and their models")

    assert {(row["team"], row["key"], row["model"]): float(row["USD"]) for row in shown} == expected
    assert [float(row["USD"]) for row in shown] == sorted(expected.values(), reverse=True)


def test_figures_are_those_of_the_time_range(engine):
    assert float(ask(engine, "Spent")[0]["value"]) == 3.000000019
    assert int(ask(engine, "Requests")[0]["value"]) == 4
    assert int(ask(engine, "Refused")[0]["value"]) == 1


def test_days_are_drawn_by_team_at_the_beginning_of_their_day_in_utc(engine):
    rows = ask(engine, "USD by day and team")

    days = sorted({row["time"].astimezone(UTC) for row in rows})
    assert all((day.hour, day.minute, day.second) == (0, 0, 0) for day in days)
    assert days[-1] - days[0] == timedelta(days=1)
    assert {row["metric"] for row in rows} == {"blue", "red"}


def test_who_was_refused_most_comes_first(engine):
    (row,) = ask(engine, "Most refused")

    assert (row["team"], row["key"], row["refused"]) == ("red", "k", 1)


def test_what_has_a_unit_is_a_column(engine):
    for title, panel in PANELS.items():
        overrides = panel["fieldConfig"]["overrides"]
        named = {override["matcher"]["options"] for override in overrides}
        assert named <= ask(engine, title)[0].keys(), title


def test_the_role_that_the_guide_makes_may_read_what_the_dashboard_asks_and_no_text(engine):
    grants = re.findall(r"```sql\n(.*?)```", GUIDE.read_text(), re.DOTALL)[0]
    with engine.begin() as connection:
        connection.exec_driver_sql(grants)

    assert all(ask(engine, title, role="grafana") for title in PANELS)
    with engine.connect() as connection:
        connection.execute(text("SET LOCAL ROLE grafana"))
        with pytest.raises(ProgrammingError, match="denied"):
            connection.execute(text("SELECT query_text, messages, answer FROM turns"))
