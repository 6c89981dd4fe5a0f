"""What coordinator and node say to each other, and how it is laid out in Flower's records.

Every instruction carries the whole plan, so a node needs no memory of earlier messages: it may be
restarted, or join, between any two of them.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from numpy.typing import NDArray

from federation.errors import PlanRefused, ReplyRejected
from federation.learning.aggregation import ROBUST_RULES, RULES
from federation.learning.settings import (
    KINDS,
    MAX_CLUSTERS,
    FederatedMlpSettings,
    FederatedSettings,
)
from federation.privacy.secure_sum import LEAST_MEMBERS
from federation.privacy.settings import NoiseSettings
from federation.protocol.failures import read_failure
from federation.protocol.joining import Growth
from federation.protocol.session_plan import SessionPlan
from federation.site import SiteProfile, Verdict
from router_models.artifacts.registry import ModelRegistry
from router_models.errors import InvalidRegistry

Payload = dict[str, NDArray[Any]]
"""Everything numeric that travels: named arrays."""

PROTOCOL_VERSION: Final = 1

HELLO: Final = "query.hello"
REFUSED: Final = "query.refused"
PUBLISH: Final = "query.publish"

ARRAYS: Final = "arrays"
PLAN: Final = "plan"
ANSWER: Final = "answer"
REFUSAL: Final = "refusal"
CENTROIDS: Final = "centroids"
"""How the names of arrays of centroids end."""
ARTIFACT: Final = "artifact"
"""Array that carries a finished router, byte by byte."""
SIGNATURE: Final = "signature"
"""Array that carries its signature, where the coordinator has a key."""

MAX_TEXT: Final = 65_536
"""Longest text read from a node; what is longer is no profile, no verdict and no reason."""


@dataclass(frozen=True, slots=True)
class EncoderName:
    """Which encoder's vectors every site's rows hold; `sha256` is the digest of its weights."""

    id: str
    sha256: str
    dimension: int


@dataclass(frozen=True, slots=True)
class TrainingPlan(SessionPlan):
    """The plan of one router's session, the same for the coordinator and every site.

    Attributes:
        kind: Of the estimator: ``kmeans``, ``mlp`` or ``ridge``.
        settings: Of that kind.
        encoder: Whose vectors are routed.
        registry: What sites may call their models.
        models: Canonical names that sites may have rows of; empty for any.
        columns: Canonical names of the models, fixed once the sites are known; empty before. Where
            models join a router, of those alone.
        growth: The router that the session starts from; None to begin anew.
        joining: What joins it, fixed with the columns; empty before, and where nothing does.
        least_rows: No centroid, no cell and no model of fewer rows leaves a site.
        has_guard: Guard the router against unfamiliar queries; experiments may leave it out.
        validate_every: Rounds of training between two validations; the last round has one.
        rule: How weights are put together: ``mean``, ``median`` or ``trimmed_mean``.
        norm_bound: Updates are clipped to that many times the median norm; None leaves them.
        dearest_usd: No call costs more; an evaluation that says so is rejected.
        secure_sum: Whatever adds up leaves a site masked, so that only the total can be read.
        noise: Put on everything that leaves a site; None for none.
    """

    kind: str
    settings: FederatedSettings
    encoder: EncoderName
    registry: ModelRegistry = field(default_factory=ModelRegistry)
    models: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    growth: Growth | None = None
    joining: str = ""
    least_rows: int = 10
    has_guard: bool = True
    validate_every: int = 1
    rule: str = "mean"
    norm_bound: float | None = None
    dearest_usd: float = 100.0
    secure_sum: bool = False
    noise: NoiseSettings | None = None

    def __post_init__(self) -> None:
        """Refuse what no session can follow.

        Raises:
            ValueError: A value is out of range or unknown.
        """
        if KINDS.get(self.kind) is not type(self.settings):
            raise ValueError(
                f"the settings are not those of kind {self.kind!r}; known kinds: {', '.join(KINDS)}"
            )
        if self.rule not in RULES:
            raise ValueError(f"unknown rule {self.rule!r}; known rules: {', '.join(RULES)}")
        if min(self.quorum, self.least_rows, self.validate_every, self.encoder.dimension) < 1:
            raise ValueError("quorum, least_rows, validate_every and dimension must be at least 1")
        if min(self.timeout_s, self.greeting_s, self.dearest_usd) <= 0:
            raise ValueError("timeout_s, greeting_s and dearest_usd must be above 0")
        if not 0 < self.largest_share <= 1 or self.longest_update <= 1:
            raise ValueError("largest_share must be above 0 and at most 1, longest_update above 1")
        if self.norm_bound is not None and self.norm_bound <= 0:
            raise ValueError(f"norm_bound must be above 0, not {self.norm_bound}")
        if self.secure_sum:
            self._check_secure_sum()
        if self.noise is not None:
            self._check_noise()
        if self.growth is not None:
            self._check_growth()

    def without_columns(self) -> "TrainingPlan":
        """Return the plan as it was before the sites were known."""
        return dataclasses.replace(self, columns=(), joining="")

    @property
    def least_visible_rows(self) -> int:
        """Fewest rows behind a sum of one site: `least_rows`, unless each query bears noise.

        Masks do not lower it: a site cannot see who takes them off.
        """
        return 1 if self.noise else self.least_rows

    def _check_secure_sum(self) -> None:
        if self.rule in ROBUST_RULES or self.norm_bound is not None:
            raise ValueError(
                "robust rules and norm_bound compare the sites' answers, "
                "which secure_sum hides: use one or the other"
            )
        if self.quorum < LEAST_MEMBERS:
            raise ValueError(
                f"secure_sum needs a quorum of at least {LEAST_MEMBERS}, not {self.quorum}: the "
                "sum of fewer sites hides nothing"
            )

    def _check_noise(self) -> None:
        if self.kind == "ridge":
            raise ValueError("epsilon cannot be used with a ridge router: train kmeans or mlp")
        if isinstance(self.settings, FederatedMlpSettings) and self.settings.adam_at == "clients":
            raise ValueError('epsilon needs gradients from the sites: set adam_at = "coordinator"')
        if self.has_guard:
            raise ValueError("epsilon cannot be used with a guard: set has_guard = false")

    def _check_growth(self) -> None:
        if self.kind == "ridge":
            raise ValueError(
                "nothing can join a ridge router: run a whole training, which takes one round of "
                "sums"
            )
        if self.kind == "mlp" and self.noise is not None:
            raise ValueError(
                "nothing can join an mlp router trained with epsilon: use kmeans, or run a whole "
                "training"
            )

    def to_json(self) -> str:
        """Write the plan; the same plan gives the same text."""
        table = {item.name: getattr(self, item.name) for item in fields(self)}
        table["settings"] = dataclasses.asdict(self.settings)
        table["encoder"] = dataclasses.asdict(self.encoder)
        table["registry"] = self.registry.to_mapping()
        for name in ("noise", "growth"):
            value = getattr(self, name)
            table[name] = None if value is None else dataclasses.asdict(value)
        return json.dumps(table, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "TrainingPlan":
        """Read `to_json`.

        Raises:
            PlanRefused: It is no plan that this version understands.
        """
        try:
            table = json.loads(text)
            settings = KINDS[table["kind"]](**table["settings"])
            parsed = {
                "settings": settings,
                "encoder": EncoderName(**table["encoder"]),
                "registry": ModelRegistry(table["registry"]),
                "models": tuple(table["models"]),
                "columns": tuple(table["columns"]),
                "noise": None if table["noise"] is None else NoiseSettings(**table["noise"]),
                "growth": None if table["growth"] is None else Growth.from_table(table["growth"]),
            }
            return cls(**{**table, **parsed})
        except (ValueError, TypeError, KeyError, InvalidRegistry) as error:
            raise PlanRefused(
                f"this version cannot read the coordinator's plan: {error}"
            ) from error


@dataclass(frozen=True, slots=True, eq=False)
class Instruction:
    """What a request sends to every site, the same for all.

    Attributes:
        round: Counted from 1 over the whole session; 0 outside of rounds.
        sent: What the work starts from, named as in the session's state.
    """

    plan: TrainingPlan
    round: int = 0
    sent: Payload = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """Seed of this round, the same at every site."""
        sequence = np.random.SeedSequence([self.plan.seed, self.round])
        return int(sequence.generate_state(1)[0])

    def to_content(self) -> RecordDict:
        """Pack into a Flower record."""
        return pack_instruction(self.plan.to_json(), self.round, self.sent)

    @classmethod
    def from_content(cls, content: RecordDict) -> "Instruction":
        """Read `to_content`.

        Raises:
            PlanRefused: The coordinator is of another version, or sent more than a node works off.
        """
        plan, round_, sent = unpack_instruction(content)
        for name, array in sent.items():
            if name.endswith(CENTROIDS) and len(array) > MAX_CLUSTERS:
                raise PlanRefused(f"{len(array)} {name} are more than {MAX_CLUSTERS}")
        return cls(TrainingPlan.from_json(plan), round_, sent)


def pack_instruction(plan: str, round_: int, sent: Payload) -> RecordDict:
    """Pack an instruction into a Flower record."""
    head = ConfigRecord({"protocol": PROTOCOL_VERSION, "plan": plan, "round": round_})
    return RecordDict({PLAN: head, ARRAYS: to_record(sent)})


def unpack_instruction(content: RecordDict) -> tuple[str, int, Payload]:
    """Read `pack_instruction`.

    Raises:
        PlanRefused: The coordinator is of another version.
    """
    head = content.config_records[PLAN]
    if head["protocol"] != PROTOCOL_VERSION:
        raise PlanRefused(
            f"coordinator and node have different protocol versions ({head['protocol']!r}, not "
            f"{PROTOCOL_VERSION}): run the same version on both"
        )
    plan, round_ = head["plan"], head["round"]
    if not isinstance(plan, str) or not isinstance(round_, int):
        raise PlanRefused(
            "the coordinator's instruction has an unexpected form: run the same version on both"
        )
    return plan, round_, from_record(content.array_records[ARRAYS])


def to_record(payload: Mapping[str, NDArray[Any]]) -> ArrayRecord:
    """Lay out arrays, the same way whatever order they come in."""
    return ArrayRecord({name: Array(np.asarray(payload[name])) for name in sorted(payload)})


def from_record(record: ArrayRecord) -> Payload:
    """Read `to_record`, from somebody trusted."""
    return {name: array.numpy() for name, array in record.items()}


def refusal(reason: str) -> RecordDict:
    """Pack the reason of a refusal; coordinator and nodes use the same record."""
    return RecordDict({REFUSAL: ConfigRecord({"reason": reason})})


def answer(value: Any) -> RecordDict:
    """Pack an answer that is a dataclass of plain values instead of arrays."""
    text = json.dumps(dataclasses.asdict(value), sort_keys=True, allow_nan=False)
    return RecordDict({ANSWER: ConfigRecord({"json": text})})


def read_refusal(message: Message) -> str | None:
    """Say why a message refuses, in one line; None where it does not."""
    if not message.has_content() or REFUSAL not in message.content:
        return None
    return _text(message, REFUSAL, "reason").replace("\n", " ")[:500]


def read_profile(message: Message) -> SiteProfile:
    """Read a site's profile.

    Raises:
        ReplyRejected: It is no profile.
    """
    table = read_table(message)
    try:
        profile = SiteProfile(**{**table, "models": tuple(table["models"])})
    except (KeyError, TypeError) as error:
        raise ReplyRejected(f"the profile is incomplete or of another version: {error}") from error
    texts = (profile.name, profile.encoder_id, profile.encoder_sha256, *profile.models)
    numbers = (profile.dimension, profile.schema_version, profile.rows)
    if not all(isinstance(text, str) and text for text in texts):
        raise ReplyRejected("a name in the profile is not text")
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ReplyRejected("a number in the profile is not a count")
    return profile


def read_verdict(message: Message) -> Verdict:
    """Read a site's verdict on a router.

    Raises:
        ReplyRejected: It is no verdict.
    """
    table = read_table(message)
    try:
        verdict = Verdict(**table)
        figures = {str(name): float(value) for name, value in verdict.figures.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ReplyRejected(f"the verdict is incomplete or of another version: {error}") from error
    if verdict.outcome not in {"activated", "candidate", "refused"}:
        raise ReplyRejected(f"unknown outcome {verdict.outcome!r}")
    return dataclasses.replace(verdict, figures=figures)


def read_table(message: Message) -> dict[str, Any]:
    """Read `answer`.

    Raises:
        ReplyRejected: It is something else.
    """
    try:
        table = json.loads(_text(message, ANSWER, "json"))
    except (ValueError, RecursionError) as error:
        raise ReplyRejected("the answer is not JSON") from error
    if not isinstance(table, dict):
        raise ReplyRejected("the answer is not a JSON object")
    return table


def _text(message: Message, record: str, key: str) -> str:
    failed = read_failure(message)
    if failed is not None:
        raise ReplyRejected(failed)
    found = message.content.config_records.get(record)
    value = None if found is None else found.get(key)
    if set(message.content) != {record} or not isinstance(value, str) or len(value) > MAX_TEXT:
        raise ReplyRejected(f"the reply is not the {record!r} record that was asked for")
    return value


def published(sent: Payload) -> tuple[bytes, bytes | None]:
    """Return the artefact that a coordinator published, and its signature where it has one."""
    artifact = np.asarray(sent[ARTIFACT], np.uint8).tobytes()
    signature = sent.get(SIGNATURE)
    return artifact, None if signature is None else np.asarray(signature, np.uint8).tobytes()
