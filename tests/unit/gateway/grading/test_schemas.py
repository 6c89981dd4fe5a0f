"""Answers against the schemas that their callers asked for."""

import pytest

from gateway.grading.exchange import Exchange
from gateway.grading.schemas import SchemaGrader
from router_models.verifiers.patterns import CostlyQuestion, Evaluator
from tests.fakes.exchanges import WEATHER, make_exchange

PERSON = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


def asking(schema: object, text: str, **more: object) -> Exchange:
    wanted = {"name": "person", "schema": schema, **more}
    return make_exchange(text, response_format={"type": "json_schema", "json_schema": wanted})


@pytest.fixture(scope="module")
def evaluator():
    evaluator = Evaluator()
    yield evaluator
    evaluator.close()


@pytest.fixture
def grader(evaluator):
    # A clock that stands still: no question takes long.
    return SchemaGrader(evaluator, clock=lambda: 0.0)


FAILS = {
    "json_schema": asking(PERSON, '{"age": "old"}', strict=True),
    "tool_schema": make_exchange("", ("weather", '{"town": "Rome"}'), tools=[WEATHER]),
}


@pytest.mark.parametrize(("name", "exchange"), FAILS.items(), ids=FAILS)
async def test_what_does_not_fit_is_graded_down(grader, name, exchange):
    (grade,) = await grader.grade(exchange)

    assert (grade.source, grade.grader, grade.score) == ("check", name, 0.0)
    assert grade.weight >= 0.9


SAYS_NOTHING = {
    "a fitting answer": asking(PERSON, '{"age": 7}'),
    "a fitting call": make_exchange("", ("weather", '{"city": "Rome"}'), tools=[WEATHER]),
    "no schema": make_exchange("hello"),
    "no JSON, which the form shows": asking(PERSON, "seven"),
    "no such schema": asking({"type": "persona"}, "{}"),
    "a schema elsewhere": asking({"$ref": "http://192.0.2.1/person.json"}, "{}"),
    "a long schema": asking({"enum": ["x" * 40_000]}, "{}"),
    "a long number": asking({"minimum": 10**40}, "{}"),
    "half of a stream": make_exchange(
        "{}",
        response_format={"type": "json_schema", "json_schema": {"schema": PERSON}},
        is_whole=False,
    ),
    "an unknown tool, which the form shows": make_exchange("", ("wind", "{}"), tools=[WEATHER]),
}


@pytest.mark.parametrize("exchange", SAYS_NOTHING.values(), ids=SAYS_NOTHING)
async def test_says_nothing_of(grader, exchange):
    assert await grader.grade(exchange) == []


class Slow(Evaluator):
    """An evaluator for which some schemas take half a second of the test's clock."""

    def __init__(self, now_s: list[float]) -> None:
        super().__init__()
        self.now_s, self.asked = now_s, 0

    def ask(self, question):
        if question["schema"] is True:
            return True
        self.asked += 1
        if question["schema"] == {"title": "slow"}:
            self.now_s[0] += 0.5
            raise CostlyQuestion("it takes more than 0.5 s of CPU time")
        return False


async def test_a_team_whose_schemas_take_long_is_left_out_for_a_while_and_no_other():
    now_s = [0.0]
    evaluator = Slow(now_s)
    grader = SchemaGrader(evaluator, clock=lambda: now_s[0])
    slow = asking({"title": "slow"}, "{}")

    assert await grader.grade(slow) == []
    assert await grader.grade(slow) == []
    assert evaluator.asked == 1
    other = make_exchange("", ("weather", "{}"), tools=[WEATHER], team_id="other")
    assert len(await grader.grade(other)) == 1
    now_s[0] += 26.0
    await grader.grade(slow)
    assert evaluator.asked == 3
