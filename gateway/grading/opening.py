"""Makes the graders that the settings ask for, and the desk that hands turns to them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from gateway.evaluation_log.grades import GradeLog
from gateway.grading.checks import FormGrader
from gateway.grading.desk import Grader, GradingDesk
from gateway.grading.languages import load_languages
from gateway.grading.next_turn import NextTurnGrader
from gateway.grading.phrases import load_phrases
from gateway.grading.schemas import SchemaGrader
from gateway.long_work import LongWork
from gateway.settings.grading import GradingSettings
from router_models.verifiers.patterns import Evaluator


@asynccontextmanager
async def open_grading(
    settings: GradingSettings, log: GradeLog, also: Sequence[Grader] = ()
) -> AsyncIterator[GradingDesk | None]:
    """Run the graders; None where none is on. Leaving grades what still waits.

    Args:
        log: Where grades go; it must outlive this context.
        also: Graders that are on, beside those of the settings.
    """
    graders: list[Grader] = [*also]
    work, evaluator = LongWork(), Evaluator()
    if settings.checks:
        graders.append(FormGrader(load_phrases(), load_languages(), work))
        graders.append(SchemaGrader(evaluator))
    if settings.signals:
        graders.append(NextTurnGrader(load_phrases(), work))
    if not graders:
        yield None
        return
    desk = GradingDesk(log, graders, max_bytes=settings.memory_bytes, work=work)
    desk.start()
    try:
        yield desk
    finally:
        await desk.aclose()
        await asyncio.to_thread(evaluator.close)
