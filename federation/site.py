"""What federation needs of one organisation: rows to learn from, and a judge of new routers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from router_models.artifacts.assessment import Outcome
from router_models.artifacts.registry import ModelRegistry
from router_models.types import Evaluations

SCHEMA_VERSION: Final = 1
"""Of an evaluation: quality from 0 to 1 and USD per call, one model per (query, model) pair."""


@dataclass(frozen=True, slots=True)
class SitePolicy:
    """A site's own minimum of privacy; plans below it are refused.

    Attributes:
        least_rows: No centroid and no cell made of fewer rows leaves.
        needs_noise: Nothing leaves without clipping and noise, which then stand for `least_rows`.
        needs_secure_sum: Nothing additive leaves unmasked.
        least_noise: Least noise multiplier of a plan with noise.
        trusts_coordinator: Questions are answered from rows, not from bundles of them.
    """

    least_rows: int = 10
    needs_noise: bool = False
    needs_secure_sum: bool = False
    least_noise: float = 0.0
    trusts_coordinator: bool = False


@dataclass(frozen=True, slots=True)
class Profile:
    """What every site reports about itself before a session; `name` is unique in it."""

    name: str


@dataclass(frozen=True, slots=True)
class SiteProfile(Profile):
    """The profile of a site that trains a router.

    Attributes:
        models: Canonical names of the models it has rows of.
        rows: Train rows, rounded to a power of two so that nobody can watch single queries arrive.
    """

    encoder_id: str
    encoder_sha256: str
    dimension: int
    schema_version: int
    models: tuple[str, ...]
    rows: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """A site's verdict on a router.

    Attributes:
        outcome: ``activated`` serves, ``candidate`` is kept, ``refused`` is not kept.
        version: Of the router that the verdict is about; a personalised one has a name of its own.
        reason: One sentence for an operator.
        figures: What the reason rests on.
    """

    outcome: Outcome
    version: str | None
    reason: str
    figures: Mapping[str, float] = field(default_factory=dict)


class Site(Protocol):
    """One organisation's gateway, as its Flower client sees it.

    Rows that it returns are seen by nobody else, but whatever can be computed from them may be: a
    coordinator chooses the questions. So they hold no single row of the log, unless noise is put on
    every answer. `registry` is the session's; a site's own table of names goes before it.
    """

    @property
    def policy(self) -> SitePolicy:
        """What this site insists on."""
        ...

    def profile(self, registry: ModelRegistry) -> SiteProfile:
        """Return the site's profile, and read the rows of a new session."""
        ...

    def train_rows(self, columns: tuple[str, ...], registry: ModelRegistry) -> Evaluations:
        """Return the rows to learn from, one column per canonical name in `columns`."""
        ...

    def held_out_rows(self, columns: tuple[str, ...], registry: ModelRegistry) -> Evaluations:
        """Return the rows that choose between rounds; never trained on."""
        ...

    def receive(self, artifact: bytes, signature: bytes | None) -> Verdict:
        """Judge a new global router on rows that nothing was trained or chosen on."""
        ...
