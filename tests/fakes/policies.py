"""Small real budget policies and their artefacts, for whatever stores, swaps or serves them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np

from budget.policies.artifact import dump
from budget.policies.mdp import CHOICES, FEATURES
from budget.policies.policy import StoredPolicy
from budget.policies.tab import TabPolicy
from router_models.artifacts.sealed_file import EncoderIdentity
from router_models.estimators.arrays import Scaler
from tests.fakes.artifacts import CREATED_AT, ENCODER


def tab_policy(
    seed: int = 0, kind: type[TabPolicy] = TabPolicy, dimension: int = ENCODER.dimension
) -> TabPolicy:
    """Make a policy of random weights."""
    rng = np.random.default_rng(seed)

    def weights(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(np.float32)

    return kind(
        CHOICES,
        Scaler.identity(dimension),
        weights(dimension, 3),
        weights(3),
        weights(kind.blocks * 3 + len(FEATURES), 8),
        weights(8),
        weights(8, len(CHOICES)),
        weights(len(CHOICES)),
    )


def policy_artifact(
    seed: int = 0,
    policy: StoredPolicy | None = None,
    encoder: EncoderIdentity = ENCODER,
    created_at: datetime = CREATED_AT,
    training: Mapping[str, Any] | None = None,
) -> bytes:
    """Dump such a policy; another seed gives another version."""
    return dump(
        policy or tab_policy(seed, dimension=encoder.dimension),
        encoder,
        created_at=created_at,
        training=training or {"seed": seed},
        provenance={"train_problems": 30},
    )
