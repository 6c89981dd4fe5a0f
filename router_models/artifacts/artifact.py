"""Routers as sealed files: an estimator and its guard, with what they were made of."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import numpy as np

from router_models.artifacts.registry import ModelRegistry
from router_models.artifacts.router import Router, RouterManifest
from router_models.artifacts.sealed_file import (
    EncoderIdentity,
    SealedFile,
    require,
    require_encoder,
)
from router_models.errors import ArtifactRejected, InvalidRegistry
from router_models.estimators.arrays import add_prefix, strip_prefix
from router_models.estimators.guard import ESTIMATORS as GUARDED_KINDS
from router_models.estimators.guard import Guard, GuardedEstimator
from router_models.types import COMPLETION_MTOK, USD, Arrays, Estimator, Unit

FORMAT_VERSION: Final = 1

ESTIMATORS: Final[Mapping[str, type[Estimator]]] = {
    estimator.kind: estimator for estimator in GUARDED_KINDS
}
"""The kinds that an artefact can hold; nothing else is ever built from a file."""

ESTIMATOR_PREFIX: Final = "estimator/"
GUARD_PREFIX: Final = "guard/"


def _parse_models(table: Mapping[str, Any]) -> dict[str, Any]:
    require_encoder(table)
    require(isinstance(table["has_guard"], bool), "has_guard", "true or false")
    models = table["models"]
    require(
        isinstance(models, list) and all(isinstance(m, str) and m for m in models),
        "models",
        "a list of names",
    )
    require(len(models) > 0 and len(set(models)) == len(models), "models", "distinct names")
    # The default is not written: one spelling for equal content.
    require(table.get("unit", COMPLETION_MTOK) == COMPLETION_MTOK, "unit", COMPLETION_MTOK)
    return {"models": tuple(models), "registry": _parse_registry(table, models)}


def _parse_registry(table: Mapping[str, Any], models: list[str]) -> dict[str, list[str]]:
    if "registry" not in table:
        return {}
    try:
        kept = ModelRegistry(table["registry"]).restricted_to(models).to_mapping()
    except InvalidRegistry as error:
        raise ArtifactRejected(f"the manifest's registry: {error}") from error
    # One spelling for equal content: sorted, no model without aliases, none that is not predicted.
    require(kept == table["registry"] != {}, "registry", "the aliases of its models, in order")
    return kept


ROUTER_FILE: Final = SealedFile(
    key="waypost",
    noun="router",
    format_version=FORMAT_VERSION,
    manifest=RouterManifest,
    parse=_parse_models,
    prefixes=(ESTIMATOR_PREFIX, GUARD_PREFIX),
)


def dump(
    estimator: Estimator,
    encoder: EncoderIdentity,
    *,
    created_at: datetime,
    training: Mapping[str, Any],
    provenance: Mapping[str, int],
    parent: str | None = None,
    registry: ModelRegistry | None = None,
    unit: Unit = USD,
) -> bytes:
    """Turn an estimator into an artefact; a `GuardedEstimator` brings its guard along.

    What this returns is what `load` accepts: it is loaded once before it is handed out.

    Args:
        estimator: Of a kind in `ESTIMATORS`, guarded or bare.
        encoder: Whose vectors it was trained on.
        created_at: With a time zone; kept to the second.
        training: Figures of the training run; JSON, finite numbers only.
        provenance: What it was trained on, as counts.
        parent: Version it was trained from.
        registry: Other names of models, of which those of the estimator's are kept.
        unit: What the estimator's amounts count.

    Raises:
        ArtifactRejected: The estimator cannot be served, such as one with arrays that are not
            finite.
        InvalidRegistry: One of the estimator's models is an alias of another model.
        ValueError: `created_at` has no time zone, or `training` is not JSON.
    """
    estimator, guard = _split_guard(estimator)
    arrays = add_prefix(ESTIMATOR_PREFIX, estimator.to_arrays())
    if guard is not None:
        arrays |= add_prefix(GUARD_PREFIX, guard.to_arrays())
    manifest = RouterManifest(
        format_version=FORMAT_VERSION,
        kind=estimator.kind,
        encoder_id=encoder.id,
        encoder_sha256=encoder.sha256,
        dimension=encoder.dimension,
        models=estimator.models,
        has_guard=guard is not None,
        created_at=created_at,
        training=training,
        provenance=provenance,
        parent=parent,
        registry={} if registry is None else registry.restricted_to(estimator.models).to_mapping(),
        unit=unit,
    )
    data = ROUTER_FILE.write(manifest, arrays)
    load(data, encoder)
    return data


def read_manifest(data: bytes) -> RouterManifest:
    """Read the manifest after verifying every byte, without asking for an encoder.

    Raises:
        ArtifactRejected: The bytes are not a whole artefact of this format.
    """
    return ROUTER_FILE.read(data)[0]


def load(data: bytes, encoder: EncoderIdentity) -> Router:
    """Verify an artefact and build its router.

    Raises:
        ArtifactRejected: The bytes are corrupt, of another format or encoder, or hold an estimator
            that cannot be served; the message says which.
    """
    manifest, arrays = ROUTER_FILE.read(data)
    manifest.check_encoder(encoder)
    kind = ESTIMATORS.get(manifest.kind)
    if kind is None:
        known = ", ".join(ESTIMATORS)
        raise ArtifactRejected(f"unknown kind of estimator {manifest.kind!r}; known: {known}")
    # Overflow in hostile arrays shows up as figures that are not finite, which the probe refuses.
    with np.errstate(all="ignore"):
        router = Router(manifest, *_build(kind, manifest, arrays))
        _probe(router)
    return router


def _split_guard(estimator: Estimator) -> tuple[Estimator, Guard | None]:
    if isinstance(estimator, GuardedEstimator):
        return estimator.estimator, estimator.guard
    return estimator, None


def _build(
    kind: type[Estimator], manifest: RouterManifest, arrays: Arrays
) -> tuple[Estimator, Guard | None]:
    """Build estimator and guard; arrays that make them stumble are the file's fault."""
    try:
        estimator = kind.from_arrays(manifest.models, strip_prefix(ESTIMATOR_PREFIX, arrays))
        guarded = strip_prefix(GUARD_PREFIX, arrays)
        guard = Guard.from_arrays(manifest.models, guarded) if manifest.has_guard else None
    except ArtifactRejected as error:
        raise ArtifactRejected(f"the {manifest.kind} estimator or its guard: {error}") from error
    except (ArithmeticError, IndexError, MemoryError, TypeError, ValueError) as error:
        raise ArtifactRejected(f"no {manifest.kind} estimator can be built: {error}") from error
    for dimension in (estimator.dimension, guard.scaler.shift.size if guard else None):
        if dimension not in {None, manifest.dimension}:
            raise ArtifactRejected(
                f"its arrays read {dimension} dimensions, its manifest says {manifest.dimension}"
            )
    return estimator, guard


def _probe(router: Router) -> None:
    """Ask for two predictions, as serving and as training do, so that nothing useless serves."""
    n_models = len(router.manifest.models)
    for value in (0.0, 1.0):
        embedding = np.full(router.manifest.dimension, value, np.float32)
        try:
            whole = router.serving_estimator.predict(embedding[np.newaxis])
            figures = (whole.quality[0], whole.cost_usd[0], *router.predict(embedding)[:2])
        except (ArithmeticError, IndexError, MemoryError, TypeError, ValueError) as error:
            raise ArtifactRejected(f"the estimator cannot predict: {error}") from error
        for row in figures:
            if row.shape != (n_models,) or not np.isfinite(row).all():
                raise ArtifactRejected("the estimator predicts figures that nobody can use")
