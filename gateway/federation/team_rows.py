"""The evaluation log of the teams that take part in a federation."""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Engine

from gateway.evaluation_log.log_export import DatabaseRows, EvaluationRow, Selection


@dataclass(frozen=True, slots=True)
class TeamsRows:
    """What a `federation.node.gateway_site.EvaluationLog` is; `team_ids` None means all teams."""

    engine: Engine
    team_ids: tuple[str, ...] | None

    def latest(self, rows: int, encoder_id: str) -> Iterator[list[EvaluationRow]]:
        """Yield the latest `rows` graded answers to queries that this encoder embedded."""
        selection = Selection(team_ids=self.team_ids, encoder_id=encoder_id)
        return DatabaseRows(self.engine).iter_latest(rows, selection)
