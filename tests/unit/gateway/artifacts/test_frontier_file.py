import os
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from gateway.artifacts.frontier_file import NAME, FrontierFile
from gateway.telemetry.series import Reading
from router_models.evaluation.frontier import Interval
from router_models.evaluation.logged_frontier import FrontierCurve, FrontierPoint, LoggedFrontier

POINT = FrontierPoint(0.02, Interval(0.7, 0.65, 0.75), Interval(0.001, 0.0009, 0.0011), 321.0)
FRONTIER = LoggedFrontier(
    (FrontierCurve("kmeans-1", "current", (POINT,)),), 1000, 900, datetime(2026, 11, 23, tzinfo=UTC)
)


def scrape(file: FrontierFile) -> str:
    registry = CollectorRegistry()
    registry.register(Reading(file.collect))
    return generate_latest(registry).decode()


def samples(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_publishes_estimate_and_bounds(tmp_path):
    FrontierFile(tmp_path).write(FRONTIER)
    text = scrape(FrontierFile(tmp_path))
    names = 'role="current",version="kmeans-1",willingness_to_pay_usd="0.02"'
    for bound, value in (("estimate", 0.7), ("low", 0.65), ("high", 0.75)):
        wanted = f'waypost_router_frontier_quality{{bound="{bound}",{names}}} {value}'
        assert wanted in text
    assert f"waypost_router_frontier_effective_answers{{{names}}} 321.0" in text
    assert "waypost_router_frontier_measured_timestamp_seconds 1.795392e+09" in text


def test_a_pipe_in_the_place_of_the_frontier_holds_up_no_scrape(tmp_path):
    os.mkfifo(tmp_path / NAME)
    assert samples(scrape(FrontierFile(tmp_path))) == []


def test_publishes_nothing_before_anything_was_measured(tmp_path):
    assert samples(scrape(FrontierFile(tmp_path))) == []


def test_publishes_what_was_measured_anew(tmp_path):
    file = FrontierFile(tmp_path)
    file.write(FRONTIER)
    assert "kmeans-1" in scrape(file)
    (tmp_path / NAME).unlink()
    assert samples(scrape(file)) == []


@pytest.mark.parametrize(
    "content",
    [
        "{",
        '{"curves": []}',
        "[" * 2_000,
        FRONTIER.to_json().replace("0.65", '"much"'),
        FRONTIER.to_json().replace("0.65", "null"),
        FRONTIER.to_json().replace("321.0", "{}"),
        FRONTIER.to_json().replace("900", "Infinity"),
        FRONTIER.to_json().replace("2026-11-23T00:00:00+00:00", "0001-01-01T00:00:00+14:00"),
    ],
    ids=range(8),
)
def test_a_damaged_file_is_said_once_and_publishes_nothing(tmp_path, caplog, content):
    (tmp_path / NAME).write_text(content)
    file = FrontierFile(tmp_path)
    assert samples(scrape(file)) == []
    assert samples(scrape(file)) == []
    assert caplog.text.count("cannot be read") == 1
