from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.artifacts.frontier_file import FrontierFile
from gateway.artifacts.store import ArtifactStore
from gateway.commands.frontier import command
from gateway.settings.config import load_settings
from tests.fakes.artifacts import router_artifact
from tests.fakes.organisations import Organisation, encoder, organisations

LATER = datetime(2026, 11, 4, tzinfo=UTC)


@pytest.fixture(scope="module")
def acme() -> Organisation:
    return organisations()[0]


@pytest.fixture
def settings_file(tmp_path: Path, acme: Organisation) -> Path:
    file = tmp_path / "waypost.toml"
    file.write_text(acme.settings_text(tmp_path))
    return file


@pytest.fixture
def store(settings_file: Path, acme: Organisation) -> ArtifactStore:
    """A store with an active router and one that was made later, of this gateway's models."""
    store = ArtifactStore(load_settings(settings_file, {}).artifact_dir)
    first = router_artifact(0, acme.truth.models, encoder())
    store.activate(store.put(first).version)
    store.put(router_artifact(1, acme.truth.models, encoder(), LATER))
    return store


def run(settings_file: Path, *arguments: str) -> Result:
    return CliRunner().invoke(command, ["--config", str(settings_file), *arguments])


def test_measures_both_routers_and_publishes_the_result(settings_file, store, acme):
    acme.fill(load_settings(settings_file, {}), encoder(), seed=0, answers=3)

    result = run(settings_file)

    assert result.exit_code == 0, result.output
    assert f"current: {store.active()}" in result.output
    published = FrontierFile(store.folder).read()
    assert published is not None
    roles = [curve.role for curve in published.curves]
    assert roles[:2] == ["current", "candidate"]
    assert all(curve.points for curve in published.curves)
    assert published.lead is not None
    assert f"best single: {published.lead.model} is" in result.output


def test_intervals_for_every_look_are_wider_and_say_what_they_are(settings_file, store, acme):
    acme.fill(load_settings(settings_file, {}), encoder(), seed=0, answers=3)

    widths = []
    for options, said in (((), "this look alone"), (("--anytime",), "every look together")):
        result = run(settings_file, *options)
        assert said in result.output
        published = FrontierFile(store.folder).read()
        assert published is not None
        quality = published.curves[0].points[0].quality
        widths.append(quality.high - quality.low)

    assert 1.4 * widths[0] < widths[1]


def test_an_option_that_has_no_effect_any_more_says_so(settings_file, store, acme):
    acme.fill(load_settings(settings_file, {}), encoder(), seed=0, answers=3)

    result = run(settings_file, "--seed", "7")

    assert result.exit_code == 0
    assert "--seed has no effect" in result.output


def test_the_packaged_router_is_measured_where_none_was_activated(settings_file, acme):
    acme.fill(load_settings(settings_file, {}), encoder(), seed=0, answers=3)

    result = run(settings_file)

    # It knows none of these models.
    assert result.exit_code == 1
    assert "that these routers know" in result.output


def test_says_what_is_missing_where_nothing_was_graded(settings_file, store):
    result = run(settings_file)

    assert result.exit_code == 1
    assert "routing.exploration" in result.output
    assert FrontierFile(store.folder).read() is None


def test_names_a_candidate_that_is_not_there(settings_file, store):
    result = run(settings_file, "--candidate", "kmeans-20261103-9f86d081884c")

    assert result.exit_code == 1
    assert "is not in" in result.output
