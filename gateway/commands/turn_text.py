"""A turn of the log as `waypost log show` prints it."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from budget.ledger.amounts import NUSD_PER_USD

WIDTH = 12


def turn_text(turn: Mapping[str, Any]) -> str:
    """Write what `gateway.evaluation_log.one_turn.find_turns` returned, a line for each thing."""
    lines = [("request", turn["request_id"])]
    if "route" in turn:
        lines += [*_ids(turn), *_route(turn["route"]), *_end(turn)]
    else:
        lines.append(("whose", _whose(turn)))
    lines += _money(turn["money"])
    for grade in turn.get("grades", ()):
        said = f"{grade['score']:g} of {grade['source']} {grade['grader']}"
        lines.append(("grade", f"{said}, weight {grade['weight']:g}"))
    return "\n".join(f"{name:{WIDTH}}{text}" for name, text in lines)


def usd(nusd: int | None) -> str:
    """Write nano-USD as USD, exactly."""
    return "unknown" if nusd is None else f"{Decimal(nusd) / NUSD_PER_USD:.9f} USD"


def _ids(turn: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield "decision", turn["decision_id"]
    for name, column in (("answer", "answer_id"), ("trace", "trace_id")):
        if turn[column] is not None:
            yield name, turn[column]
    yield "when", f"{turn['started_at']:%Y-%m-%d %H:%M:%S.%f} UTC"
    yield "whose", _whose(turn)
    if turn["conversation_id"] is not None:
        yield "conversation", f"{turn['conversation_id']}, turn {turn['turn_index']}"
    if turn["metadata"]:
        yield "metadata", ", ".join(f"{name}={text}" for name, text in turn["metadata"].items())


def _whose(turn: Mapping[str, Any]) -> str:
    user = "" if turn["user_digest"] is None else f", user {turn['user_digest']}"
    return f"team {turn['team_id']}, key {turn['key_id']}{user}"


def _route(route: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield "asked for", route["requested_model"]
    yield "chosen", f"{route['chosen_model'] or 'none'}: {route['why']} ({route['route_reason']})"
    if route["served_model"] is not None:
        fallback = "" if route["served_model"] == route["chosen_model"] else ", a fallback"
        yield "served by", f"{route['served_model']} at {route['provider']}{fallback}"
    if route["router_version"] is not None:
        worth = route["willingness_to_pay_usd"]
        paying = "" if worth is None else f", willing to pay {worth:g} USD"
        yield "router", f"{route['router_version']}{paying}, propensity {route['propensity']:g}"
    if route["data_rules"] is not None:
        yield "data rules", route["data_rules"]
    if route["candidates"]:
        yield "candidates", _candidates(route["candidates"])


def _candidates(candidates: Iterable[Mapping[str, Any]]) -> str:
    columns = ("quality", "cost_usd", "utility", "propensity")
    rows = [("model", *columns, "verdict")]
    for one in candidates:
        figures = ("-" if one[name] is None else f"{one[name]:.4g}" for name in columns)
        rows.append((one["model"], *figures, one["verdict"]))
    width = max(len(row[0]) for row in rows)
    lines = (f"{row[0]:{width}}" + "".join(f"  {cell:>10}" for cell in row[1:]) for row in rows)
    return f"\n{' ' * WIDTH}".join(lines)


def _end(turn: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    outcome, times, usage = turn["outcome"], turn["times"], turn["usage"]
    ended = outcome["error"] or f"answered ({outcome['finish_reason']})"
    yield "outcome", f"{ended}, {outcome['attempts']} attempts"
    parts = {"gateway": times["gateway_s"], "first byte": times["first_byte_s"]}
    known = [f"{name} {value:.4f} s" for name, value in parts.items() if value is not None]
    yield "times", ", ".join([*known, f"whole {times['latency_s']:.4f} s"])
    if usage["prompt_tokens"] is not None:
        yield "tokens", _tokens(usage)
    budget = turn["turn_budget"]
    if budget["policy_version"] is not None:
        of = f"{budget['allotted_tokens']} of {budget['budget_tokens']} tokens"
        yield "turn budget", f"{of}, by {budget['policy_version']}"


def _tokens(usage: Mapping[str, Any]) -> str:
    cached, written = usage["cached_tokens"] or 0, usage["cache_write_tokens"] or 0
    prompt = f"{usage['prompt_tokens']} prompt ({cached} from the cache, {written} written to it)"
    estimated = ", estimated" if usage["is_estimated"] else ""
    return f"{prompt}, {usage['completion_tokens']} completion{estimated}"


def _money(money: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    given_up = money["given_up_nusd"]
    part = f", of which {usd(given_up)} for calls that were given up" if given_up else ""
    yield "charged", f"{usd(money['charged_nusd'])}{part}"
    for one in money["reservations"]:
        of = f"{one['model'] or 'no model'} {one['outcome']} ({one['request_id']})"
        yield "reserved", f"{usd(one['held_nusd'])}, charged {usd(one['charged_nusd'])}: {of}"
