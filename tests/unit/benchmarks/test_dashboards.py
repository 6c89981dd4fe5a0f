import numpy as np
import pytest

from benchmarks.dashboards.answers import Series, join
from benchmarks.dashboards.draw import KINDS
from benchmarks.dashboards.units import write
from tests.fakes.dashboards import read_dashboards


@pytest.mark.parametrize(
    ("value", "unit", "decimals", "text"),
    [
        (0.0312, "percentunit", None, "3.12%"),
        (0.99954, "percentunit", 2, "99.95%"),
        (0.0012, "s", None, "1.2 ms"),
        (0.0, "s", None, "0 s"),
        (7200.0, "s", None, "2 h"),
        (3 * 2**20, "bytes", None, "3 MiB"),
        (0.0000277, "currencyUSD", None, "$0.0000277"),
        (-1.5, "currencyUSD", None, "-$1.5"),
        (1234.0, "short", None, "1.23 K"),
        (59.7, "reqps", None, "59.7 req/s"),
        (1.0, "bool_yes_no", None, "yes"),
        (float("nan"), "s", None, "none"),
    ],
)
def test_a_figure_is_written_in_its_unit(value, unit, decimals, text):
    assert write(value, unit, decimals) == text


def test_instant_queries_are_joined_by_the_label_that_they_share():
    def series(ref_id: str, paid: str, value: float) -> Series:
        return Series("", ref_id, {"paid": paid}, np.array([value]))

    panel = {
        "transformations": [
            {"id": "joinByField", "options": {"byField": "paid"}},
            {
                "id": "organize",
                "options": {"renameByName": {"Value #c": "cost", "Value #q": "good"}},
            },
        ]
    }
    answers = [series("c", "1", 0.5), series("c", "0.02", 0.1), series("q", "1", 0.9)]

    columns = join(panel, answers)

    assert columns["paid"].tolist() == [0.02, 1.0]
    assert columns["cost"].tolist() == [0.1, 0.5]
    np.testing.assert_array_equal(columns["good"], [np.nan, 0.9])


def test_every_kind_of_panel_can_be_drawn():
    panels = [panel for dashboard in read_dashboards().values() for panel in dashboard["panels"]]

    assert {panel["type"] for panel in panels} - {"row"} == KINDS.keys()
