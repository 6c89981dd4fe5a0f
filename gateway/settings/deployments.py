"""The settings of models that are called at several places."""

from typing import Annotated

from pydantic import Field

from gateway.settings.base import Settings
from gateway.settings.prices import PriceSettings


class DeploymentSettings(Settings):
    """One of several places where a model is called; the table is repeated for each.

    Deployments of one model are the same model at other providers, regions or keys. A call that
    fails at one of them goes to the next at once, before any other model is thought of.
    """

    provider: Annotated[
        str, Field(description="Name of the `[providers.NAME]` table that hosts it here.")
    ]
    upstream_name: Annotated[
        str | None,
        Field(
            description="Name of the model at this provider. By default the model's "
            "`upstream_name`, or the name of its table."
        ),
    ] = None
    weight: Annotated[
        float,
        Field(
            ge=0,
            allow_inf_nan=False,
            description="Its share of the calls, relative to others of the same `priority`. A "
            "place that has less than half as much to do is called instead of the one that is "
            "due. 0 drains it: it is called only where no other can be.",
        ),
    ] = 1.0
    priority: Annotated[
        int,
        Field(
            ge=0,
            description="Those with the lowest number are called first; others only where these "
            "fail, are at their rate limit or have an open circuit breaker.",
        ),
    ] = 0
    price: Annotated[
        PriceSettings | None,
        Field(description="What it costs here. By default the model's price."),
    ] = None
