"""A prior as a sealed file, and the router that it makes of any pool of models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
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
from router_models.day_one.answers import Answers, Learned
from router_models.day_one.belief import Belief, Float64, Items
from router_models.day_one.floor import with_floor
from router_models.day_one.items import ItemModel
from router_models.day_one.lengths import LengthPrior, token_factors
from router_models.errors import ArtifactRejected
from router_models.estimators.arrays import add_prefix, read_array, strip_prefix
from router_models.estimators.factors import PROFILE, FactorsEstimator, QueryProfile
from router_models.types import COMPLETION_MTOK, Arrays, Float32

KIND: Final = "prior"
PREFIX: Final = "prior/"

LEAST_VARIANCE: Final = 1e-6
"""Of a number that is believed to be exact, so that a covariance has an inverse."""


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
        items: How far prompts differ from what their text says.
        lengths: What an unknown model may write.
        abilities: How able an unknown model is by price and family.
    """

    manifest: RouterManifest
    profile: QueryProfile
    prompt_head: Float32
    token_factors: Float32
    known_variance: Float64
    new_variance: Float64
    items: ItemModel
    lengths: LengthPrior
    abilities: AbilityPrior
    version: str = field(init=False)
    """Name of the file; kept, since every turn reads it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "version", self.manifest.version)

    @property
    def registry(self) -> ModelRegistry:
        """What other names the known models go by."""
        return ModelRegistry(self.manifest.registry)

    @property
    def residual(self) -> float:
        """How little profiles transfer to a model that is left out; see `choice.transfers`."""
        return float(self.manifest.training["residual"])

    def is_kept_as(self, router: Router) -> bool:
        """Say whether an artefact is this prior, as it was when another router took its place."""
        return router.manifest.parent == self.version

    def router(
        self, pool: Sequence[PoolModel], learned: Mapping[str, Learned] = MappingProxyType({})
    ) -> Router:
        """Predict these models: known ones by their answers elsewhere, others by price and family.

        The router bears the prior's version: equal names hold equal priors, whatever the pool.

        Args:
            learned: What is known of models from answers here, by the names that `pool` has.
        """
        count = len(pool)
        base = np.array([self._column(model) for model in pool], np.int64)
        mean = np.zeros((count, self.profile.width), np.float32)
        length = np.zeros((count, 2), np.float32)
        factors = np.ones((count, len(self.profile.centroids)), np.float32)
        # Known models without an answer here share one covariance.
        covariances = [np.diag(self.known_variance)]
        covariance_of = np.zeros(count, np.int64)
        answers: list[Answers | None] = []
        for place, model in enumerate(pool):
            found = learned.get(model.name) or self.learn(model, None)
            answers.append(found.answers)
            length[place], factors[place] = found.line, found.factors
            if base[place] >= 0 and found.answers is None:
                continue
            mean[place] = found.belief.mean
            covariance_of[place] = len(covariances)
            covariances.append(found.belief.covariance)
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
        return Router(manifest, with_floor(estimator, answers, self.residual), None)

    def learn(self, model: PoolModel, answers: Answers | None) -> Learned:
        """Update what is believed of a model by its answers; the same ones give the same belief."""
        belief = self.believe(model)
        if answers is None or not len(answers):
            return Learned(None, belief, *self._length(model, None))
        items = self.items_for(model, answers.embeddings)
        belief = belief.update(items, answers.score, answers.weight)
        return Learned(answers, belief, *self._length(model, answers))

    def believe(self, model: PoolModel) -> Belief:
        """What is believed of a model before it answered anything here."""
        mean = np.zeros(self.profile.width)
        if self.knows(model):
            return Belief(mean, np.diag(np.maximum(self.known_variance, LEAST_VARIANCE)))
        variance = self.new_variance.copy()
        mean[0], share = self.abilities.predict(model.known_as[0], max(model.price))
        variance[0] *= share
        return Belief(mean, np.diag(np.maximum(variance, LEAST_VARIANCE)))

    def items_for(self, model: PoolModel, embeddings: Float32) -> Items:
        """Lay out prompts as `model` meets them, by their text alone."""
        logits = self.profile.logits(self.profile.scaler.apply(embeddings))
        steepness = self.items.steepness
        found = (steepness * (logits @ self.profile.projection)).astype(np.float64)
        weights = self.profile.cluster_weights(embeddings)
        design = self.profile.design(found.astype(np.float32), weights).astype(np.float64)
        column = self._column(model)
        base = found[:, 0] if column < 0 else steepness * logits[:, column].astype(np.float64)
        return Items(base, design, np.tile(np.diag(self.items.variance), (len(found), 1, 1)))

    def queries_for(self, model: PoolModel, embeddings: Float32) -> tuple[Float64, Float64]:
        """Lay out queries for predictions of `model`: logits at the origin, and the design."""
        logits = self.profile.logits(self.profile.scaler.apply(embeddings))
        factors = logits @ self.profile.projection
        design = self.profile.design(factors, self.profile.cluster_weights(embeddings))
        column = self._column(model)
        base = factors[:, 0] if column < 0 else logits[:, column]
        return base.astype(np.float64), design.astype(np.float64)

    def _length(self, model: PoolModel, answers: Answers | None) -> tuple[Float64, Float64]:
        """What a model writes; one that is known keeps its own line, with other factors."""
        column = self._column(model)
        counted = np.zeros(0, bool) if answers is None else np.isfinite(answers.tokens)
        nothing = np.zeros((0, len(self.profile.scaler.shift)), np.float32)
        embeddings = nothing if answers is None else answers.embeddings[counted]
        tokens = np.zeros(0) if answers is None else answers.tokens[counted]
        known = self.profile.log_tokens(self.profile.scaler.apply(embeddings)).astype(np.float64)
        weights = self.profile.cluster_weights(embeddings).astype(np.float64)
        if column < 0:
            return self.lengths.update(known.mean(axis=1), tokens, weights)
        own = self.token_factors[column].astype(np.float64)
        fitted = np.exp(known[:, column]) * (weights @ own)
        return np.array([0.0, 1.0]), own * token_factors(fitted, tokens, weights, 1.0)

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
            "item_variance": self.items.variance.astype(np.float32),
            "lengths": self._lengths_array(),
            "log_price": self.abilities.log_price.astype(np.float32),
            "ability": self.abilities.ability.astype(np.float32),
            "shares": np.array(self.abilities.shares),
        }

    def _lengths_array(self) -> Float32:
        of = self.lengths
        rest = of.centre, of.noise, of.ratio, self.items.steepness
        return np.array([*of.mean, *of.covariance.ravel(), *rest], np.float32)


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
    numbers = read_array(arrays, "lengths", (10,)).astype(np.float64)
    centre, noise, ratio, steepness = numbers[6:].tolist()
    return ShippedPrior(
        manifest,
        profile,
        read_array(arrays, "prompt_head", (len(profile.scaler.shift) + 1,)),
        read_array(arrays, "token_factors", (n_known, len(profile.centroids))),
        known,
        new,
        ItemModel(
            read_array(arrays, "item_variance", (1 + profile.n_axes,)).astype(np.float64),
            steepness,
        ),
        LengthPrior(centre, numbers[:2], numbers[2:6].reshape(2, 2), noise, ratio),
        AbilityPrior(
            read_array(arrays, "log_price", (n_known,)).astype(np.float64),
            manifest.models,
            read_array(arrays, "ability", (n_known,)).astype(np.float64),
            (shares[0], shares[1]),
        ),
    )
