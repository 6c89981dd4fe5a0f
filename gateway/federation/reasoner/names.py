"""Names that an adapter can be offered by."""

import re
from typing import Final

import click

from gateway.embedded.variants import embedded_models
from gateway.routing.plan import AUTO
from gateway.settings.config import GatewaySettings

NAME: Final = re.compile(r"[\x21-\x7e]{1,128}")
"""What fits into a header and a path."""


def require_free(settings: GatewaySettings, name: str) -> None:
    """Refuse a name that something else has, or that cannot be one.

    Raises:
        click.UsageError: It is refused.
    """
    if NAME.fullmatch(name) is None:
        raise click.UsageError("--name: 1 to 128 letters, digits and signs, without spaces")
    if name in {AUTO, *settings.all_profiles}:
        raise click.UsageError(f"--name: {name!r} is a routing profile")
    if name in {*settings.models, *embedded_models()}:
        raise click.UsageError(f"--name: {name!r} is another model's")
