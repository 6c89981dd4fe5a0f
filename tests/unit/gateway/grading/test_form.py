"""Checks of an answer's form."""

from dataclasses import replace

import pytest

from gateway.grading.exchange import Exchange
from gateway.grading.form import grades_of_form
from gateway.grading.languages import Languages, load_languages
from gateway.grading.phrases import Phrases, load_phrases
from tests.fakes.exchanges import WEATHER, make_exchange

JSON = {"type": "json_object"}
PROSE = "The answer is that it depends on how you look at the question and what you want of it. "
GERMAN = (
    "Die Antwort ist, dass es nicht von der Frage abhängt, sondern von dem, was du mit ihr willst."
)


@pytest.fixture(scope="module")
def phrases() -> Phrases:
    return load_phrases()


@pytest.fixture(scope="module")
def languages() -> Languages:
    return load_languages()


@pytest.fixture
def found(phrases: Phrases, languages: Languages):
    def grade(exchange: Exchange) -> set[str]:
        return {grade.grader for grade in grades_of_form(exchange, phrases, languages)}

    return grade


def test_an_answer_without_a_finding_is_graded_neutrally_with_little_weight(phrases, languages):
    (grade,) = grades_of_form(make_exchange("Hello!"), phrases, languages)

    assert (grade.grader, grade.score, grade.source) == ("form", 0.7, "check")
    assert grade.weight <= 0.1


BAD = {
    "empty": make_exchange(" \n"),
    "filtered": make_exchange("", finish_reason="content_filter"),
    "cut_off": make_exchange(PROSE, finish_reason="length"),
    "refusal": make_exchange("I'm sorry, but I can't help with that."),
    "loop": make_exchange("It is so. " + "and then he said " * 60),
    "language": make_exchange(GERMAN, query="What is the answer to this question, and how is it?"),
    "json": make_exchange("Here you are: {}", response_format=JSON),
    "unknown_tool": make_exchange("", ("wheather", '{"city": "Rome"}'), tools=[WEATHER]),
    "tool_arguments": make_exchange("", ("weather", '{"city": "Ro'), tools=[WEATHER]),
    "no_tool_call": make_exchange("Sunny.", tools=[WEATHER], tool_choice="required"),
}


@pytest.mark.parametrize(("name", "exchange"), BAD.items(), ids=BAD)
def test_finds(found, name, exchange):
    assert found(exchange) == {name}


GOOD = {
    "tool call": make_exchange("", ("weather", '{"city": "Rome"}'), tools=[WEATHER]),
    "tool without arguments": make_exchange("", ("weather", ""), tools=[WEATHER]),
    "JSON": make_exchange(' {"a": NULL} '.replace("NULL", "null"), response_format=JSON),
    "half of a long stream": make_exchange('{"a": ', response_format=JSON, is_whole=False),
    "small limit of the caller": make_exchange("Yes", finish_reason="length", tokens=5),
    "repetition on request": make_exchange(
        "I must not talk. " * 100, query="Write it 100 times, please."
    ),
    "translation": make_exchange(GERMAN, query="What is this in German, how is it said to you?"),
    "system prompt names the language": make_exchange(
        GERMAN,
        messages=[
            {"role": "system", "content": "You answer in German."},
            {"role": "user", "content": "What is the answer to this question, and how is it?"},
        ],
    ),
    "code": make_exchange(
        "```python\nprint('hello, world, how are you')\n```", query="打印一行问候语"
    ),
    "rule of dashes": make_exchange("Title\n" + "-" * 500),
}


@pytest.mark.parametrize("exchange", GOOD.values(), ids=GOOD)
def test_has_nothing_against(found, exchange):
    assert found(exchange) == {"form"}


def test_an_answer_that_a_turn_budget_cut_off_is_not_the_model_s_fault(found):
    exchange = make_exchange(PROSE, finish_reason="length")

    assert found(replace(exchange, record=replace(exchange.record, allotted_tokens=512))) == {
        "form"
    }


def test_a_limit_that_the_caller_chose_weighs_less(phrases, languages):
    def weight(exchange: Exchange) -> float:
        return grades_of_form(exchange, phrases, languages)[0].weight

    free = make_exchange(PROSE, finish_reason="length")
    chosen = make_exchange(PROSE, finish_reason="length", max_tokens=1000)
    formal = replace(chosen, request=replace(chosen.request, has_formal_limit=True))

    assert weight(chosen) < weight(free) == weight(formal)
