"""The settings of prices."""

from typing import Annotated

from pydantic import Field

from gateway.settings.base import Settings


class RateSettings(Settings):
    """What tokens cost, in USD per million."""

    input_usd_per_mtok: Annotated[
        float, Field(ge=0, description="USD per million tokens of the prompt.")
    ]
    output_usd_per_mtok: Annotated[
        float, Field(ge=0, description="USD per million tokens of the answer.")
    ]
    cached_input_usd_per_mtok: Annotated[
        float | None,
        Field(
            ge=0,
            description="USD per million prompt tokens that the provider read from its cache. "
            "By default they cost as much as any other.",
        ),
    ] = None
    cache_write_usd_per_mtok: Annotated[
        float | None,
        Field(
            ge=0,
            description="USD per million prompt tokens that the provider wrote to its cache. "
            "By default they cost as much as any other.",
        ),
    ] = None
    cache_write_1h_usd_per_mtok: Annotated[
        float | None,
        Field(
            ge=0,
            description="USD per million prompt tokens that the provider wrote to its cache for an "
            "hour, as Anthropic does if asked to. By default they cost as much as other writes.",
        ),
    ] = None


class TierSettings(RateSettings):
    """The price of calls with long prompts, where the provider charges more for them.

    The table is repeated, `[[models.NAME.price.tiers]]`, for each step of the price. The whole call
    is charged at the price of the last step that its prompt is above, answer included.
    """

    above_prompt_tokens: Annotated[
        int,
        Field(gt=0, description="The price applies to calls with more tokens of prompt than this."),
    ]


class PriceSettings(RateSettings):
    """The price of a model in USD per million tokens. It replaces the price of the catalogue."""

    tiers: tuple[TierSettings, ...] = ()
    search_unit_usd: Annotated[
        float | None,
        Field(
            ge=0,
            description="USD that a rerank model charges for each search unit (a query with up to "
            "100 documents), as Cohere does, beside what its tokens cost. By default nothing.",
        ),
    ] = None
