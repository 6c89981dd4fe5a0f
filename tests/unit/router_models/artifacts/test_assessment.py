from datetime import UTC, datetime, timedelta, timezone

import pytest

from router_models.artifacts.assessment import Assessment

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)


def test_is_read_as_it_was_written():
    assessment = Assessment("candidate", "loses 0.1", NOON, {"rows": 120.0})
    assert Assessment.from_json(assessment.to_json()) == assessment


def test_is_written_in_utc():
    paris = NOON.astimezone(timezone(timedelta(hours=1)))
    assert '"2026-11-03T12:00:00+00:00"' in Assessment("activated", "", paris).to_json()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"outcome": "great"}',
        '{"outcome": ["activated"]}',
        '{"outcome": "activated", "assessed_at": "noon"}',
        '{"outcome": "activated", "assessed_at": "2026-11-03T12:00:00", "figures": {"a": "b"}}',
    ],
)
def test_refuses_what_is_no_assessment(text):
    with pytest.raises(ValueError, match=r".*"):
        Assessment.from_json(text)


def test_does_without_figures():
    text = '{"outcome": "activated", "assessed_at": "2026-11-03T12:00:00+00:00"}'
    assert Assessment.from_json(text) == Assessment("activated", "", NOON)
