"""The settings of routing: how the model `auto` and the profiles choose."""

from typing import Annotated, Literal

from pydantic import Field

from gateway.settings.base import Settings

AUTO_MAX_REGRET_USD_PER_DAY = 0.25


class ExplorationSettings(Settings):
    """How often the router tries a model that it does not predict to be best.

    Exploration costs quality now. It gives later routers unbiased rows to learn from.
    """

    kind: Annotated[
        Literal["auto", "off", "epsilon", "thompson", "uncertainty"],
        Field(
            description="`off` always takes the model of the best predicted utility. `epsilon` "
            "draws one of all suitable models at random in a fixed share of requests. `thompson` "
            "tries models more often the less certain their prediction is. `uncertainty` does so "
            "too, in proportion to the probability that a model beats the best one, for less CPU. "
            "`auto` is `uncertainty` as long as the log shows a grade of the last day, else `off`."
        ),
    ] = "auto"
    max_regret_usd_per_day: Annotated[
        float | None,
        Field(
            ge=0,
            allow_inf_nan=False,
            description="USD that exploration may be expected to lose within any 24 hours: the "
            "difference of predicted utilities between the best model and the one that is tried, "
            "times the willingness to pay. A quarter of it can be saved up, the rest comes in "
            "evenly. When it is spent, the best model is taken. Processes and replicas with "
            '`budgets.store = "redis"` share it, and lose at most half of it in a day of UTC; '
            "without Redis each gateway has its own. By default "
            f"{AUTO_MAX_REGRET_USD_PER_DAY} with `auto`, and at most 1 % of what the answers are "
            "expected to be worth (their utility times the willingness to pay); else no limit.",
        ),
    ] = None
    epsilon: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="Share of requests whose model is drawn at random, from 0 to 1. Used by "
            "`epsilon`, and by the other kinds with a router that does not predict its own "
            "uncertainty.",
        ),
    ] = 0.05

    @property
    def regret_cap_usd(self) -> float | None:
        """What exploration may lose in a day; None is without a limit."""
        if self.max_regret_usd_per_day is None and self.kind == "auto":
            return AUTO_MAX_REGRET_USD_PER_DAY
        return self.max_regret_usd_per_day


class ProfileSettings(Settings):
    """A named trade-off between quality and cost. Callers use its name as the model."""

    willingness_to_pay_usd: Annotated[
        float,
        Field(
            gt=0,
            allow_inf_nan=False,
            description="USD that an answer of quality 1 is worth more than one of quality 0. "
            "The model with the largest predicted `quality - cost / willingness_to_pay_usd` is "
            "chosen, so a larger value chooses better and dearer models.",
        ),
    ]
    models: Annotated[
        list[str] | None,
        Field(description="Names of the models to choose from. By default all models."),
    ] = None
    turn_budget_tokens: Annotated[
        int | None,
        Field(
            gt=0,
            description="Completion tokens of a conversation under this profile. By default "
            "`turn_budgets.tokens_per_conversation`.",
        ),
    ] = None


class RoutingSettings(Settings):
    """How `auto` chooses a model."""

    default_model: Annotated[
        str | None,
        Field(
            description="Model that answers `auto` when the router fails, or when neither a "
            "router nor the prior (`prior`) knows a model that can answer. "
            "By default the first model of the pool."
        ),
    ] = None
    default_profile: Annotated[
        str,
        Field(
            description="Profile of requests for `auto`, unless the caller's key has another one."
        ),
    ] = "balanced"
    encoder: Annotated[
        Literal["static", "minilm", "auto"],
        Field(
            description="Encoder that turns queries into vectors. `static` is fast and needs no "
            "further package. `minilm` has a smaller prediction error, adds about 2 ms to a new "
            "query and needs onnxruntime. `auto` is `minilm` where onnxruntime is installed, else "
            "`static`. A router serves only with the encoder that it was trained with."
        ),
    ] = "static"
    embedding_cache_entries: Annotated[
        int,
        Field(
            ge=0,
            description="Queries whose vectors are kept in memory, so that a repeated query is not "
            "encoded again. An entry takes about 1 KB. 0 keeps none.",
        ),
    ] = 10_000
    artifact_poll_s: Annotated[
        float,
        Field(
            gt=0,
            description="Seconds between two checks for a newly activated router or policy, and "
            "so the longest time until every gateway serves it.",
        ),
    ] = 1.0
    prior: Annotated[
        bool,
        Field(
            description="Whether models that no router knows are predicted by what public "
            "evaluations say of them, or else of models of their price and family, and by the "
            "grades that the log collects. `false` leaves `auto` to `default_model` until a router "
            "knows a model of the pool."
        ),
    ] = True
    prompt_caches: Annotated[
        bool,
        Field(
            description="Whether expected costs count what the providers' prompt caches hold of a "
            "conversation, and what leaving a warm cache costs its later turns. Each process "
            "remembers the latest 10,000 prompts of 1,024 tokens or more that it routed (7 MB). "
            "`false` prices every prompt as if no provider had seen any of it."
        ),
    ] = True
    exploration: ExplorationSettings = ExplorationSettings()


DEFAULT_PROFILES = {
    "economy": ProfileSettings(willingness_to_pay_usd=0.001),
    "balanced": ProfileSettings(willingness_to_pay_usd=0.02),
    "quality": ProfileSettings(willingness_to_pay_usd=1.0),
}
