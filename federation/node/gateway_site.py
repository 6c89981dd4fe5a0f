"""A gateway as a federation sees it: its graded answers, and its say on every new router."""

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import numpy as np

from federation.learning.personal import personalise
from federation.node.bundles import BundleFile, Bundles
from federation.node.verdicts import VerdictLimit
from federation.site import SCHEMA_VERSION, SitePolicy, SiteProfile, Verdict
from router_models.artifacts.artifact import dump, load
from router_models.artifacts.assessment import Assessment, Outcome
from router_models.artifacts.registry import ModelRegistry
from router_models.artifacts.router import Router, RouterManifest
from router_models.artifacts.sealed_file import EncoderIdentity, RequestEncoder
from router_models.errors import ArtifactRejected, InvalidEvaluations, InvalidRegistry
from router_models.estimators.guard import GuardedEstimator
from router_models.evaluation.acceptance import (
    AcceptanceCriteria,
    Decision,
    Float64,
    decide,
    find_invalid_predictions,
)
from router_models.evaluation.held_out import HeldOut
from router_models.evaluation.log_rows import LoggedRows, LogRow, read_log_rows
from router_models.pricing import in_unit
from router_models.statistics import check
from router_models.training.settings import KINDS
from router_models.training.train import LEAST_ROWS, fit
from router_models.types import Estimator, Evaluations

SHARED, PERSONAL = "shared", "personal"
"""What the contenders are called in figures."""

logger = logging.getLogger(__name__)


class EvaluationLog(Protocol):
    """Where graded answers are read; only teams that take part are in it."""

    def latest(self, rows: int, encoder_id: str) -> Iterable[Sequence[LogRow]]:
        """Yield the latest `rows` graded answers to queries that this encoder embedded."""
        ...


class RouterStore(Protocol):
    """Where the gateway's routers are kept; `gateway.artifacts.store.ArtifactStore` is one."""

    def active(self) -> str | None:
        """Return the version that serves; None where none was ever activated."""
        ...

    def read(self, version: str) -> bytes:
        """Return a version's bytes."""
        ...

    @property
    def takes_own(self) -> bool:
        """Whether what is made here can serve here: signed, where signatures are asked for."""
        ...

    def check(self, data: bytes, signature: bytes | None) -> None:
        """Refuse an artefact that no trusted key signed, where signatures are asked for."""
        ...

    def put(self, data: bytes, signature: bytes | None = None) -> RouterManifest:
        """Keep an artefact from elsewhere."""
        ...

    def put_own(self, data: bytes) -> RouterManifest:
        """Keep an artefact that was made here."""
        ...

    def activate(self, version: str) -> RouterManifest:
        """Let a version serve."""
        ...

    def assessment(self, version: str) -> Assessment | None:
        """Return the assessment of a version; None where it was not assessed."""
        ...

    def note(self, version: str, assessment: Assessment) -> None:
        """Keep beside a version why it serves or does not."""
        ...

    def prune(self, keep: int) -> tuple[str, ...]:
        """Delete all but the newest `keep` assessed versions that do not serve."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class _Contender:
    """A router that may serve, and its file.

    Attributes:
        signature: As it was received; None where the router was made here or came without.
    """

    router: Router
    data: bytes
    signature: bytes | None = None
    is_own: bool = True


@dataclass(slots=True, eq=False)
class GatewaySite:
    """One gateway's database and routers, as a `federation.site.Site`.

    Rows are read when a session begins and held until it ends, so that every round learns from
    the same ones. What a coordinator is told is computed from bundles of them (see
    `federation.node.bundles`), unless every answer bears noise; verdicts rest on the rows. It is
    told of the queries' texts alone: the rest of a request, such as the signs of its system prompt,
    is of no use elsewhere and stays here, where it helps to judge a router that reads it.

    Attributes:
        name: Of the organisation.
        encoder: The one that this gateway runs.
        default_artifact: The router that serves while none was activated.
        own_names: Canonical names with this gateway's names of those models.
        private_models: This gateway's names of models that nobody else has; never mentioned.
        prices: Quality per USD at the operating points that callers use.
        clock: Tells the time, with a zone.
        bundles: Remembers what was told of; None forgets it with the session, for experiments.
        verdicts: Limits how many routers are judged; None for no limit.
        most_rows: The latest answers that are learned from; 4 bytes per row and dimension.
        keep: Assessed routers kept in the store besides those that served.
    """

    name: str
    encoder: EncoderIdentity
    log: EvaluationLog
    store: RouterStore
    default_artifact: bytes | None
    prices: Float64
    clock: Callable[[], datetime]
    own_names: ModelRegistry = field(default_factory=ModelRegistry)
    private_models: frozenset[str] = frozenset()
    policy: SitePolicy = field(default_factory=SitePolicy)
    criteria: AcceptanceCriteria = field(default_factory=AcceptanceCriteria)
    bundles: BundleFile | None = None
    verdicts: VerdictLimit | None = None
    most_rows: int = 200_000
    keep: int = 10
    seed: int = 0
    _rows: LoggedRows | None = field(default=None, init=False, repr=False)
    _told: LoggedRows | None = field(default=None, init=False, repr=False)

    def profile(self, registry: ModelRegistry) -> SiteProfile:
        """Say what there is to learn from, after reading the log anew.

        A model of fewer train rows than `policy.least_rows` is not mentioned.

        Raises:
            InvalidRegistry: What this gateway calls a model is another one's name there.
        """
        self._forget()
        rows = self._told_of()
        names = registry.with_overrides(self.own_names)
        columns = tuple(sorted({names.canonical(model) for model in rows.models}))
        table = rows.evaluations("train", columns, names)
        answers = table.counts.sum(axis=0, dtype=np.float64)
        enough = answers >= self.policy.least_rows
        return SiteProfile(
            name=self.name,
            encoder_id=self.encoder.id,
            encoder_sha256=self.encoder.sha256,
            dimension=self.encoder.dimension,
            schema_version=SCHEMA_VERSION,
            models=tuple(
                name for name, is_enough in zip(columns, enough, strict=True) if is_enough
            ),
            rows=_coarse(int(answers[enough].sum())),
        )

    def train_rows(self, columns: tuple[str, ...], registry: ModelRegistry) -> Evaluations:
        """Return what is told of train rows, one column per canonical name in `columns`.

        Raises:
            InvalidRegistry: What this gateway calls a model is another one's name there.
        """
        return self._told_of().evaluations("train", columns, self._names(columns, registry))

    def held_out_rows(self, columns: tuple[str, ...], registry: ModelRegistry) -> Evaluations:
        """Return what is told of validation rows; the test rows only `receive` sees.

        Raises:
            InvalidRegistry: What this gateway calls a model is another one's name there.
        """
        return self._told_of().evaluations("val", columns, self._names(columns, registry))

    def receive(self, artifact: bytes, signature: bytes | None = None) -> Verdict:
        """Let a new global router serve, itself or mixed with a local one, unless it loses here.

        The same router is judged once: a coordinator that repeats itself gets the same answer, and
        what an operator did since stays as it is.

        Raises:
            PlanRefused: This site judged too many routers already.
        """
        try:
            self.store.check(artifact, signature)
            shared = self._localised(artifact, signature)
            known = self.store.assessment(shared.router.version)
            if known is not None:
                return _verdict(shared, known)
            if self.verdicts is not None:
                self.verdicts.spend(self.clock())
            return self._judge(shared)
        except ArtifactRejected as error:
            return Verdict("refused", None, f"it cannot be used here: {error}")
        except InvalidEvaluations as error:
            return Verdict("refused", None, f"it cannot be compared here: {error}")
        except OSError as error:
            return Verdict("refused", None, f"it cannot be stored: {error}")
        finally:
            self._forget()

    def _judge(self, shared: _Contender) -> Verdict:
        rows = self._logged()
        held_out = HeldOut.of(rows, self.prices)
        nonsense = find_invalid_predictions(shared.router, held_out.answers.embeddings)
        if nonsense is not None:
            return Verdict("refused", shared.router.version, nonsense)
        contenders = {SHARED: shared}
        personal = self._personalised(shared, rows)
        if personal and not find_invalid_predictions(personal.router, held_out.answers.embeddings):
            contenders[PERSONAL] = personal
        routers = {name: contender.router for name, contender in contenders.items()}
        rng = np.random.default_rng(self.seed)
        decision = decide(routers, self._active(rows), held_out, self.criteria, rng)
        return self._carry_out(shared, contenders[decision.best], decision)

    def _carry_out(self, shared: _Contender, best: _Contender, decision: Decision) -> Verdict:
        """Store the routers and their assessments; the assessments come last.

        Killed before them, this starts again when the coordinator repeats itself.
        """
        outcome: Outcome = "activated" if decision.is_accepted else "candidate"
        made = Assessment(outcome, decision.reason, self.clock(), decision.figures)
        for contender in (shared, best):
            if contender.is_own:
                self.store.put_own(contender.data)
            else:
                self.store.put(contender.data, contender.signature)
        if decision.is_accepted:
            self.store.activate(best.router.version)
        self.store.note(best.router.version, made)
        if best is not shared:
            reason = f"{best.router.version}, mixed from it and a local router, does better here"
            aside = Assessment("candidate", reason, made.assessed_at, made.figures)
            self.store.note(shared.router.version, aside)
        self.store.prune(self.keep)
        return _verdict(best, made)

    def _personalised(self, shared: _Contender, rows: LoggedRows) -> _Contender | None:
        """Mix the global router with one trained here.

        None where there are too few rows, or nothing that is made here may serve.
        """
        router = shared.router
        texts = rows.of_texts(self.encoder.dimension)
        own_rows, held_out = (
            texts.evaluations(split, router.models, router.registry) for split in ("train", "val")
        )
        settings = KINDS.get(router.estimator.kind)
        if settings is None or not self.store.takes_own:
            return None
        try:
            check(own_rows, LEAST_ROWS)
            check(held_out)
            # A log of one model per query shows no setting to route better than another.
            own_rows, held_out = (in_unit(each, router.unit) for each in (own_rows, held_out))
            local = fit(own_rows, held_out, settings(), self.seed)
            mixed: Estimator = personalise(local, router.estimator, held_out)
            data = dump(
                mixed if router.guard is None else GuardedEstimator(mixed, router.guard),
                self.encoder,
                created_at=self.clock(),
                training={"shared": router.manifest.training, "seed": self.seed},
                provenance={
                    "train_queries": len(own_rows.quality),
                    "validation_queries": len(held_out.quality),
                },
                parent=router.version,
                registry=router.registry,
                unit=router.unit,
            )
            return _Contender(load(data, self.encoder), data)
        except (ArtifactRejected, InvalidEvaluations) as error:
            logger.info("no personalised router was made: %s", error)
            return None

    def _localised(self, artifact: bytes, signature: bytes | None) -> _Contender:
        """Load the global router under this gateway's own names of models.

        Raises:
            ArtifactRejected: It cannot serve here.
        """
        router = load(artifact, self.encoder)
        try:
            names = router.registry.with_overrides(self.own_names).restricted_to(router.models)
        except InvalidRegistry as error:
            raise ArtifactRejected(f"the names of models contradict each other: {error}") from error
        if names == router.registry:
            return _Contender(router, artifact, signature, is_own=False)
        if not self.store.takes_own:
            raise ArtifactRejected(
                "this site has its own names for the models, so the router is written anew and has "
                "to be signed here: set artifacts.signing_key"
            )
        manifest = router.manifest
        data = dump(
            router.serving_estimator,
            self.encoder,
            created_at=manifest.created_at,
            training=manifest.training,
            provenance=manifest.provenance,
            parent=router.version,
            registry=names,
            unit=router.unit,
        )
        return _Contender(load(data, self.encoder), data)

    def _active(self, rows: LoggedRows) -> Router | None:
        """Return the router that serves; None where none does for any model in the log."""
        try:
            version = self.store.active()
            data = self.default_artifact if version is None else self.store.read(version)
            router = None if data is None else load(data, self.encoder)
        except ArtifactRejected:
            return None  # nor can the gateway serve with it
        if router is None or version is not None:
            return router
        return router if any(router.column(name) is not None for name in rows.models) else None

    def _names(self, columns: tuple[str, ...], registry: ModelRegistry) -> ModelRegistry:
        return registry.with_overrides(self.own_names).restricted_to(columns)

    def _forget(self) -> None:
        self._rows = self._told = None

    def _told_of(self) -> LoggedRows:
        """Return what a coordinator's questions are answered from."""
        if self._told is None:
            texts = self._logged().of_texts(self.encoder.dimension)
            public = texts.without_models(self.private_models)
            is_row_wise = self.policy.needs_noise or self.policy.trusts_coordinator
            self._told = public if is_row_wise else self._bundled(public)
        return self._told

    def _bundled(self, rows: LoggedRows) -> LoggedRows:
        least_rows = self.policy.least_rows
        if self.bundles is None:
            return Bundles.none(self.encoder.dimension).updated(rows, least_rows).rows()
        return self.bundles.update(rows, least_rows).rows()

    def _logged(self) -> LoggedRows:
        if self._rows is None:
            batches = self.log.latest(self.most_rows, self.encoder.id)
            width = RequestEncoder.of(self.encoder).dimension
            self._rows = read_log_rows(batches, width, self.most_rows)
        return self._rows


def _coarse(count: int) -> int:
    """Round down to a power of two, so that nobody can watch single queries arrive."""
    return 2 ** int(math.log2(count)) if count else 0


def _verdict(contender: _Contender, made: Assessment) -> Verdict:
    return Verdict(made.outcome, contender.router.version, made.reason, dict(made.figures))
