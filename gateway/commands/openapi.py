"""`waypost openapi`: print the callers' API as an OpenAPI document."""

import click
import orjson

from gateway.commands.options import settings_option
from gateway.endpoints.openapi import describe
from gateway.settings.config import GatewaySettings


@click.command()
@settings_option
def command(settings: GatewaySettings) -> None:
    """Print the callers' API as an OpenAPI document, with the endpoints that pass through."""
    document = describe(settings.passthrough.values())
    click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
