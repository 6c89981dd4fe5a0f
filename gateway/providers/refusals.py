"""What models refused lately, remembered for a while, so that not every request runs into it.

Also which models take no calls for the moment, as their providers say.

Remembered for each team apart: a caller can provoke a refusal, so it shall change nothing for
others. Only names of fields are remembered, and only those that a provider gives in a field of its
error, never what stands in its words.
"""

from collections.abc import Callable, Collection, Container, Mapping
from types import MappingProxyType
from typing import Final

from gateway.errors import ProviderUnsupported
from gateway.providers.lacks import DROPPABLE, OUTPUT_LIMITS, REFUSABLE

KEPT_S: Final = 600.0
MAX_TEAMS: Final = 1_000
LONGEST_REST_S: Final = 60.0
NOTHING_LEARNED: Final[Mapping[str, frozenset[str]]] = MappingProxyType({})


class Refusals:
    """Fields that models refused, by team and model.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._teams: dict[str, dict[str, frozenset[str]]] = {}
        self._forgotten_at: dict[str, float] = {}
        self._rested_until: dict[str, dict[str, float]] = {}

    def rest(self, team_id: str, model: str, seconds: float) -> None:
        """Note that a provider asks the team to leave `model` alone for so long."""
        if team_id not in self._rested_until and len(self._rested_until) >= MAX_TEAMS:
            del self._rested_until[next(iter(self._rested_until))]
        resting = self._rested_until.setdefault(team_id, {})
        resting[model] = self._clock() + min(seconds, LONGEST_REST_S)

    def resting(self, team_id: str) -> Collection[str]:
        """Name the models that the team shall leave alone, as long as there are others."""
        resting = self._rested_until.get(team_id)
        if not resting:
            return ()
        now_s = self._clock()
        return [model for model, until_s in resting.items() if until_s > now_s]

    def learn(
        self, team_id: str, model: str, refusal: ProviderUnsupported, sent: Container[str]
    ) -> bool:
        """Remember what `model` refused; True where it may be sent the same request made fit.

        Args:
            sent: The fields that it was sent: what is not among them cannot be left out.
        """
        field = refusal.asked
        if field is None or not _is_lesson(field, is_about_value=refusal.is_about_value):
            return False
        known = self._note(team_id, model, field)
        if field in OUTPUT_LIMITS and known.issuperset(OUTPUT_LIMITS):
            return False  # there is no name left to send it under
        return field not in REFUSABLE and field in sent

    def _note(self, team_id: str, model: str, field: str) -> frozenset[str]:
        """Remember one field; returns all that the model refused."""
        known = dict(self.of_team(team_id))
        if team_id not in self._teams and len(self._teams) >= MAX_TEAMS:
            self._forget(next(iter(self._teams)))
        known[model] = known.get(model, frozenset()) | {field}
        self._teams[team_id] = known
        self._forgotten_at[team_id] = self._clock() + KEPT_S
        return known[model]

    def of_team(self, team_id: str) -> Mapping[str, frozenset[str]]:
        """Return what models refused this team, by their names."""
        if not self._teams:
            return NOTHING_LEARNED
        if self._forgotten_at.get(team_id, 0.0) <= self._clock():
            self._forget(team_id)
        return self._teams.get(team_id, NOTHING_LEARNED)

    def _forget(self, team_id: str) -> None:
        self._teams.pop(team_id, None)
        self._forgotten_at.pop(team_id, None)


def _is_lesson(field: str, *, is_about_value: bool) -> bool:
    """Whether a refusal says something of other requests too.

    Of a field that cannot be left out, a refused value says nothing of other values.
    """
    lasting: Collection[str] = () if is_about_value else REFUSABLE
    return field in DROPPABLE or field in OUTPUT_LIMITS or field in lasting
