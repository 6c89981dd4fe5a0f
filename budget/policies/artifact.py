"""Budget policies as sealed files, in the form that routers have."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np

from budget.policies.mdp import FEATURES_VERSION
from budget.policies.policy import DifficultyPolicy, SplitPolicy, StaticPolicy, StoredPolicy
from budget.policies.tab import AllSubQuestionsPolicy, TabPolicy
from budget.policies.types import TurnState
from router_models.artifacts.sealed_file import (
    EncoderIdentity,
    EncoderManifest,
    SealedFile,
    require,
    require_encoder,
)
from router_models.errors import ArtifactRejected
from router_models.estimators.arrays import add_prefix, strip_prefix

FORMAT_VERSION: Final = 1
MAX_TOKENS: Final = 2**31

POLICIES: Final[Mapping[str, type[StoredPolicy]]] = {
    policy.kind: policy
    for policy in (StaticPolicy, SplitPolicy, DifficultyPolicy, TabPolicy, AllSubQuestionsPolicy)
}
"""The kinds that an artefact can hold; nothing else is ever built from a file."""

POLICY_PREFIX: Final = "policy/"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyManifest(EncoderManifest):
    """What a policy was made of.

    Attributes:
        choices: What it can propose, in tokens, ascending.
        features_version: Of `budget.policies.mdp.features`, which it was trained on.
    """

    choices: tuple[int, ...]
    features_version: int


@dataclass(frozen=True, slots=True, eq=False)
class SealedPolicy:
    """A policy as it serves, with what it was made of."""

    manifest: PolicyManifest
    policy: StoredPolicy

    @property
    def version(self) -> str:
        """Name of the artefact."""
        return self.manifest.version


def _parse_choices(table: Mapping[str, Any]) -> dict[str, Any]:
    require_encoder(table)
    choices = table["choices"]
    require(
        isinstance(choices, list) and all(type(choice) is int for choice in choices),
        "choices",
        "a list of whole numbers",
    )
    require(
        len(choices) > 0
        and choices == sorted(set(choices))
        and choices[0] > 0
        and choices[-1] < MAX_TOKENS,
        "choices",
        "ascending and above 0",
    )
    require(type(table["features_version"]) is int, "features_version", "a whole number")
    return {"choices": tuple(choices)}


POLICY_FILE: Final = SealedFile(
    key="waypost-budget-policy",
    noun="budget policy",
    format_version=FORMAT_VERSION,
    manifest=PolicyManifest,
    parse=_parse_choices,
    prefixes=(POLICY_PREFIX,),
)


def dump(
    policy: StoredPolicy,
    encoder: EncoderIdentity,
    *,
    created_at: datetime,
    training: Mapping[str, Any],
    provenance: Mapping[str, int],
    parent: str | None = None,
) -> bytes:
    """Turn a policy into an artefact.

    What this returns is what `load` accepts: it is loaded once before it is handed out.

    Args:
        policy: Of a kind in `POLICIES`.
        encoder: Whose vectors it reads.
        created_at: With a time zone; kept to the second.
        training: Figures of the training run; JSON, finite numbers only.
        provenance: What it was trained on, as counts.
        parent: Version it was trained from.

    Raises:
        ArtifactRejected: The policy cannot be served.
        ValueError: `created_at` has no time zone, or `training` is not JSON.
    """
    manifest = PolicyManifest(
        format_version=FORMAT_VERSION,
        kind=policy.kind,
        encoder_id=encoder.id,
        encoder_sha256=encoder.sha256,
        dimension=encoder.dimension,
        choices=policy.choices,
        features_version=FEATURES_VERSION,
        created_at=created_at,
        training=training,
        provenance=provenance,
        parent=parent,
    )
    arrays = add_prefix(POLICY_PREFIX, policy.to_arrays())
    data = POLICY_FILE.write(manifest, arrays)
    load(data, encoder)
    return data


def read_manifest(data: bytes) -> PolicyManifest:
    """Read the manifest after verifying every byte, without asking for an encoder.

    Raises:
        ArtifactRejected: The bytes are not a whole policy of this format.
    """
    return POLICY_FILE.read(data)[0]


def load(data: bytes, encoder: EncoderIdentity) -> SealedPolicy:
    """Verify an artefact and build its policy.

    Raises:
        ArtifactRejected: The bytes are corrupt, of another format, encoder or set of features, or
            hold a policy that cannot be served; the message says which.
    """
    manifest, arrays = POLICY_FILE.read(data)
    manifest.check_encoder(encoder)
    kind = POLICIES.get(manifest.kind)
    if kind is None:
        known = ", ".join(POLICIES)
        raise ArtifactRejected(f"unknown kind of budget policy {manifest.kind!r}; known: {known}")
    if manifest.features_version != FEATURES_VERSION:
        raise ArtifactRejected(
            f"trained on features of version {manifest.features_version}, but this gateway has "
            f"{FEATURES_VERSION}: train it again"
        )
    # Overflow in hostile arrays shows up as figures that are not finite, which the probe refuses.
    with np.errstate(all="ignore"):
        try:
            policy = kind.from_arrays(manifest.choices, strip_prefix(POLICY_PREFIX, arrays))
            _probe(policy, manifest.dimension)
        except ArtifactRejected as error:
            raise ArtifactRejected(f"the {manifest.kind} policy: {error}") from error
        except (ArithmeticError, IndexError, MemoryError, TypeError, ValueError) as error:
            raise ArtifactRejected(f"the {manifest.kind} policy cannot propose: {error}") from error
    return SealedPolicy(manifest, policy)


def _probe(policy: StoredPolicy, dimension: int) -> None:
    """Ask for proposals in unlike states, so that a policy that cannot propose never serves."""
    embedding = np.full(dimension, 0.5, np.float32)
    plan = np.full((3, dimension), -0.5, np.float32)
    states = (
        TurnState(budget_tokens=1000, remaining_tokens=0, embedding=None),
        TurnState(budget_tokens=1, remaining_tokens=1, embedding=embedding, turn_index=40),
        TurnState(
            budget_tokens=8000,
            remaining_tokens=8000,
            embedding=embedding,
            plan=plan,
            plan_position=1,
        ),
    )
    for state in states:
        probabilities = policy.probabilities(state)
        if probabilities.shape != (len(policy.choices),) or not _is_distribution(probabilities):
            raise ArtifactRejected("it proposes figures that nobody can use")


def _is_distribution(probabilities: Any) -> bool:
    total = float(probabilities.sum())
    return (
        bool(np.isfinite(probabilities).all()) and min(probabilities) >= 0 and 0.99 < total < 1.01
    )
