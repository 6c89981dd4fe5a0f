import pytest

from gateway.artifacts.frontier_file import prices_of
from gateway.artifacts.store import ArtifactStore
from gateway.federation.site import open_site
from gateway.federation.team_rows import TeamsRows
from gateway.settings.config import ConfigurationError, GatewaySettings
from gateway.storage.database import create_database_engine
from router_models.artifacts.registry import ModelRegistry

ENGINE = create_database_engine("sqlite://")


def settings(tmp_path, **node) -> GatewaySettings:
    table = {"data_dir": tmp_path, "federation": {"node": {"name": "acme"} | node}}
    return GatewaySettings.model_validate(table)


def test_a_node_reads_and_judges_as_its_settings_say(tmp_path):
    table = {"models": {"org/m": ["m"]}, "teams": ["blue"], "least_rows": 20, "tolerance": 0.1}
    table["private_models"] = ["own-tune"]
    site = open_site(settings(tmp_path, most_rows=500, **table), ENGINE)
    assert isinstance(site.log, TeamsRows)
    assert (site.name, site.most_rows, site.log.team_ids) == ("acme", 500, ("blue",))
    assert site.own_names == ModelRegistry({"org/m": ["m"]})
    assert site.private_models == {"own-tune"}
    assert (site.policy.least_rows, site.criteria.tolerance) == (20, 0.1)
    assert isinstance(site.store, ArtifactStore)
    assert site.store.folder == tmp_path / "routers"


def test_all_teams_take_part_by_default(tmp_path):
    log = open_site(settings(tmp_path), ENGINE).log
    assert isinstance(log, TeamsRows)
    assert log.team_ids is None


def test_the_packaged_router_is_what_a_first_one_is_compared_with(tmp_path):
    site = open_site(settings(tmp_path), ENGINE)
    assert site.default_artifact is not None
    assert site.encoder.id.encode() in site.default_artifact


def test_its_time_has_a_zone(tmp_path):
    assert open_site(settings(tmp_path), ENGINE).clock().tzinfo is not None


@pytest.mark.parametrize(
    ("node", "problem"),
    [
        ({"name": None}, "federation.node.name"),
        ({"models": {"a": ["x"], "b": ["x"]}}, "federation.node.models: 'x' is an alias of both"),
    ],
)
def test_settings_that_cannot_be_meant_stop_the_node(tmp_path, node, problem):
    with pytest.raises(ConfigurationError, match=problem):
        open_site(settings(tmp_path, **node), ENGINE)


def test_routers_are_compared_where_callers_use_them(tmp_path):
    profiles = {"economy": {"willingness_to_pay_usd": 0.01}}
    table = {"data_dir": tmp_path, "profiles": profiles}
    prices = prices_of(GatewaySettings.model_validate(table))
    assert (prices[0], prices[-1]) == (pytest.approx(1.0), pytest.approx(100.0))
    assert (prices[1:] > prices[:-1]).all()
