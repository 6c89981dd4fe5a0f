"""A prior as a sealed file, and the router that it makes of any pool of models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, NamedTuple

import numpy as np

from router_models.artifacts.registry import ModelRegistry
from router_models.artifacts.router import Router, RouterManifest
from router_models.artifacts.sealed_file import (
    EncoderIdentity,
    SealedFile,
    require,
    require_encoder,
)
from router_models.day_one.abilities import AbilityPrior
from router_models.day_one.belief import Float64
from router_models.errors import ArtifactRejected
from router_models.estimators.arrays import add_prefix, read_array, strip_prefix
from router_models.estimators.factors import PROFILE, FactorsEstimator, QueryProfile
from router_models.types import COMPLETION_MTOK, Arrays, Float32

KIND: Final = "prior"
PREFIX: Final = "prior/"


class PoolModel(NamedTuple):
    """A model of a pool, as a prior sees it.

    Attributes:
        name: What the router shall call it.
        known_as: Names by which the prior may know it, the likeliest first.
        price: USD per million prompt and completion tokens.
    """

    name: str
    known_as: tuple[str, ...]
    price: tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class ShippedPrior:
    """What a gateway expects of models before any of them answered it.

    Attributes:
        manifest: Of the file; its models are the known ones.
        profile: What known models make of a query.
        prompt_head: Log of prompt tokens, as `FactorsEstimator` has it.
        token_factors: Of each known model by cluster, as `FactorsEstimator.length_factors`.
        known_variance: Of a known model's numbers: other queries and other graders may see it
            otherwise. Shape ``(width,)``.
        new_variance: Of an unknown model's numbers; same shape.
        new_length: Constant, slope and factor of an unknown model's tokens.
        abilities: How able an unknown model is by price and family.
    """

    manifest: RouterManifest
    profile: QueryProfile
    prompt_head: Float32
    token_factors: Float32
    known_variance: Float64
    new_variance: Float64
    new_length: Float64
    abilities: AbilityPrior

    @property
    def registry(self) -> ModelRegistry:
        """What other names the known models go by."""
        return ModelRegistry(self.manifest.registry)

    def router(self, pool: Sequence[PoolModel]) -> Router:
        """Predict these models: known ones by their answers elsewhere, others by price and family.

        The router bears the prior's version: equal names hold equal priors, whatever the pool.
        """
        count = len(pool)
        base = np.array([self._column(model) for model in pool], np.int64)
        mean = np.zeros((count, self.profile.width), np.float32)
        length = np.tile(np.array([0.0, 1.0], np.float32), (count, 1))
        factors = np.ones((count, len(self.profile.centroids)), np.float32)
        covariances = [np.diag(self.known_variance)]
        covariance_of = np.zeros(count, np.int64)
        for place, (model, column) in enumerate(zip(pool, base.tolist(), strict=True)):
            if column >= 0:
                factors[place] = self.token_factors[column]
                continue
            ability, share = self.abilities.predict(model.known_as[0], max(model.price))
            variance = self.new_variance.copy()
            mean[place, 0], variance[0] = ability, variance[0] * share
            length[place], factors[place] = self.new_length[:2], self.new_length[2]
            covariance_of[place] = len(covariances)
            covariances.append(np.diag(variance))
        estimator = FactorsEstimator(
            models=tuple(model.name for model in pool),
            profile=self.profile,
            base=base,
            mean=mean,
            covariances=np.array(covariances, np.float32),
            covariance_of=covariance_of,
            length=length,
            length_factors=factors,
            # So cost counts completion tokens: whoever serves knows the prompt and today's prices.
            price=np.array([(0.0, 1.0)] * count, np.float32),
            prompt_head=self.prompt_head,
        )
        manifest = replace(
            self.manifest, models=estimator.models, registry={}, unit=COMPLETION_MTOK
        )
        return Router(manifest, estimator, None)

    def knows(self, model: PoolModel) -> bool:
        """Say whether it has answers of this model."""
        return self._column(model) >= 0

    def _column(self, model: PoolModel) -> int:
        """Where a model stands among the known ones; -1 where it is unknown."""
        for name in model.known_as:
            canonical = self.registry.canonical(name)
            if canonical in self.manifest.models:
                return self.manifest.models.index(canonical)
        return -1

    def to_arrays(self) -> dict[str, Any]:
        """Everything but the manifest, as named arrays."""
        return {
            **add_prefix(PROFILE, self.profile.to_arrays()),
            "prompt_head": self.prompt_head,
            "token_factors": self.token_factors,
            "variance": np.stack([self.known_variance, self.new_variance]).astype(np.float32),
            "new_length": self.new_length.astype(np.float32),
            "log_price": self.abilities.log_price.astype(np.float32),
            "ability": self.abilities.ability.astype(np.float32),
            "shares": np.array(self.abilities.shares),
        }


def _parse(table: Mapping[str, Any]) -> dict[str, Any]:
    require_encoder(table)
    require(table["kind"] == KIND, "kind", KIND)
    require(isinstance(table["models"], list), "models", "a list of names")
    return {"models": tuple(table["models"])}


PRIOR_FILE: Final = SealedFile(
    key="waypost-prior",
    noun="prior",
    format_version=1,
    manifest=RouterManifest,
    parse=_parse,
    prefixes=(PREFIX,),
)


def dump_prior(
    prior: ShippedPrior, encoder: EncoderIdentity, created_at: datetime, registry: ModelRegistry
) -> bytes:
    """Seal a prior; its manifest is made here, of the models that `prior.manifest` names."""
    manifest = RouterManifest(
        format_version=1,
        kind=KIND,
        created_at=created_at,
        training=prior.manifest.training,
        provenance=prior.manifest.provenance,
        parent=None,
        encoder_id=encoder.id,
        encoder_sha256=encoder.sha256,
        dimension=encoder.dimension,
        models=prior.manifest.models,
        has_guard=False,
        registry=registry.restricted_to(prior.manifest.models).to_mapping(),
    )
    return PRIOR_FILE.write(manifest, add_prefix(PREFIX, prior.to_arrays()))


def load_prior(data: bytes, encoder: EncoderIdentity) -> ShippedPrior:
    """Verify a file that `dump_prior` wrote.

    Raises:
        ArtifactRejected: It is damaged, or made for another encoder.
    """
    manifest, arrays = PRIOR_FILE.read(data)
    manifest.check_encoder(encoder)
    return _build(manifest, strip_prefix(PREFIX, arrays))


def _build(manifest: RouterManifest, arrays: Arrays) -> ShippedPrior:
    profile = QueryProfile.from_arrays(strip_prefix(PROFILE, arrays))
    n_known = profile.quality_heads.shape[1]
    if n_known != len(manifest.models):
        raise ArtifactRejected(f"{len(manifest.models)} known models, and heads of {n_known}")
    known, new = read_array(arrays, "variance", (2, profile.width)).astype(np.float64)
    shares = read_array(arrays, "shares", (2,)).tolist()
    return ShippedPrior(
        manifest,
        profile,
        read_array(arrays, "prompt_head", (len(profile.scaler.shift) + 1,)),
        read_array(arrays, "token_factors", (n_known, len(profile.centroids))),
        known,
        new,
        read_array(arrays, "new_length", (3,)).astype(np.float64),
        AbilityPrior(
            read_array(arrays, "log_price", (n_known,)).astype(np.float64),
            manifest.models,
            read_array(arrays, "ability", (n_known,)).astype(np.float64),
            (shares[0], shares[1]),
        ),
    )
