import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load as load_safetensors

from budget.policies.artifact import POLICIES, dump, load, read_manifest
from budget.policies.policy import DifficultyPolicy, SplitPolicy, StaticPolicy, StoredPolicy
from budget.policies.tab import AllSubQuestionsPolicy
from budget.policies.types import TurnState
from router_models.artifacts import sealed_file
from router_models.errors import ArtifactRejected
from tests.fakes.artifacts import CREATED_AT, ENCODER, EncoderIdentity, router_artifact
from tests.fakes.policies import policy_artifact, tab_policy

KEY = "waypost-budget-policy"
WHOLE = policy_artifact()
STATE = TurnState(budget_tokens=8000, remaining_tokens=5000, embedding=np.full(4, 0.3, np.float32))
POLICIES_OF_ALL_KINDS: list[StoredPolicy] = [
    StaticPolicy((100, 200), 1),
    SplitPolicy((100, 200), 4, 1.0),
    DifficultyPolicy((100, 200), np.ones(4, np.float32), 5.0, 2.0),
    tab_policy(),
    tab_policy(kind=AllSubQuestionsPolicy),
]


def resealed(arrays=None, **changes) -> bytes:
    """The artefact with other entries or arrays, under a checksum that fits."""
    length = int.from_bytes(WHOLE[:8], "little")
    table = json.loads(json.loads(WHOLE[8 : 8 + length])["__metadata__"][KEY]) | changes
    found = {**load_safetensors(WHOLE), **(arrays or {})}
    table["checksum"] = sealed_file.checksum(table, found)
    return sealed_file.write_safetensors(KEY, table, found)


def rejection(data: bytes, encoder=ENCODER) -> str:
    with pytest.raises(ArtifactRejected) as caught:
        load(data, encoder)
    return str(caught.value)


@pytest.mark.parametrize("policy", POLICIES_OF_ALL_KINDS, ids=lambda policy: policy.kind)
def test_a_policy_proposes_the_same_after_being_stored(policy):
    sealed = load(policy_artifact(policy=policy), ENCODER)
    np.testing.assert_array_equal(sealed.policy.probabilities(STATE), policy.probabilities(STATE))
    assert sealed.manifest.choices == policy.choices


def test_every_kind_can_be_stored():
    assert set(POLICIES) == {policy.kind for policy in POLICIES_OF_ALL_KINDS}


def test_equal_content_gives_equal_bytes_and_an_equal_name():
    assert policy_artifact() == WHOLE
    assert load(WHOLE, ENCODER).version == read_manifest(WHOLE).version


def test_any_other_weight_gives_another_name():
    assert read_manifest(policy_artifact(seed=1)).version != read_manifest(WHOLE).version


def test_a_router_is_no_budget_policy():
    assert "without a budget policy's manifest" in rejection(router_artifact())


@pytest.mark.parametrize("place", [3, 60, len(WHOLE) - 3])
def test_refuses_any_changed_byte(place):
    damaged = bytearray(WHOLE)
    damaged[place] ^= 1
    assert rejection(bytes(damaged))


def test_refuses_another_encoder():
    assert "trained on encoder" in rejection(WHOLE, EncoderIdentity(id="minilm-1"))
    assert "other weights" in rejection(WHOLE, EncoderIdentity(sha256="cd" * 32))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"kind": "oracle"}, "unknown kind of budget policy"),
        ({"features_version": 2}, "features of version 2"),
        ({"features_version": "1"}, "whole number"),
        ({"choices": "256"}, "list of whole numbers"),
        ({"choices": [256.5]}, "list of whole numbers"),
        ({"choices": []}, "ascending"),
        ({"choices": [512, 256]}, "ascending"),
        ({"choices": [0, 256]}, "ascending"),
        ({"choices": [256, 2**31]}, "ascending"),
        ({"choices": [256, 512]}, "'head' has shape"),
        ({"dimension": 5}, "5 dimensions"),
    ],
)
def test_refuses_a_manifest_that_does_not_fit(changes, why):
    assert why in rejection(resealed(**changes))


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({"stray": np.zeros(1)}, "no part of a budget policy"),
        ({"policy/head": np.full((8, 5), np.nan, np.float32)}, "not finite"),
        ({"policy/head": np.full((8, 5), 3e38, np.float32)}, "nobody can use"),
    ],
)
def test_refuses_arrays_that_cannot_serve(arrays, why):
    assert why in rejection(resealed(arrays))


def test_refuses_weights_for_vectors_of_another_length():
    other = dump(
        tab_policy(dimension=6),
        EncoderIdentity(dimension=6),
        created_at=CREATED_AT,
        training={},
        provenance={},
    )
    arrays = load_safetensors(other)
    assert "cannot propose" in rejection(resealed(arrays))


def test_does_not_hand_out_a_policy_that_cannot_serve():
    broken = replace(tab_policy(), head=np.full((8, 5), np.inf, np.float32))
    with pytest.raises(ArtifactRejected, match="not finite"):
        policy_artifact(policy=broken)
