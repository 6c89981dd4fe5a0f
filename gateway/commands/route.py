"""`waypost route`: a dry run from the command line, without a running gateway."""

import asyncio

import click
import orjson

from gateway.commands.options import settings_option, willingness_option
from gateway.endpoints.public import explain
from gateway.errors import GatewayError
from gateway.routing.opening import open_routing
from gateway.routing.plan import AUTO, NOT_IN_ROUTER, ROUTER_MISSING, RoutePlan
from gateway.settings.config import GatewaySettings, process_environment
from gateway.types import Caller
from gateway.wire import parse_chat_request
from router_models.errors import RouterModelsError

OPERATOR = Caller(key_id="operator", team_id="operator")


@click.command()
@settings_option
@click.argument("text")
@click.option(
    "--model",
    default=AUTO,
    show_default=True,
    help="Model to ask for: `auto` or a routing profile.",
)
@willingness_option
@click.option("--router", "version", help="Router version to use instead of the active one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, as POST /v1/route answers.")
def command(
    settings: GatewaySettings,
    text: str,
    model: str,
    willingness_to_pay: float | None,
    version: str | None,
    *,
    as_json: bool,
) -> None:
    """Show which model the router would choose for TEXT, and what it expects of each."""
    options = {"willingness_to_pay": willingness_to_pay, "router_version": version}
    body = {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "waypost": {name: value for name, value in options.items() if value is not None},
    }
    try:
        plan = asyncio.run(_plan(settings, orjson.dumps(body)))
    except (GatewayError, RouterModelsError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(orjson.dumps(explain(plan), option=orjson.OPT_INDENT_2))
    else:
        _print(plan)


async def _plan(settings: GatewaySettings, body: bytes) -> RoutePlan:
    async with open_routing(settings, process_environment()) as routing:
        request = parse_chat_request(body, {})
        return routing.choose(await routing.predict(request, OPERATOR, with_stderr=True))


def _print(plan: RoutePlan) -> None:
    if plan.candidates:
        _print_candidates(plan)
    familiar = "" if plan.familiarity is None else f", familiarity {plan.familiarity:.2f}"
    click.echo(
        f"{plan.models[0].name} ({plan.reason}; router {plan.router_version or 'none'}{familiar})"
    )
    if plan.reason == ROUTER_MISSING and _is_unknown(plan):
        click.echo("The router knows no model that can answer this, so the default model does.")


def _is_unknown(plan: RoutePlan) -> bool:
    return any(candidate.verdict == NOT_IN_ROUTER for candidate in plan.candidates)


def _print_candidates(plan: RoutePlan) -> None:
    width = max((len(candidate.model) for candidate in plan.candidates), default=0)
    click.echo(f"  {'model':<{width}}  quality  USD/1000  utility  propensity  verdict")
    for candidate in plan.candidates:
        mark = "*" if candidate.model == plan.models[0].name else " "
        cost = None if candidate.cost_usd is None else candidate.cost_usd * 1000
        figures = f"{_figure(candidate.quality, 7)}  {_figure(cost, 8)}"
        figures += f"  {_figure(candidate.utility, 7)}  {candidate.propensity:>10.3f}"
        click.echo(f"{mark} {candidate.model:<{width}}  {figures}  {candidate.verdict}")


def _figure(value: float | None, width: int) -> str:
    return f"{'-' if value is None else format(value, '.4g'):>{width}}"
