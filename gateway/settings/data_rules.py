"""The settings of data rules: what a model needs, so that some data may go to it."""

from typing import Annotated

from pydantic import Field, StringConstraints

from gateway.settings.base import Settings

Attribute = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$")]
"""What an operator says of where and how a model is hosted, such as ``eu``."""


class DataRuleSettings(Settings):
    """A rule that teams, keys and requests can be held to, by the table's name."""

    requires: Annotated[
        tuple[Attribute, ...],
        Field(
            min_length=1,
            description="Attributes that a model must have, all of them, so that data under this "
            "rule may go to it. A model has those of its provider and its own.",
        ),
    ]
