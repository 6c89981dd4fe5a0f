"""What can be said of the dashboards without a Prometheus."""

import re
from pathlib import Path
from typing import Any

import pytest

from helm.dashboards.__main__ import render_all
from tests.fakes.dashboards import FOLDER, read_dashboards, targets

SHIPPED = read_dashboards(None)
METRICS = (Path(__file__).resolve().parents[3] / "docs" / "reference" / "metrics.md").read_text()
METRIC = re.compile(r"\b(?:waypost|gen_ai)_\w+")
SUFFIX = re.compile(r"_(bucket|sum|count)$")


def panels(name: str) -> list[dict[str, Any]]:
    return [panel for panel in SHIPPED[name]["panels"] if panel["type"] != "row"]


def test_what_is_shipped_is_what_python_makes():
    made = dict(render_all())
    assert made.keys() == {file.name for file in FOLDER.iterdir()}
    assert {n for n, text in made.items() if (FOLDER / n).read_text() != text} == set(), (
        "run `python -m helm.dashboards`"
    )


@pytest.mark.parametrize("name", SHIPPED)
def test_every_panel_says_what_it_shows(name):
    assert len({panel["title"] for panel in panels(name)}) == len(panels(name))
    for panel in panels(name):
        assert panel["description"].endswith("."), panel["title"]
        assert panel["targets"], panel["title"]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_figure_has_a_unit(name):
    for panel in panels(name):
        configured = panel["fieldConfig"]
        units = [p for o in configured["overrides"] for p in o["properties"] if p["id"] == "unit"]
        is_of_names = panel["type"] in {"state-timeline", "heatmap"}
        assert configured["defaults"].get("unit") or units or is_of_names, panel["title"]


@pytest.mark.parametrize("name", SHIPPED)
def test_no_panel_lies_on_another(name):
    taken: set[tuple[int, int]] = set()
    for panel in SHIPPED[name]["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells


@pytest.mark.parametrize("name", read_dashboards())
def test_every_metric_asked_for_is_documented(name):
    asked = {
        SUFFIX.sub("", metric)
        for panel in panels(name)
        for target in targets(name, panel, "1m", "1h")
        for metric in METRIC.findall(target.expr)
    }
    assert {metric for metric in asked if f"`{metric}`" not in METRICS} == set()


def test_every_dashboard_leads_to_the_others():
    assert len({dashboard["uid"] for dashboard in SHIPPED.values()}) == len(SHIPPED)
    for dashboard in SHIPPED.values():
        assert dashboard["tags"] == ["waypost"]
        assert [link["tags"] for link in dashboard["links"]] == [["waypost"]]


def test_the_source_of_every_query_is_chosen_by_the_user():
    for name, dashboard in SHIPPED.items():
        assert dashboard["templating"]["list"][0]["type"] == "datasource"
        for panel in panels(name):
            sources = [panel["datasource"], *(t["datasource"] for t in panel["targets"])]
            assert {source["uid"] for source in sources} == {"${datasource}"}
