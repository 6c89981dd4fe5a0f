from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict

from benchmarks.federation_simulation.in_process import InProcessGrid
from federation.exchanges.table import EXCHANGES
from federation.node.client_app import build_client_app
from federation.protocol.protocol import (
    ARRAYS,
    ARTIFACT,
    Instruction,
    from_record,
    read_profile,
    read_refusal,
    read_verdict,
    refusal,
)
from federation.site import SitePolicy
from router_models.artifacts.registry import ModelRegistry
from tests.fakes.artifacts import router_artifact
from tests.fakes.evaluations import MODELS
from tests.fakes.sites import plan_of, site_of

PLAN = plan_of(columns=MODELS)


def ask(site, name, instruction) -> Message:
    content = instruction if isinstance(instruction, RecordDict) else instruction.to_content()
    grid = InProcessGrid({1: build_client_app(site)})
    (reply,) = grid.send_and_receive([Message(content, 1, name)])
    return reply


def test_greets_with_the_sites_profile():
    assert read_profile(ask(site_of(0), "query.hello", Instruction(PLAN))) == site_of(0).profile(
        ModelRegistry()
    )


def test_answers_with_arrays_and_nothing_else():
    reply = ask(site_of(0), "query.rows", Instruction(PLAN, 1))
    assert set(reply.content) == {ARRAYS}
    payload = from_record(reply.content.array_records[ARRAYS])
    assert payload["rows"].tolist() == [80.0]


@pytest.mark.parametrize("name", ["query.hello", "query.rows", "train.guard_centroids"])
def test_takes_no_part_in_a_plan_that_shows_smaller_groups_than_the_site_allows(name):
    reply = ask(site_of(0), name, Instruction(replace(PLAN, least_rows=9), 1))
    assert "no statistics over fewer than 10 rows" in (read_refusal(reply) or "")


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (SitePolicy(needs_noise=True), "noise"),
        (SitePolicy(needs_secure_sum=True), "secure sums"),
    ],
)
def test_takes_no_part_in_a_plan_without_the_protection_that_the_site_needs(policy, reason):
    site = site_of(0, policy=policy)
    for name in ("query.hello", *(exchange.name for exchange in EXCHANGES)):
        assert reason in (read_refusal(ask(site, name, Instruction(PLAN, 1))) or "")


def test_refuses_a_coordinator_of_another_version():
    content = Instruction(PLAN).to_content()
    content.config_records["plan"]["protocol"] = 99
    assert "different protocol versions" in (
        read_refusal(ask(site_of(0), "query.rows", content)) or ""
    )


def test_says_so_where_there_are_too_few_rows():
    reply = ask(site_of(0, n_queries=9), "query.rows", Instruction(PLAN, 1))
    assert read_refusal(reply) == "no model has the 10 rows that the plan asks for"


def test_does_not_send_what_the_coordinator_would_drop():
    site = site_of(0)
    dear = replace(site, train=replace(site.train, cost_usd=site.train.cost_usd * 1e6))
    reply = ask(dear, "query.rows", Instruction(PLAN, 1))
    assert "the mean cost is above dearest_usd, 100 USD" in (read_refusal(reply) or "")


def test_an_instruction_that_lacks_arrays_is_refused_and_not_guessed_at():
    reply = ask(site_of(0), "train.centroids", Instruction(PLAN, 2))
    assert "is missing" in (read_refusal(reply) or "")


def test_hears_why_it_was_refused(caplog):
    reply = ask(site_of(0), "query.refused", refusal("another encoder"))
    assert reply.content == RecordDict()
    assert "the coordinator refused this node: another encoder" in caplog.text


def test_passes_a_router_on_byte_by_byte():
    artifact = router_artifact()
    sent = {ARTIFACT: np.frombuffer(artifact, np.uint8)}
    verdict = read_verdict(ask(site_of(0), "query.publish", Instruction(PLAN, sent=sent)))
    assert verdict.outcome == "candidate"
    assert verdict.version is not None


def test_a_broken_router_is_refused_with_the_reason():
    sent = {ARTIFACT: np.frombuffer(b"not a router", np.uint8)}
    reply = ask(site_of(0), "query.publish", Instruction(PLAN, sent=sent))
    assert "safetensors" in (read_refusal(reply) or "")


def test_answers_no_other_questions():
    app = build_client_app(site_of(0))
    InProcessGrid({})
    with pytest.raises(ValueError, match="No query function"):
        app(Message(RecordDict(), 1, "query.secrets"), Context(1, 1, {}, RecordDict(), {}))
