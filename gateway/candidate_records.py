"""The models that a decision considered, as rows of the log and `/v1/route` show them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, overload


@dataclass(frozen=True, slots=True)
class CandidateRecord:
    """One model the decision considered, as logged and as `/v1/route` shows it.

    Attributes:
        completion_tokens: Predicted; None where the router predicts USD at once. Not logged.
        cached_tokens: Of the prompt, that are expected to be in its cache; None where no cache is
            known to hold the conversation. Not logged.
        saved_later_usd: By the conversation's next call, if this model is called. Not logged, but
            counted in `utility`.
    """

    model: str
    quality: float | None
    cost_usd: float | None
    utility: float | None
    propensity: float
    is_eligible: bool
    verdict: str
    completion_tokens: float | None = None
    cached_tokens: float | None = None
    saved_later_usd: float | None = None


class Candidates(Sequence[CandidateRecord]):
    """The models that a decision considered, by column.

    A turn makes this one object, and a record only of a model that somebody asks for.

    Attributes:
        columns: Of each field of `CandidateRecord`, in their order, its values; None where all
            models have its default, as for the fields that are not given.
    """

    __slots__ = ("columns",)

    def __init__(self, *columns: Sequence[Any] | None) -> None:
        self.columns = columns + (None,) * (len(_FIELDS) - len(columns))

    @classmethod
    def of(cls, records: Iterable[CandidateRecord]) -> "Candidates":
        """Take records apart."""
        if isinstance(records, Candidates):
            return records
        rows = [[getattr(record, name) for name in CandidateRecord.__slots__] for record in records]
        return cls(*zip(*rows, strict=True)) if rows else NO_CANDIDATES

    def __len__(self) -> int:
        return len(self.column("model"))

    @overload
    def __getitem__(self, index: int) -> CandidateRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[CandidateRecord]: ...
    def __getitem__(self, index: int | slice) -> CandidateRecord | list[CandidateRecord]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        values: list[Any] = [None if each is None else each[index] for each in self.columns]
        return CandidateRecord(*values)

    def column(self, name: str) -> Sequence[Any]:
        """Return one field of all models."""
        values = self.columns[_FIELDS[name]]
        return (None,) * len(self) if values is None else values

    def find(self, model: str | None) -> CandidateRecord | None:
        """Return what is known of a model; None where it was not considered."""
        models = self.column("model")
        return self[models.index(model)] if model in models else None


_FIELDS: Final = {name: place for place, name in enumerate(CandidateRecord.__slots__)}
NO_CANDIDATES: Final = Candidates(*(() for _ in _FIELDS))
