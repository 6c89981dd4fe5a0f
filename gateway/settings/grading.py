"""Settings of grades that the gateway gives by itself."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from gateway.settings.base import Settings
from gateway.settings.judging import JudgeSettings, ShadowSettings


class GradingSettings(Settings):
    """Grades that the gateway gives by itself, off the request path, without keeping any text."""

    checks: Annotated[
        bool,
        Field(
            description="Check the form of every answer: JSON and tool calls against the schemas "
            "that the request has, answers that are cut off, empty, refused, in a loop or in "
            "another language. They cost no model calls, 0.1 ms of CPU and a row of the log for "
            "each answer. Routers learn nothing from them by default: `waypost log export "
            "--with-checks` shows them."
        ),
    ] = False
    signals: Annotated[
        bool,
        Field(
            description="Grade an answer by the next request of its conversation: the same tool "
            "call again, a tool's error, a correction, the same question in other words, thanks. "
            "They cost what checks cost, and routers learn as little from them."
        ),
    ] = False
    memory_bytes: Annotated[
        int,
        Field(
            gt=0,
            description="Memory in bytes of the answered requests that wait to be graded; one team "
            "may use half of it. What exceeds it is not graded, and is counted in "
            "`waypost_grading_dropped_total`.",
        ),
    ] = 64 * 1024 * 1024
    judge: JudgeSettings = JudgeSettings()
    shadow: ShadowSettings = ShadowSettings()

    @model_validator(mode="after")
    def _shadows_are_judged(self) -> Self:
        if self.shadow.share and not self.judge.models:
            raise ValueError("shadow.share needs judge.models: nobody else sees the second answers")
        return self
