"""What the log holds for the learner: how much is new, and the rows themselves."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
from sqlalchemy import Engine, and_, func, or_, select

from gateway.evaluation_log.grades import ANSWER_IDS
from gateway.evaluation_log.log_export import ASKED, DatabaseRows, EvaluationRow, Selection
from migrations.tables import GRADES, TURNS
from router_models.artifacts.sealed_file import EncoderIdentity, RequestEncoder
from router_models.evaluation.log_rows import LoggedRows, read_log_rows
from router_models.evaluation.off_policy import LoggedChoices
from router_models.types import Evaluations


@dataclass(slots=True, eq=False)
class Evidence:
    """Reads graded answers that `encoder` embedded.

    Attributes:
        max_rows: The latest ones; older ones are not read.
        log: Measures the judges once for each look.
    """

    engine: Engine
    encoder: EncoderIdentity
    max_rows: int
    log: DatabaseRows = field(init=False)

    def __post_init__(self) -> None:
        """Begin the first look."""
        self.look_anew()

    def look_anew(self) -> None:
        """Have the judges measured again when rows are read next."""
        self.log = DatabaseRows(self.engine)

    def new_grades(self, since: datetime | None) -> tuple[int, datetime | None]:
        """Count the grades after `since`; returns the time of the last of all grades, too.

        What checks and signals say of nearly every answer is not counted: it is not learned from.
        """
        asked = GRADES.c.source.in_(ASKED)
        count = select(func.count()).select_from(GRADES).where(asked)
        if since is not None:
            count = count.where(GRADES.c.created_at > since)
        with self.engine.connect() as connection:
            newest = select(func.max(GRADES.c.created_at)).where(asked)
            last = connection.execute(newest).scalar()
            return int(connection.execute(count).scalar_one()), last

    def first_graded_at(self) -> datetime | None:
        """Say when the first grade was given that is learned from; None where there is none."""
        query = select(func.min(GRADES.c.created_at)).where(GRADES.c.source.in_(ASKED))
        with self.engine.connect() as connection:
            first: datetime | None = connection.execute(query).scalar()
            return first

    def rows(self, since: datetime | None = None) -> LoggedRows:
        """Read the latest graded answers, of turns after `since` alone where it is given."""
        selection = Selection(since=since, encoder_id=self.encoder.id)
        batches = self.log.iter_latest(self.max_rows, selection)
        return read_log_rows(batches, RequestEncoder.of(self.encoder).dimension, self.max_rows)

    def choices_since(self, time: datetime, *, is_shared: bool = False) -> LoggedChoices:
        """Read the answers to turns after `time` whose model was drawn at random.

        In the order in which they were graded first. So a later look sees the same answers in the
        same order, and more behind them, which is what a test that is repeated rests on.

        Args:
            time: When the first turn of these began.
            is_shared: Drawn by two routers that shared the turns among them.
        """
        graded_at = self._graded_at(time)
        if is_shared:
            # Routers are drawn for conversations. Whoever stays in one does not draw again, so
            # later turns would let one caller's word count as often as it pleases.
            first = self._begin_conversations(time)
            graded_at = {name: at for name, at in graded_at.items() if name in first}
        rows = [row for row in self._since(time) if row.request_id in graded_at]
        rows.sort(key=lambda row: (graded_at[row.request_id], row.request_id))
        # All are held out: the routers that they are to compare were made before.
        held_out = [replace(row, split="test") for row in rows]
        width = RequestEncoder.of(self.encoder).dimension
        most = max(len(held_out), 1)
        return read_log_rows([held_out], width, most, is_shared=is_shared).choices()

    def _since(self, time: datetime) -> Iterator[EvaluationRow]:
        selection = Selection(since=time, encoder_id=self.encoder.id)
        for number, batch in enumerate(self.log.iter_evaluations(selection)):
            if number * len(batch) >= self.max_rows:
                return
            yield from batch

    def _begin_conversations(self, time: datetime) -> set[str]:
        """Return the first turns after `time` of each conversation, and those that are of none."""
        query = (
            select(TURNS.c.request_id, TURNS.c.team_id, TURNS.c.conversation_id)
            .where(TURNS.c.started_at >= time)
            .order_by(TURNS.c.started_at, TURNS.c.request_id)
        )
        first: dict[tuple[str, str], str] = {}
        with self.engine.connect() as connection:
            for request_id, team_id, conversation in connection.execute(query):
                first.setdefault((team_id, conversation or request_id), request_id)
        return set(first.values())

    def _graded_at(self, time: datetime) -> dict[str, datetime]:
        """Return when each answer to a turn after `time` was graded first."""
        is_of_answer = and_(
            or_(*(GRADES.c.answer_id == column for column in ANSWER_IDS)),
            GRADES.c.team_id == TURNS.c.team_id,
        )
        query = (
            select(TURNS.c.request_id, func.min(GRADES.c.created_at))
            .join(GRADES, is_of_answer)
            .where(TURNS.c.started_at >= time, GRADES.c.source.in_(ASKED))
            .group_by(TURNS.c.request_id)
        )
        with self.engine.connect() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}


def fingerprint(rows: LoggedRows) -> str:
    """Name these very rows, so that nothing is tried on them twice."""
    digest = hashlib.sha256()
    weight = () if rows.weight is None else (rows.weight,)
    for column in (rows.embeddings, rows.query, rows.model, rows.score, rows.cost_usd, *weight):
        digest.update(column.tobytes())
    return digest.hexdigest()[:16]


def no_answers(choices: LoggedChoices) -> Evaluations:
    """Return a table without rows: what neither router knows, nothing is expected of."""
    nothing = np.zeros((0, len(choices.models)), np.float32)
    embeddings = np.zeros((0, choices.embeddings.shape[1]), np.float32)
    return Evaluations(embeddings, nothing, nothing, choices.models)
