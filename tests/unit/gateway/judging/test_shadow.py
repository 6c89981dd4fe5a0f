"""Second answers: drawn with known odds, unseen by callers, rows that routers learn from."""

from collections import Counter
from typing import Any

import orjson
import pytest

from gateway.errors import ProviderUnavailable
from gateway.judging.shadow import odds_of, second_request
from gateway.routing.capabilities import NO_TOOLS
from gateway.settings.judging import ShadowSettings
from gateway.wire import NO_OPTIONS, parse_chat_request
from router_models.errors import NoModelAvailable
from tests.fakes.chat import request
from tests.fakes.judging import CODE, JUDGED, Predicted, exchange, make_grader, verdict

ALWAYS = ShadowSettings(share=1.0)
FUNCTION = {"type": "function", "function": {"name": "look", "parameters": {}}}


def preferring(text: str) -> Any:
    """Play a judge that scores all alike and prefers the answer `text` wherever it stands."""

    def says(asked) -> str:
        prompt = asked.body["messages"][-1]["content"]
        is_first = prompt.find(text) < prompt.find("BEGIN ANSWER B")
        fields = {"id": CODE, "score": 0.5, "better": "A" if is_first else "B"}
        return orjson.dumps(fields).decode()

    return says


async def test_both_answers_are_graded_and_a_preferred_second_one_higher() -> None:
    it = make_grader({"large": "Four.", "arbiter": preferring("Four.")}, shadow=ALWAYS)
    it.routing.verdicts = {"arbiter": NO_TOOLS}
    first, second = await it.grader.grade(exchange("It is 4."))
    assert (first.answer_id, second.answer_id) == (None, "req_background_1")
    assert (first.score, second.score) == pytest.approx((0.5, 0.6))
    assert (first.version, second.version) == ("rubric-1", "rubric-1+pair-1")
    assert it.asked.names == ["large", "arbiter", "arbiter", "arbiter", "arbiter"]


async def test_a_judge_that_prefers_whatever_comes_first_has_no_preference() -> None:
    says = {"large": "Four.", "arbiter": f'{{"id": "{CODE}", "score": 0.5, "better": "A"}}'}
    it = make_grader(says, shadow=ALWAYS, routing=Predicted(("small", "large"), (0.5, 0.5)))
    first, second = await it.grader.grade(exchange())
    assert first.score == second.score == 0.5


async def test_the_row_is_the_team_s_with_the_odds_of_the_draw() -> None:
    routing = Predicted(stderr=(0.1, 0.3, 0.1))
    it = make_grader({"large": "x", "arbiter": verdict(1.0)}, shadow=ALWAYS, routing=routing)
    asked = exchange(query_text="What is 2+2?", metadata={"task": "sums"})
    await it.grader.grade(asked)
    row = it.rows[0]
    odds = {each.model: each.propensity for each in row.candidates}
    assert odds == pytest.approx({"small": 0.0, "large": 0.15 + 0.7 * 0.75, "arbiter": 0.325})
    assert row.propensity == odds[str(row.served_model)]
    assert (row.route_reason, row.team_id, row.key_id) == ("shadow", "blue", "@shadow")
    assert (row.router_version, row.conversation_id) == ("r-2", None)
    assert (row.query_text, row.metadata) == ("What is 2+2?", {"task": "sums"})
    assert row.query_embedding is asked.record.query_embedding
    assert [each.verdict for each in row.candidates] == ["served", "ok", "ok"]


async def test_models_are_drawn_as_often_as_their_odds_say() -> None:
    routing = Predicted(("small", "large", "arbiter", "new"), (0.5, 0.6, 0.7, None))
    routing.stderr = (0.1, 0.1, 0.2, None)
    it = make_grader(
        dict.fromkeys(("large", "arbiter", "new"), "x"), shadow=ALWAYS, routing=routing
    )
    drawn: Counter[str] = Counter()
    for _ in range(2000):
        answered = await it.shadow.answer(exchange())
        assert answered is not None
        drawn[answered[0]] += 1
    odds = {each.model: each.propensity for each in it.rows[-1].candidates}
    assert sum(odds.values()) == pytest.approx(1.0)
    for name in ("large", "arbiter", "new"):
        assert drawn[name] / 2000 == pytest.approx(odds[name], abs=0.035)
    assert odds["new"] == odds["arbiter"] > odds["large"] > 0.1


def test_odds_are_bounded_below_and_add_up() -> None:
    odds = odds_of(["a", "b", "c"], [0.0, 0.0, 5.0], 0.3)
    assert odds == pytest.approx({"a": 0.1, "b": 0.1, "c": 0.8})
    assert odds_of(["a", "b"], [0.0, 0.0], 0.3) == pytest.approx({"a": 0.5, "b": 0.5})
    assert odds_of(["a", "b"], [None, None], 0.3) == pytest.approx({"a": 0.5, "b": 0.5})


async def test_a_model_that_cannot_take_the_request_is_never_drawn() -> None:
    routing = Predicted(verdicts={"large": NO_TOOLS, "arbiter": NO_TOOLS})
    it = make_grader({"arbiter": verdict(1.0)}, shadow=ALWAYS, routing=routing)
    (grade,) = await it.grader.grade(exchange())
    assert grade.answer_id is None
    assert it.asked.names == ["arbiter"]


@pytest.mark.parametrize("error", [ProviderUnavailable("down"), NoModelAvailable("none")])
async def test_without_a_second_answer_the_first_is_judged_alone(error) -> None:
    for says, routing in (
        ({"large": error, "arbiter": verdict(0.5)}, Predicted(("small", "large"), (0.5, 0.5))),
        ({"arbiter": verdict(0.5)}, Predicted(error=error)),
    ):
        it = make_grader(says, shadow=ALWAYS, routing=routing)
        (grade,) = await it.grader.grade(exchange())
        assert (grade.score, grade.version) == (0.5, "rubric-1")


async def test_an_answer_that_is_not_drawn_to_be_judged_may_still_be_compared() -> None:
    it = make_grader({"large": "x", "arbiter": verdict(0.5)}, share=0.0, shadow=ALWAYS)
    it.routing.verdicts = {"arbiter": NO_TOOLS}
    assert len(await it.grader.grade(exchange())) == 2
    it.grader.shadow_share = 0.0
    assert await it.grader.grade(exchange()) == ()


@pytest.mark.parametrize(
    ("fields", "record"),
    [
        ({}, {"candidates": ()}),
        ({}, {"allotted_tokens": 100}),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, {}),
        ({"tools": [FUNCTION, {"type": "mcp"}]}, {}),
        ({"web_search_options": {}}, {}),
        ({"plugins": [{"id": "web"}]}, {}),
    ],
)
async def test_no_second_answer_where_it_would_do_more_than_answer(fields, record) -> None:
    it = make_grader({"arbiter": verdict(1.0)}, shadow=ALWAYS)
    body = {"messages": [{"role": "user", "content": "Hi"}], **fields}
    await it.grader.grade(exchange(body=body, **record))
    assert it.asked.names == ["arbiter"]


def test_a_second_request_asks_the_same_once_as_a_whole_and_names_no_conversation() -> None:
    raw = orjson.dumps(
        {
            "model": "auto",
            "messages": [{"role": "user", "content": "Hi"}],
            "tools": [FUNCTION],
            "temperature": 0.5,
            "stream": True,
            "stream_options": {"include_usage": True},
            "n": 3,
            "store": True,
            "metadata": {"job": "1"},
            "waypost": {"conversation_id": "c", "turn_budget": 1000},
        }
    )
    first = parse_chat_request(raw, {})
    second = second_request(first, "large")
    assert second.body == {
        "model": "large",
        "messages": [{"role": "user", "content": "Hi"}],
        "tools": [FUNCTION],
        "temperature": 0.5,
    }
    assert (second.is_stream, second.wants_usage, second.options) == (False, False, NO_OPTIONS)
    assert first.body["stream"] is True


def test_tools_of_the_request_are_offered_and_never_run() -> None:
    body = second_request(request(tools=[FUNCTION]), "large").body
    assert body["tools"] == [FUNCTION]
    assert "tool" not in {message["role"] for message in body["messages"]}


def torn(asked) -> str:
    """Play a judge that scores answers and cannot compare them."""
    is_pair = "BEGIN ANSWER B" in asked.body["messages"][-1]["content"]
    return "I cannot say." if is_pair else f'{{"id": "{CODE}", "score": 0.5}}'


async def test_without_a_usable_comparison_the_scores_stay() -> None:
    it = make_grader({"large": "x", "arbiter": torn}, shadow=ALWAYS)
    it.routing.verdicts = {"arbiter": NO_TOOLS}
    first, second = await it.grader.grade(exchange())
    assert (first.score, second.score) == (0.5, 0.5)
    assert it.asked.names == ["large", "arbiter", "arbiter", "arbiter"]
    assert it.counts.verdicts.values["arbiter", "unusable"] == 1


async def test_no_judge_that_answers_gives_no_preference() -> None:
    it = make_grader({"arbiter": ProviderUnavailable("down")})
    assert await it.judge.prefer("Hi", ("a", "b"), ("small", "large"), JUDGED) is None
    assert await it.judge.score("Hi", "a", ("small",), JUDGED) is None
