import json
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict

from federation.errors import PlanRefused, ReplyRejected
from federation.protocol.protocol import (
    ANSWER,
    ARRAYS,
    MAX_TEXT,
    PLAN,
    Instruction,
    TrainingPlan,
    answer,
    read_profile,
    read_refusal,
    read_verdict,
    refusal,
)
from federation.site import Verdict
from router_models.artifacts.registry import ModelRegistry
from tests.fakes.sites import SETTINGS, plan_of, site_of

PROFILE = site_of(0).profile(ModelRegistry())
VERDICT = Verdict("activated", "kmeans-20260101-0123456789ab", "it is better", {"gain": 0.25})


@pytest.fixture
def instruction(grid) -> Message:
    return Message(RecordDict(), 7, "query.hello")


def replying(instruction, content) -> Message:
    return Message(content, reply_to=instruction)


def saying(instruction, value) -> Message:
    return replying(instruction, RecordDict({ANSWER: ConfigRecord({"json": json.dumps(value)})}))


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_plan_survives_its_journey(kind):
    registry = ModelRegistry({"cheap": ["house-cheap"]})
    plan = plan_of(kind, registry=registry, models=("cheap",), columns=("cheap",), seed=9)
    assert TrainingPlan.from_json(plan.to_json()) == plan


def test_the_same_plan_is_the_same_text():
    assert plan_of().to_json() == plan_of().to_json()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kind": "knn"}, "not those of kind 'knn'"),
        ({"kind": "mlp"}, "not those of kind 'mlp'"),
        ({"rule": "loudest"}, "unknown rule 'loudest'; known rules: mean, median, trimmed_mean"),
        ({"quorum": 0}, "quorum"),
        ({"validate_every": 0}, "validate_every"),
        ({"least_rows": 0}, "least_rows"),
        ({"timeout_s": 0.0}, "timeout_s"),
        ({"greeting_s": -1.0}, "greeting_s"),
        ({"dearest_usd": 0.0}, "dearest_usd"),
        ({"largest_share": 0.0}, "largest_share"),
        ({"largest_share": 1.5}, "largest_share"),
        ({"longest_update": 1.0}, "longest_update"),
    ],
)
def test_no_plan_says_what_nobody_can_follow(change, reason):
    with pytest.raises(ValueError, match=reason):
        replace(plan_of(), **change)


@pytest.mark.parametrize("name", ["centroids", "guard.centroids"])
def test_more_centroids_than_a_node_can_work_off_are_refused(name):
    sent = {name: np.zeros((8_000, 4), np.float32)}
    content = Instruction(plan_of("kmeans"), 1, sent).to_content()
    with pytest.raises(PlanRefused, match=f"8000 {name} are more than 1024"):
        Instruction.from_content(content)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        plan_of().to_json().replace('"quorum"', '"quorums"'),
        plan_of().to_json().replace('"kmeans"', '"psychic"'),
        plan_of().to_json().replace('"least_rows": 10', '"least_rows": 0'),
    ],
)
def test_a_plan_of_another_version_is_refused_and_not_guessed_at(text):
    with pytest.raises(PlanRefused, match="cannot read the coordinator's plan"):
        TrainingPlan.from_json(text)


def test_an_instruction_survives_its_journey():
    sent = {"weights.a": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array([3])}
    found = Instruction.from_content(Instruction(plan_of(), 4, sent).to_content())
    assert (found.plan, found.round) == (plan_of(), 4)
    assert found.sent.keys() == sent.keys()
    np.testing.assert_array_equal(found.sent["weights.a"], sent["weights.a"])


def test_a_coordinator_of_another_version_is_refused():
    content = Instruction(plan_of()).to_content()
    content.config_records[PLAN]["protocol"] = 2
    with pytest.raises(PlanRefused, match="different protocol versions"):
        Instruction.from_content(content)


def test_an_instruction_that_is_laid_out_otherwise_is_refused():
    content = Instruction(plan_of()).to_content()
    content.config_records[PLAN]["round"] = "first"
    with pytest.raises(PlanRefused, match="has an unexpected form"):
        Instruction.from_content(content)


def test_rounds_and_plans_have_seeds_of_their_own():
    seeds = {Instruction(plan_of(seed=s), r).seed for s in range(5) for r in range(5)}
    assert len(seeds) == 25
    assert Instruction(plan_of(seed=1), 2).seed == Instruction(plan_of(seed=1), 2).seed


def test_a_profile_and_a_verdict_survive_their_journey(instruction):
    assert read_profile(replying(instruction, answer(PROFILE))) == PROFILE
    assert read_verdict(replying(instruction, answer(VERDICT))) == VERDICT


def table_of(profile):
    return json.loads(str(answer(profile).config_records[ANSWER]["json"]))


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        {**table_of(PROFILE), "shoe_size": 44},
        {**table_of(PROFILE), "name": ""},
        {**table_of(PROFILE), "models": [1]},
        {**table_of(PROFILE), "models": 3},
        {**table_of(PROFILE), "rows": -1},
        {**table_of(PROFILE), "rows": True},
        {**table_of(PROFILE), "dimension": 1.5},
    ],
)
def test_what_is_no_profile_is_rejected(instruction, value):
    with pytest.raises(ReplyRejected):
        read_profile(saying(instruction, value))


@pytest.mark.parametrize(
    "change",
    [
        {"outcome": "adored"},
        {"figures": 3},
        {"figures": {"gain": "much"}},
        {"figures": {"gain": None}},
        {"mood": "good"},
    ],
)
def test_what_is_no_verdict_is_rejected(instruction, change):
    with pytest.raises(ReplyRejected):
        read_verdict(saying(instruction, {**table_of(VERDICT), **change}))


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({ARRAYS: ConfigRecord({"json": "{}"})}),
        RecordDict({ANSWER: ConfigRecord({"json": b"{}"})}),
        RecordDict({ANSWER: ConfigRecord({"json": "{}"}), "more": ConfigRecord()}),
        RecordDict({ANSWER: ConfigRecord({"json": '"' + "x" * MAX_TEXT + '"'})}),
        RecordDict({ANSWER: ConfigRecord({"json": "[" * 50_000})}),
    ],
)
def test_what_is_no_answer_is_rejected(instruction, content):
    with pytest.raises(ReplyRejected):
        read_profile(replying(instruction, content))


def test_a_failed_node_has_no_profile(instruction):
    with pytest.raises(ReplyRejected, match="the node failed"):
        read_profile(Message(Error(100, "secret details"), reply_to=instruction))


def test_a_refusal_says_why_in_one_short_line(instruction):
    message = replying(instruction, refusal("no\nroom " + "x" * 1000))
    reason = read_refusal(message)
    assert reason is not None
    assert reason.startswith("no room x")
    assert len(reason) == 500


def test_other_messages_refuse_nothing(instruction):
    assert read_refusal(replying(instruction, answer(PROFILE))) is None
    assert read_refusal(Message(Error(100), reply_to=instruction)) is None


def test_changing_a_plan_checks_it_again():
    with pytest.raises(ValueError, match="quorum"):
        replace(plan_of(), quorum=0)
