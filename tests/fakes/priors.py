"""A small real prior, for whatever routes by one."""

import numpy as np

from gateway.routing.prior import DayOne
from router_models.artifacts.registry import ModelRegistry
from router_models.artifacts.router import RouterManifest
from router_models.artifacts.sealed_file import EncoderIdentity
from router_models.day_one.abilities import AbilityPrior
from router_models.day_one.items import ItemModel
from router_models.day_one.lengths import LengthPrior
from router_models.day_one.shipped import KIND, ShippedPrior, dump_prior, load_prior
from router_models.estimators.arrays import Scaler
from router_models.estimators.factors import QueryProfile
from tests.fakes.artifacts import CREATED_AT, ENCODER

KNOWN = ("able", "middling", "weak")


def prior_bytes(encoder: EncoderIdentity = ENCODER) -> bytes:
    """Three known models of whom the dearer is the abler, whatever the query."""
    dimension, width = encoder.dimension, 3
    score = np.array([0.9, 0.6, 0.3])
    logit = np.log(score / (1.0 - score))
    places = np.stack([np.ones(3), (logit - logit.mean()) / logit.std()], axis=1)
    heads, tokens = np.zeros((dimension + 1, 3)), np.zeros((dimension + 1, 3))
    heads[-1], tokens[-1] = score, np.log(200.0)
    prompt = np.zeros(dimension + 1, np.float32)
    prompt[-1] = np.log(50.0)
    profile = QueryProfile(
        Scaler.identity(dimension),
        heads.astype(np.float32),
        tokens.astype(np.float32),
        np.linalg.pinv(places).T.astype(np.float32),
        np.full((1, dimension), dimension**-0.5, np.float32),
        0.05,
        0.3,
    )
    manifest = RouterManifest(
        format_version=1,
        kind=KIND,
        created_at=CREATED_AT,
        training={"residual": 0.5},
        provenance={},
        parent=None,
        encoder_id="",
        encoder_sha256="",
        dimension=0,
        models=KNOWN,
        has_guard=False,
    )
    prior = ShippedPrior(
        manifest,
        profile,
        prompt,
        np.ones((3, 1), np.float32),
        np.array([0.0, 0.1, 1.0]),
        np.array([1.0, 0.1, 1.0])[:width],
        ItemModel(np.array([0.5, 0.1]), 1.1),
        LengthPrior(float(np.log(200.0)), np.array([np.log(200.0), 1.0]), np.eye(2), 0.1, 1.0),
        AbilityPrior(np.log([10.0, 1.0, 0.1]), KNOWN, places[:, 1], (0.5, 0.0)),
    )
    registry = ModelRegistry({"able": ("able-latest", "able-2026")})
    return dump_prior(prior, encoder, CREATED_AT, registry)


def day_one() -> DayOne:
    """Make it as a gateway does."""
    return DayOne(load_prior(prior_bytes(), ENCODER))
