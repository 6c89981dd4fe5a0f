"""Bad replies, in sessions of four sites: dropped with a reason, and nothing else changes."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, RecordDict

from benchmarks.federation_simulation.simulation import simulate
from federation.coordinator.fleet import problem_of
from federation.coordinator.nodes import NO_ANSWER
from federation.errors import QuorumMissing
from federation.protocol.protocol import ANSWER, ARRAYS
from federation.site import SitePolicy
from router_models.artifacts.registry import ModelRegistry
from tests.fakes.sites import (
    ENCODER,
    changed,
    during,
    plan_of,
    silence,
    site_of,
    sites_of,
    with_extra_record,
)

pytestmark = pytest.mark.xdist_group("fleet")  # tests share the sessions of a silent site
LAST = 4
"""The node that behaves badly."""


def rounds_of(result, exchange):
    return [r for r in result.report.rounds if r.exchange == exchange]


def scaled(payload, factor, names=None):
    return {
        n: a * a.dtype.type(factor if n in (names or payload) else 1) for n, a in payload.items()
    }


def add_nan(payload):
    name, array = next((n, a) for n, a in payload.items() if a.size)
    spoilt = array.copy()
    spoilt.flat[0] = np.nan
    return {**payload, name: spoilt}


def hundredfold_weights(payload):
    return scaled(payload, 100.0, {n for n in payload if n.startswith(("trunk", "head"))})


def without_first(payload):
    return dict(list(payload.items())[1:])


def with_another(payload):
    return {**payload, "rows_per_day": np.zeros(1)}


def with_words(payload):
    return {name: array.astype(np.float16) for name, array in payload.items()}


def failure(instruction, reply):
    return Message(Error(100, "it broke"), reply_to=instruction)


def nothing(instruction, reply):
    return Message(RecordDict(), reply_to=instruction)


def not_numpy(instruction, reply):
    arrays = reply.content.array_records[ARRAYS]
    for array in arrays.values():
        array.data = b"PK\x03\x04 not what it says"
    return reply


def longer_claim(payload):
    return scaled(payload, 1000.0)


FAULTS = {
    "NaN": (changed(add_nan), "not finite"),
    "hundredfold": (changed(lambda p: scaled(p, 100.0)), ""),
    "a missing array": (changed(without_first), "missing or unknown"),
    "an array too many": (changed(with_another), "missing or unknown: rows_per_day"),
    "another type": (changed(with_words), "type float16"),
    "an extra record": (with_extra_record, "other records"),
    "no record": (nothing, "other records"),
    "bytes of another format": (not_numpy, "no array in NumPy's format"),
    "a failure": (failure, "the node failed"),
}


def session_with(kind, exchange, fault):
    return simulate(sites_of(), plan_of(kind), faults={LAST: during(exchange, fault)})


@cache
def session_of_a_silent_site(kind, exchange):
    return session_with(kind, exchange, silence)


def assert_as_if_silent(kind, exchange, fault, reason):
    spoilt = session_with(kind, exchange, fault)
    assert spoilt.artifact == session_of_a_silent_site(kind, exchange).artifact
    reports = rounds_of(spoilt, exchange)
    assert {report.accepted for report in reports} == {("site-0", "site-1", "site-2")}
    assert all(reason in report.rejected["site-3"] for report in reports)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_reply_changes_nothing_and_is_reported(fault):
    assert_as_if_silent("kmeans", "train.cells", *FAULTS[fault])


@pytest.mark.parametrize("fault", ["NaN", "hundredfold"])
@pytest.mark.parametrize(
    ("kind", "exchange"),
    [
        ("kmeans", "query.rows"),
        ("kmeans", "train.centroids"),
        ("mlp", "train.weights"),
        ("ridge", "train.gram"),
        ("kmeans", "train.guard_centroids"),
        ("kmeans", "query.guard_reach"),
        ("kmeans", "query.guard_distances"),
    ],
)
def test_no_exchange_counts_numbers_that_cannot_be(kind, exchange, fault):
    assert_as_if_silent(kind, exchange, *FAULTS[fault])


def test_a_hundredfold_update_is_measured_against_the_others():
    fault = {LAST: during("train.weights", changed(hundredfold_weights))}
    for report in rounds_of(simulate(sites_of(), plan_of("mlp"), faults=fault), "train.weights"):
        assert "times as long as the median one" in report.rejected["site-3"]


def test_one_site_of_two_cannot_move_the_other_by_a_hundredfold_update():
    fault = {2: during("train.weights", changed(hundredfold_weights))}
    result = simulate(sites_of(2), plan_of("mlp", quorum=1), faults=fault)
    assert rounds_of(result, "train.weights")[0].accepted == ("site-0",)


def test_a_site_is_held_to_the_rows_that_it_said_it_has():
    fault = {LAST: during("train.cells", changed(longer_claim))}
    (report,) = rounds_of(simulate(sites_of(), plan_of(), faults=fault), "train.cells")
    assert "announced about 128" in report.rejected["site-3"]


def test_a_round_ends_without_a_node_that_stays_silent():
    faults = {LAST: during("train.cells", silence)}
    (report,) = rounds_of(simulate(sites_of(), plan_of(timeout_s=90), faults=faults), "train.cells")
    assert report.silent == ("site-3",)
    assert 90 <= report.duration_s < 95


def test_a_session_without_a_quorum_fails_and_says_why():
    faults = {
        2: during("train.cells", changed(add_nan)),
        3: during("train.cells", silence),
        4: during("train.cells", failure),
    }
    with pytest.raises(QuorumMissing) as error:
        simulate(sites_of(), plan_of(), faults=faults)
    assert "1 sites gave accepted answers, the quorum is 2" in str(error.value)
    assert "holds values that are not finite" in str(error.value)
    assert f"site-2: {NO_ANSWER}" in str(error.value)
    assert "site-3: the node failed" in str(error.value)


def test_validation_that_nobody_answers_stops_nothing():
    faults = dict.fromkeys(range(1, 5), during("evaluate.loss", silence))
    result = simulate(sites_of(), plan_of("mlp"), faults=faults)
    assert result.progress.losses == {}
    assert result.progress.final_state() == result.progress.state


def test_a_false_loss_of_one_site_of_many_does_not_choose_the_round():
    faults = {LAST: during("evaluate.loss", changed(lambda p: {**p, "loss": p["loss"] * 0}))}
    result = simulate(sites_of(), plan_of("mlp", rule="median"), faults=faults)
    honest = simulate(sites_of(), plan_of("mlp", rule="median"))
    assert all(loss > 0.1 for loss in result.progress.losses.values())
    assert result.progress.best_round == honest.progress.best_round


def lost(instruction, reply):
    message = Message(Error(4, "unavailable"), reply_to=instruction)
    message.metadata.__dict__["_src_node_id"] = 1_000_000
    return message


@pytest.mark.parametrize("name", ["query.hello", "train.cells", "query.publish"])
def test_a_message_that_flower_lost_is_as_good_as_no_answer(name):
    result = simulate(sites_of(), plan_of(), faults={LAST: during(name, lost)})
    silent = simulate(sites_of(), plan_of(), faults={LAST: during(name, silence)})
    assert result.artifact == silent.artifact
    assert result.report.refused == {}
    assert result.report.verdicts == silent.report.verdicts


def test_two_nodes_cannot_take_one_name():
    twin = replace(site_of(1), name="site-0")
    result = simulate([*sites_of(3), twin], plan_of())
    assert "'site-0' is taken by another node" in result.report.refused["4"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"encoder_id": "mpnet-1"}, "encoder mpnet-1 (12 dimensions), this federation uses static"),
        ({"dimension": 13}, "(13 dimensions)"),
        ({"encoder_sha256": "cd" * 32}, "differ (cdcdcdcdcdcd, not abababababab)"),
        ({"schema_version": 2}, "have schema version 2, this coordinator reads 1"),
        (
            {"models": ("cheap", "mystery")},
            "models mystery are not in federation.coordinator.models",
        ),
        ({"models": ("house-cheap",)}, "names of models: house-cheap"),
    ],
)
def test_says_why_a_site_cannot_take_part(change, reason):
    registry = ModelRegistry({"cheap": ["house-cheap"]})
    plan = plan_of(models=("cheap", "coder"), registry=registry)
    profile = replace(site_of(0).profile(ModelRegistry()), models=("cheap", "coder"))
    assert problem_of(profile, plan) is None
    problem = problem_of(replace(profile, **change), plan)
    assert reason in (problem or "")


def test_a_refused_node_is_told_and_the_others_go_on(caplog):
    foreign = replace(site_of(3), encoder=replace(ENCODER, id="mpnet-1"))
    result = simulate([*sites_of(3), foreign], plan_of())
    assert set(result.report.members) == {"site-0", "site-1", "site-2"}
    assert "encoder mpnet-1" in result.report.refused["4"]
    assert (
        "the coordinator refused this node: its rows hold vectors of encoder mpnet-1" in caplog.text
    )


def test_a_site_may_refuse_the_plan_and_the_others_go_on():
    wary = site_of(3, policy=SitePolicy(least_rows=50))
    result = simulate([*sites_of(3), wary], plan_of())
    assert set(result.report.members) == {"site-0", "site-1", "site-2"}
    assert "the site refused: this site sends no statistics over" in result.report.refused["4"]


def test_garbage_instead_of_a_profile_is_refused():
    def garble(instruction, reply):
        return Message(RecordDict({ANSWER: ConfigRecord({"json": "[1"})}), reply_to=instruction)

    result = simulate(sites_of(), plan_of(), faults={LAST: during("query.hello", garble)})
    assert result.report.refused == {"4": "the answer is not JSON"}


def test_a_node_that_does_not_answer_the_greeting_is_greeted_again():
    deaf = iter([True, False])

    def once(instruction, reply):
        return None if next(deaf) else reply

    result = simulate(sites_of(), plan_of(), faults={LAST: during("query.hello", once)})
    assert "site-3" in rounds_of(result, "query.rows")[0].accepted


def test_notes_every_sites_verdict_and_who_gave_none():
    def garble(instruction, reply):
        return Message(RecordDict({ARRAYS: ArrayRecord()}), reply_to=instruction)

    faults = {3: during("query.publish", silence), 4: during("query.publish", garble)}
    report = simulate(sites_of(), plan_of(), faults=faults).report
    assert {name: verdict.outcome for name, verdict in report.verdicts.items()} == {
        "site-0": "candidate",
        "site-1": "candidate",
    }
    assert report.unanswered["site-2"] == NO_ANSWER
    assert "not the 'answer' record" in report.unanswered["site-3"]
