"""Checks answers and tool calls against the JSON Schemas of their requests.

Schemas come from callers, and one of 2 kB can take hours. So a child process evaluates them, within
a limit of CPU time (`router_models.verifiers.child`), and a team whose schemas take long is not
served for a while: it uses a fiftieth of a core at most, and others hardly wait for it.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.exact_json import dumps
from gateway.grading.desk import Grade
from gateway.grading.exchange import Exchange
from gateway.grading.form import VERSION, asked_tools, decoded, wants_json
from router_models.verifiers.patterns import CostlyQuestion, Evaluator

MAX_SCHEMA_BYTES: Final = 32_768
MAX_VALUE_CHARS: Final = 100_000
MAX_QUESTIONS: Final = 8
"""Of one answer: of more tool calls the first ones are checked."""
LONG_S: Final = 0.02
REST: Final = 50.0
"""Times as long as a long question took, its team is left out."""
MAX_TEAMS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Question:
    """Whether a value fits a schema.

    Attributes:
        check: What the finding is called where it does not.
        weight: How bad that is.
    """

    check: str
    schema: Any
    value: Any
    weight: float


@dataclass(slots=True)
class SchemaGrader:
    """Grades answers down that do not fit the schemas they were asked for."""

    evaluator: Evaluator
    name: str = "schemas"
    concurrency: int = 1
    clock: Callable[[], float] = time.monotonic
    _rests_until_s: OrderedDict[str, float] = field(default_factory=OrderedDict)

    async def grade(self, exchange: Exchange) -> Sequence[Grade]:
        """Ask the child process, unless the team's schemas took long lately."""
        if not (wants_json(exchange.request.body) or exchange.answer.tool_calls):
            return []
        team_id = exchange.caller.team_id
        if self.clock() < self._rests_until_s.get(team_id, 0.0):
            return []
        return await asyncio.to_thread(self._ask_all, exchange, team_id)

    def _ask_all(self, exchange: Exchange, team_id: str) -> list[Grade]:
        weights: dict[str, float] = {}
        for question in questions(exchange):
            if not self._fits(question, team_id):
                weights[question.check] = max(weights.get(question.check, 0.0), question.weight)
            if team_id in self._rests_until_s:
                break
        return [Grade("check", name, 0.0, weight, VERSION) for name, weight in weights.items()]

    def _fits(self, question: Question, team_id: str) -> bool:
        """Whether a value fits its schema; True where there is no verdict."""
        self.evaluator.ask({"schema": True})  # which starts the child, and costs the team nothing
        self._rests_until_s.pop(team_id, None)
        began_s = self.clock()
        try:
            return self.evaluator.ask({"schema": question.schema, "value": question.value})
        except CostlyQuestion:
            return True
        except ValueError:  # no schema, or not of a kind that is checked
            return True
        finally:
            took_s = self.clock() - began_s
            if took_s > LONG_S:
                self._rests_until_s[team_id] = self.clock() + REST * took_s
                if len(self._rests_until_s) > MAX_TEAMS:
                    self._rests_until_s.popitem(last=False)


def questions(exchange: Exchange) -> Iterator[Question]:
    """List what is to be checked of an answer; what is too long, or no JSON, is not."""
    answer, body = exchange.answer, exchange.request.body
    if not answer.is_whole:
        return
    if not answer.tool_calls:
        asked = body.get("response_format")
        wanted = asked.get("json_schema") if isinstance(asked, dict) else None
        if isinstance(wanted, dict):
            weight = 0.95 if wanted.get("strict") else 0.8
            yield from _question("json_schema", wanted.get("schema"), answer.text, weight)
    schemas = asked_tools(body)
    for call in answer.tool_calls[:MAX_QUESTIONS]:
        schema = schemas.get(call.name)
        yield from _question("tool_schema", schema, call.arguments or "{}", 0.9)


def _question(check: str, schema: Any, text: str, weight: float) -> Iterator[Question]:
    if not isinstance(schema, dict) or len(text) > MAX_VALUE_CHARS:
        return
    if len(dumps(schema)) > MAX_SCHEMA_BYTES:
        return
    try:
        yield Question(check, schema, decoded(text), weight)
    except ValueError:
        return  # which `gateway.grading.form` finds
