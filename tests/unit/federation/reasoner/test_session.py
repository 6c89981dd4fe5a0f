"""Whole sessions: the real client app, learner and session, and a model too small to know much."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from flwr.app import Error, Message

from benchmarks.federation_simulation.in_process import Exchanged, InProcessGrid
from benchmarks.federation_simulation.reasoner import simulate
from benchmarks.federation_simulation.simulation import LONG_AGO, MemoryCheckpoints
from federation.errors import QuorumMissing
from federation.node.client_app import build_client_app
from federation.reasoner.client import NO_PART
from federation.reasoner.messages import ADAPTER, ADAPTERS, ANSWERS, pack, unpack
from federation.reasoner.session import ReasonerSession
from router_models.artifacts import adapter
from router_models.estimators.arrays import strip_prefix
from tests.fakes.reasoners import (
    public_prompts,
    reasoner,
    reasoner_plan,
    reasoner_sites,
)
from tests.fakes.sites import changed, during, silence, site_of, with_extra_record

pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning"),
    pytest.mark.xdist_group("reasoner sessions"),  # tests share sessions in which nothing is bad
]

LAST = 3
"""The node that behaves badly."""


def run(plan=None, sites=None, **options):
    return simulate(
        sites or reasoner_sites(),
        plan or reasoner_plan(),
        public_prompts(),
        reasoner().initial,
        **options,
    )


@cache
def honest():
    return run()


@cache
def one_round():
    return run(reasoner_plan(rounds=1))


def short_plan():
    """Two steps: answers are exchanged once, then adapters."""
    return reasoner_plan({"steps_per_round": 2}, rounds=1)


@cache
def silent(exchange):
    return run(short_plan(), faults={LAST: during(exchange, silence)})


def steps_of(result):
    return [
        step for told in result.progress.figures.values() for own in told.values() for step in own
    ]


def rounds_of(result, exchange):
    return [each for each in result.report.rounds if each.exchange == exchange]


def test_a_session_ends_with_adapters_that_every_site_was_sent():
    result = honest()
    sealed = adapter.load(result.artifact)
    assert {verdict.version for verdict in result.report.verdicts.values()} == {sealed.version}
    assert len(result.report.verdicts) == 3
    assert sealed.manifest.base_sha256 == reasoner().name.sha256
    assert sealed.manifest.provenance == {"sites": 3, "prompts": 2 * 3 * 4 * 3}
    assert "site-" not in str(sealed.manifest)
    moved = [
        name for name, start in reasoner().initial.items() if (result.weights[name] != start).any()
    ]
    assert moved


def test_the_same_plan_gives_the_same_bits():
    assert run().artifact == honest().artifact
    assert run(reasoner_plan(seed=2)).artifact != honest().artifact


def test_sites_learn_from_each_others_right_answers():
    result = honest()
    assert [each.exchange for each in result.report.rounds] == [ANSWERS, ANSWERS, ADAPTERS] * 2
    assert sum(step.answers_swapped for step in steps_of(result)) > 0
    assert all(step.prompts == 3 and step.tokens_generated > 0 for step in steps_of(result))


@pytest.mark.parametrize("change", [{"swap": "none"}, {"public": False}])
def test_nothing_but_adapters_is_exchanged_where_no_answer_is_wanted(change):
    result = run(reasoner_plan(change))
    assert [each.exchange for each in result.report.rounds] == [ADAPTERS, ADAPTERS]
    assert not any(step.answers_swapped for step in steps_of(result))


@pytest.mark.parametrize(
    "change",
    [
        {"swap": "random"},
        {"aggregation": "alternating"},
        {"aggregation": "product"},
        {"foreign_ratio": "truncated"},
        {"foreign_ratio": "luffy"},
        {"proximal_mu": 0.1},
        {"public_every": 1},
    ],
)
def test_every_option_makes_a_difference(change):
    assert run(reasoner_plan(change, rounds=1)).artifact != one_round().artifact


def test_a_site_alone_keeps_its_own_adapters():
    alone = reasoner_plan({"public": False}, quorum=1, rounds=1)
    result = run(alone, reasoner_sites(1))
    assert set(result.progress.figures[1]) == {"site-0"}


def test_the_report_counts_the_bytes_of_both_directions():
    traffic: list[Exchanged] = []
    result = run(traffic=traffic)
    for each in result.report.rounds:
        own = [t for t in traffic if t.instruction.metadata.group_id == str(each.round)]
        assert each.bytes_sent == sum(t.bytes_sent for t in own)
        assert each.bytes_received == sum(t.bytes_received for t in own)
    adapters = sum(array.nbytes for array in reasoner().initial.values())
    assert rounds_of(result, ADAPTERS)[0].bytes_received > 3 * adapters


def fill(name, value):
    """Put a value into the first place of an array of the payload."""

    def change(payload):
        spoilt = payload[name].copy()
        spoilt.flat[0] = value
        return {**payload, name: spoilt}

    return changed(change)


def without_tokens(payload):
    return {name: array for name, array in payload.items() if name != "tokens"}


def overlong(payload):
    endless = replace(unpack(payload)[0][1], tokens=(1,) * 7, log_probabilities=(-1.0,) * 7)
    return pack([(0, endless)])


def many(payload):
    return pack([(0, unpack(payload)[0][1])] * 3)


def failure(instruction, reply):
    return Message(Error(100, "it broke"), reply_to=instruction)


BAD_ANSWERS = {
    "NaN": (fill("log_probabilities", np.nan), "not finite"),
    "a chance above 1": (fill("log_probabilities", 0.5), "outside"),
    "a token that is none": (fill("tokens", 6), "outside 0 to 5"),
    "a prompt that is none": (fill("prompt", 3), "outside 0 to 2"),
    "a wrong length": (
        changed(lambda p: {**p, "tokens": p["tokens"][1:]}),
        "do not match their tokens",
    ),
    "an overlong answer": (changed(overlong), "outside 1 to 6"),
    "too many answers": (changed(many), "more than 2 answers"),
    "a missing array": (changed(without_tokens), "missing or unknown: tokens"),
    "an array too many": (changed(lambda p: {**p, "prompt_text": p["tokens"]}), "prompt_text"),
    "an extra record": (with_extra_record, "other records"),
    "a failure": (failure, "the node failed"),
}


@pytest.mark.parametrize("bad", BAD_ANSWERS)
def test_bad_answers_change_nothing_for_the_others(bad):
    fault, reason = BAD_ANSWERS[bad]
    result = run(short_plan(), faults={LAST: during(ANSWERS, fault)})
    assert result.artifact == silent(ANSWERS).artifact
    (each,) = rounds_of(result, ANSWERS)
    assert each.accepted == ("site-0", "site-1")
    assert reason in each.rejected["site-2"]


def wrong(payload):
    """Answer every prompt with the digit 3 as if that were right."""
    three = replace(unpack(payload)[0][1], tokens=(3, 5), log_probabilities=(-0.1, -0.1))
    return pack([(0, three), (1, three), (2, three)])


def unended(payload):
    """Answer with a right digit that never ends."""
    digit = replace(unpack(payload)[0][1], tokens=(1, 1), log_probabilities=(-0.1, -0.1))
    return pack([(0, digit), (1, digit), (2, digit)])


@pytest.mark.parametrize("lie", [wrong, unended])
def test_answers_that_only_their_sender_calls_right_change_nothing(lie):
    plan = short_plan()
    lied = run(plan, faults={LAST: during(ANSWERS, changed(lie))})
    nothing = run(plan, faults={LAST: during(ANSWERS, changed(lambda _: pack([])))})
    assert not any("site-2" in each.rejected for each in lied.report.rounds)
    assert lied.artifact == nothing.artifact


def scaled(payload):
    moved = {
        ADAPTER + name: start + 100 * (payload[ADAPTER + name] - start)
        for name, start in reasoner().initial.items()
    }
    return {**payload, **moved}


NAME = f"{ADAPTER}base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
BAD_ADAPTERS = {
    "NaN": (fill(NAME, np.nan), "not finite"),
    "hundredfold": (changed(scaled), "times as long as the median one"),
    "a claim beyond all prompts": (fill("prompts_used", 7.0), "outside 0 to 6"),
    "figures that cannot be added up": (fill("figures", 1e308), "outside -1e+09"),
    "another shape": (changed(lambda p: {**p, NAME: p[NAME][:1]}), "has shape"),
    "a missing array": (changed(lambda p: dict(list(p.items())[1:])), "missing or unknown"),
}


@pytest.mark.parametrize("bad", BAD_ADAPTERS)
def test_bad_adapters_change_nothing_for_the_others(bad):
    fault, reason = BAD_ADAPTERS[bad]
    result = run(short_plan(), faults={LAST: during(ADAPTERS, fault)})
    assert result.artifact == silent(ADAPTERS).artifact
    assert reason in rounds_of(result, ADAPTERS)[0].rejected["site-2"]


def test_a_site_that_learned_from_no_prompt_does_not_count():
    plan = short_plan()
    idle = run(plan, faults={LAST: during(ADAPTERS, fill("prompts_used", 0.0))})
    for name, array in silent(ADAPTERS).weights.items():
        np.testing.assert_array_equal(idle.weights[name], array)


def test_no_claim_makes_a_site_count_for_more_than_its_share():
    others = dict.fromkeys((1, 2), during(ADAPTERS, fill("prompts_used", 1.0)))
    claims = [
        run(
            reasoner_plan(rounds=1),
            faults={**others, LAST: during(ADAPTERS, fill("prompts_used", used))},
        )
        for used in (6.0, 12.0)
    ]
    assert claims[0].artifact == claims[1].artifact


class Absent:
    """A node that is away for some phases of a round."""

    def __init__(self, *phases):
        self.phases = set(phases)

    def __call__(self, instruction, reply):
        return None if int(instruction.metadata.group_id) in self.phases else reply


def test_a_round_ends_without_a_site_that_fell_silent_and_it_takes_part_in_the_next():
    result = run(faults={LAST: Absent(2, 3)})
    accepted = {each.round: each.accepted for each in result.report.rounds}
    assert accepted[2] == accepted[3] == ("site-0", "site-1")
    assert accepted[4] == accepted[6] == ("site-0", "site-1", "site-2")


class LeavingGrid(InProcessGrid):
    """Node 3 is killed after its first answer, and is started again with what was on its disk."""

    def send_and_receive(self, messages, *, timeout=None):
        messages = list(messages)
        phase = messages[0].metadata.group_id
        if phase == "2":
            self.away = self.nodes.pop(3)
        if phase == "3":
            self.nodes[3] = self.away
        return super().send_and_receive(messages, timeout=timeout)


def test_a_site_that_missed_a_phase_is_told_to_wait_for_the_next_round():
    nodes = {
        n: build_client_app(site_of(n), None, site) for n, site in enumerate(reasoner_sites(), 1)
    }
    grid = LeavingGrid(nodes)
    result = ReasonerSession(
        grid,
        reasoner_plan(),
        public_prompts(),
        reasoner().initial,
        MemoryCheckpoints(),
        grid.clock,
        grid.sleep,
    ).run(LONG_AGO)
    third = result.report.rounds[2]
    assert third.accepted == ("site-0", "site-1")
    assert all("started without this site" in reason for reason in third.rejected.values())
    assert result.report.rounds[3].accepted == ("site-0", "site-1", "site-2")


@pytest.mark.parametrize("phase", [1, 2, 3, 4])
def test_a_coordinator_that_was_killed_goes_on_at_the_phase(phase):
    checkpoints, sites = MemoryCheckpoints(), reasoner_sites()
    everybody = dict.fromkeys((1, 2, 3), Absent(phase))
    with pytest.raises(QuorumMissing):
        run(sites=sites, faults=everybody, checkpoints=checkpoints)
    resumed = run(sites=sites, checkpoints=checkpoints)
    assert [each.round for each in resumed.report.rounds] == list(range(phase, 7))
    assert resumed.artifact == honest().artifact
    assert checkpoints.load() is None


@pytest.mark.parametrize("stale", [b"damaged", "another plan"])
def test_begins_anew_where_a_checkpoint_cannot_be_used(stale, caplog):
    checkpoints = MemoryCheckpoints(stale if isinstance(stale, bytes) else None)
    if stale == "another plan":
        with pytest.raises(QuorumMissing):
            run(
                reasoner_plan(seed=5),
                faults=dict.fromkeys((1, 2, 3), Absent(2)),
                checkpoints=checkpoints,
            )
    assert run(checkpoints=checkpoints).artifact == honest().artifact
    assert "the tuning starts over" in caplog.text


def test_a_session_without_a_quorum_fails_and_says_why():
    faults = {2: during(ANSWERS, failure), 3: during(ANSWERS, silence)}
    with pytest.raises(
        QuorumMissing, match="1 sites gave accepted answers, the quorum is 2; site-1: the no"
    ):
        run(faults=faults)


def test_sites_with_another_model_are_refused_and_the_others_go_on():
    sites = reasoner_sites(4)
    sites[2] = replace(sites[2], base=replace(sites[2].base, sha256="ab" * 32))
    sites[3] = replace(sites[3], base=replace(sites[3].base, tokenizer_sha256="ab" * 32))
    result = run(sites=sites)
    assert set(result.report.members) == {"site-0", "site-1"}
    assert "weights of tiny differ (abababababab" in result.report.refused["3"]
    assert "tokenizer of tiny differs" in result.report.refused["4"]


def test_a_node_that_only_routes_refuses_politely():
    nodes = {
        n: build_client_app(site_of(n), None, site) for n, site in enumerate(reasoner_sites(), 1)
    }
    grid = InProcessGrid({**nodes, 4: build_client_app(site_of(4))})
    result = ReasonerSession(
        grid,
        reasoner_plan(),
        public_prompts(),
        reasoner().initial,
        MemoryCheckpoints(),
        grid.clock,
        grid.sleep,
    ).run(LONG_AGO)
    assert result.report.refused == {"4": f"the site refused: {NO_PART}"}
    assert set(result.report.members) == {"site-0", "site-1", "site-2"}


def test_public_steps_need_public_prompts():
    with pytest.raises(ValueError, match="public_prompts: required"):
        simulate(reasoner_sites(), reasoner_plan(), [], reasoner().initial)


def test_adapters_are_the_mean_of_the_sites_weighed_by_what_taught_them():
    traffic: list[Any] = []
    plan = reasoner_plan({"public": False}, rounds=1, largest_share=1.0)
    result = run(plan, traffic=traffic)
    payloads = [
        {name: array.numpy() for name, array in t.reply.content.array_records["arrays"].items()}
        for t in traffic
        if t.instruction.metadata.message_type == ADAPTERS
    ]
    used = np.array([payload["prompts_used"][0] for payload in payloads])
    for name, array in result.weights.items():
        stacked = np.stack([strip_prefix(ADAPTER, payload)[name] for payload in payloads])
        mean = np.tensordot(used / used.sum(), stacked.astype(np.float64), axes=1)
        np.testing.assert_allclose(array, mean, rtol=1e-6, atol=1e-9)
