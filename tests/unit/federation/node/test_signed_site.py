"""What a site makes of a published router, where its gateway asks for signatures."""

import pytest

from gateway.artifacts.store import ArtifactStore
from gateway.artifacts.trust import ANYBODY
from tests.fakes.signing import FEDERATION, OPERATOR, key_file, signed, trust_in
from tests.unit.federation.node.test_gateway_site import (  # noqa: F401
    NO_ALIASES,
    bad_artifact,
    engine,
    site_of,
    version_of,
)


@pytest.mark.parametrize(
    ("has_keys", "signs", "serves_a_mixture"),
    [(False, False, True), (True, True, True), (True, False, False)],
    ids=["no keys", "own key", "no own key"],
)
def test_a_mixture_with_a_local_router_serves_only_if_it_can_be_signed(
    site_of,  # noqa: F811
    engine,  # noqa: F811
    tmp_path,
    has_keys,
    signs,
    serves_a_mixture,
):
    key = key_file(tmp_path, OPERATOR) if signs else None
    trust = trust_in(FEDERATION, OPERATOR, signing_key=key) if has_keys else ANYBODY
    site = site_of(engine, own_names=NO_ALIASES, store=ArtifactStore(tmp_path / "mine", trust))
    shared = version_of(bad_artifact())

    verdict = site.receive(bad_artifact(), signed(FEDERATION, shared, bad_artifact()))

    assert verdict.outcome == "activated"
    assert site.store.active() == verdict.version
    assert (verdict.version != shared) == serves_a_mixture
