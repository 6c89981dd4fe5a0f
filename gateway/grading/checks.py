"""Has the form of answers checked off the event loop."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.grading.desk import SHORT, Grade, at_once
from gateway.grading.exchange import Exchange
from gateway.grading.form import grades_of_form
from gateway.grading.languages import Languages
from gateway.grading.phrases import Phrases
from gateway.long_work import LongWork


@dataclass(frozen=True, slots=True)
class FormGrader:
    """Grades answers by their form."""

    phrases: Phrases
    languages: Languages
    work: LongWork
    name: str = "form"
    concurrency: int = 1

    async def grade(self, exchange: Exchange) -> Sequence[Grade]:
        """Check one answer, a long one in a thread."""
        check = self.work.aside if exchange.answer.n_chars > SHORT else at_once
        return await check(grades_of_form, exchange, self.phrases, self.languages)
