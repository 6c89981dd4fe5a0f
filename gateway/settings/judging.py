"""The settings of judges and of shadow answers: both are off unless they are configured."""

from typing import Annotated

from pydantic import Field

from gateway.settings.base import Settings

UsdPerDay = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


class JudgeSettings(Settings):
    """Models that grade answers, for teams that opted in (`waypost teams update TEAM --judge`)."""

    models: Annotated[
        tuple[str, ...],
        Field(
            description="Names of models of the pool that grade answers, the preferred one first. "
            "A model grades an answer of its own only where none of the others can. Empty, and no "
            "answer is graded by a model."
        ),
    ] = ()
    share: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Share of the answers that are graded, from 0 to 1, drawn at random.",
        ),
    ] = 0.1
    cap_usd_per_day: Annotated[
        UsdPerDay,
        Field(
            description="USD that judges may cost per calendar day in UTC, over all teams and "
            "gateways. The worst case of each call is reserved first. A call that does not fit is "
            "not made; callers never notice."
        ),
    ] = 1.0
    max_completion_tokens: Annotated[
        int,
        Field(
            gt=0,
            description="Completion tokens that a judge may write per verdict. A verdict takes 40; "
            "a judge that thinks first needs more, and one that is cut off has given none.",
        ),
    ] = 1024
    max_chars: Annotated[
        int,
        Field(
            ge=300,
            description="Characters of a conversation, and of each answer, that a judge reads. Of "
            "longer ones the middle is left out.",
        ),
    ] = 24_000
    timeout_s: Annotated[
        float,
        Field(
            gt=0,
            description="Seconds that a verdict or a shadow answer may take. Callers do not wait "
            "for it.",
        ),
    ] = 60.0


class ShadowSettings(Settings):
    """Second answers by another model, which callers do not see and a judge compares."""

    share: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Share of routed turns that a second model is asked too, from 0 to 1. It "
            "needs a judge, and counts for teams that let answers be judged. 0 asks none.",
        ),
    ] = 0.0
    cap_usd_per_day: Annotated[
        UsdPerDay,
        Field(
            description="USD that shadow answers may cost per calendar day in UTC, over all teams "
            "and gateways; their verdicts count under the judge's cap. No budget of a caller is "
            "charged."
        ),
    ] = 1.0
    uniform_share: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="Share of the odds that all suitable models get alike, above 0 to 1. The "
            "rest goes to models whose quality is least certain. It bounds every model's odds from "
            "below.",
        ),
    ] = 0.3
