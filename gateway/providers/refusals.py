"""What models refused lately, remembered for a while, so that not every request runs into it.

Also which models take no calls for the moment, as their providers say.

Remembered for each team apart: a caller can provoke a refusal, so it shall change nothing for
others. Only names of fields that the gateway knows are remembered, and lengths of prompts.
"""

from collections.abc import Callable, Collection, Container, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from gateway.errors import ProviderError, ProviderUnsupported
from gateway.providers.lacks import DROPPABLE, OUTPUT_LIMITS, REFUSABLE, THOUGHTS
from gateway.providers.vendor_words import is_about_length, is_about_thoughts, refused_field
from gateway.types import Place

KEPT_S: Final = 600.0
MAX_TEAMS: Final = 1_000
LONGEST_REST_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Learned:
    """What one model refused one team.

    Attributes:
        fields: Of requests; `THOUGHTS` stands for thoughts of earlier turns.
        too_long_tokens: The shortest prompt that it found too long, as the gateway counts; None
            where it found none.
    """

    fields: frozenset[str] = frozenset()
    too_long_tokens: int | None = None


LEARNED_NOTHING: Final = Learned()
NOBODY_RESTS: Final[Mapping[Place, float]] = MappingProxyType({})
NOTHING_LEARNED: Final[Mapping[str, Learned]] = MappingProxyType({})


class Refusals:
    """What models refused, by team and model.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._teams: dict[str, dict[str, Learned]] = {}
        self._forgotten_at: dict[str, float] = {}
        self._rested_until: dict[str, dict[Place, float]] = {}

    def forget(self) -> None:
        """Know of no refusal any more."""
        self._teams.clear()
        self._forgotten_at.clear()
        self._rested_until.clear()

    def rest(self, team_id: str, place: Place, seconds: float) -> None:
        """Note that a provider asks the team to leave a model alone for so long."""
        if team_id not in self._rested_until and len(self._rested_until) >= MAX_TEAMS:
            del self._rested_until[next(iter(self._rested_until))]
        resting = self._rested_until.setdefault(team_id, {})
        resting[place] = self._clock() + min(seconds, LONGEST_REST_S)

    def resting(self, team_id: str) -> Mapping[Place, float]:
        """Return the places that the team shall leave alone, and for how many seconds more."""
        resting = self._rested_until.get(team_id)
        if not resting:
            return NOBODY_RESTS
        now_s = self._clock()
        return {place: until_s - now_s for place, until_s in resting.items() if until_s > now_s}

    def learn(
        self,
        team_id: str,
        model: str,
        refusal: ProviderError,
        sent: Container[str],
        prompt_tokens: int,
    ) -> bool:
        """Remember what `model` refused; True where it may be sent the same request made fit.

        Args:
            refusal: Where it is any other error, nothing is learned.
            sent: The fields that it was sent: what is not among them cannot be left out.
            prompt_tokens: Of the prompt that it was sent, as the gateway counts.
        """
        if not isinstance(refusal, ProviderUnsupported):
            return False
        known = self.of_model(team_id, model)
        if is_about_length(refusal):
            shortest = min(prompt_tokens, known.too_long_tokens or prompt_tokens)
            self._note(team_id, model, replace(known, too_long_tokens=shortest))
            return False
        field = THOUGHTS if is_about_thoughts(refusal) else refused_field(refusal)
        if field is None or not _is_lesson(field, refusal):
            return False
        fields = known.fields | {field}
        self._note(team_id, model, replace(known, fields=fields))
        if field in OUTPUT_LIMITS and fields.issuperset(OUTPUT_LIMITS):
            return False  # there is no name left to send it under
        return field not in REFUSABLE and field in sent

    def _note(self, team_id: str, model: str, learned: Learned) -> None:
        if team_id not in self._teams and len(self._teams) >= MAX_TEAMS:
            self._forget(next(iter(self._teams)))
        self._teams[team_id] = {**self._teams.get(team_id, {}), model: learned}
        self._forgotten_at[team_id] = self._clock() + KEPT_S

    def of_team(self, team_id: str) -> Mapping[str, Learned]:
        """Return what models refused this team, by their names."""
        if not self._teams:
            return NOTHING_LEARNED
        if self._forgotten_at.get(team_id, 0.0) <= self._clock():
            self._forget(team_id)
        return self._teams.get(team_id, NOTHING_LEARNED)

    def of_model(self, team_id: str, model: str) -> Learned:
        """Return what `model` refused this team."""
        return self.of_team(team_id).get(model, LEARNED_NOTHING)

    def _forget(self, team_id: str) -> None:
        self._teams.pop(team_id, None)
        self._forgotten_at.pop(team_id, None)


def _is_lesson(field: str, refusal: ProviderUnsupported) -> bool:
    """Whether a refusal says something of other requests too.

    Of a field that cannot be left out, a refused value says nothing of other values. Thinking can
    be asked for by a field of the same name as `THOUGHTS`; that one is no lesson.
    """
    if field == THOUGHTS:
        return is_about_thoughts(refusal)
    lasting: Collection[str] = () if refusal.is_about_value else REFUSABLE
    return field in DROPPABLE or field in OUTPUT_LIMITS or field in lasting
