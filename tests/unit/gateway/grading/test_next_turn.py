"""What the next request says of the answer before it."""

import asyncio
from typing import Any

import pytest

from gateway.grading.checks import FormGrader
from gateway.grading.desk import SHORT, Grade, Grader
from gateway.grading.exchange import Exchange
from gateway.grading.languages import load_languages
from gateway.grading.next_turn import MAX_TEAMS, MAX_TURNS, NextTurnGrader
from gateway.grading.phrases import load_phrases
from gateway.long_work import LongWork
from tests.fakes.exchanges import WEATHER, make_exchange

ASKED = {"role": "user", "content": "Who wrote the novel Middlemarch?"}
ANSWER = "Jane Austen did."
ANSWERED = {"role": "assistant", "content": ANSWER}
CALL = ("weather", '{"city": "Rome"}')
CALLED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {
            "id": "c1",
            "type": "function",
            "function": {"name": "weather", "arguments": '{ "city":"Rome" }'},
        }
    ],
}


def result(content: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": "c1", "content": content}


def user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


@pytest.fixture
def grader():
    return NextTurnGrader(load_phrases(), LongWork())


async def graded(grader: NextTurnGrader, *exchanges: Exchange) -> list[Grade]:
    return [grade for exchange in exchanges for grade in await grader.grade(exchange)]


def after(message: str, number: int = 1, **more: Any) -> Exchange:
    return make_exchange("Well.", messages=[ASKED, ANSWERED, user(message)], number=number, **more)


REACTIONS = {
    "No, that's wrong. It was George Eliot.": ("corrected", 0.1),
    "Thank you!": ("thanked", 1.0),
    "What I meant was the novel, not the film": ("asked_again", 0.2),
    "Please, who wrote the novel Middlemarch?": ("asked_again", 0.2),
}


@pytest.mark.parametrize(("message", "told"), REACTIONS.items(), ids=REACTIONS)
async def test_a_reaction_grades_the_answer_before_it(grader, message, told):
    first = make_exchange(ANSWER, messages=[ASKED])

    (grade,) = await graded(grader, first, after(message))

    assert (grade.grader, grade.score) == told
    assert (grade.source, grade.answer_id, grade.version) == ("signal", "req_000000", "1")


@pytest.mark.parametrize(
    "message", ["And when was it?", "Who wrote the novel Emma?", "What about the film?"]
)
async def test_another_question_says_nothing(grader, message):
    assert await graded(grader, make_exchange(ANSWER, messages=[ASKED]), after(message)) == []


async def test_an_answer_that_was_not_given_here_is_not_graded(grader):
    assert await graded(grader, after("Thanks!")) == []


async def test_no_team_grades_another_s_answers(grader):
    first = make_exchange(ANSWER, messages=[ASKED], team_id="victim")

    assert await graded(grader, first, after("No, that's wrong.", team_id="attacker")) == []


async def test_an_answer_is_graded_by_one_next_turn_only(grader):
    first = make_exchange(ANSWER, messages=[ASKED])

    assert len(await graded(grader, first, *(after("Thanks!") for _ in range(5)))) == 1


async def test_conversations_with_the_same_words_are_told_apart_by_their_names(grader):
    def within(conversation: str, exchange: dict[str, Any], number: int) -> Exchange:
        own = {"conversation_id": conversation}
        return make_exchange("Well.", number=number, waypost=own, **exchange)

    first = {"messages": [ASKED]}
    second = {"messages": [ASKED, {"role": "assistant", "content": "Well."}, user("Thanks!")]}
    (grade,) = await graded(
        grader, within("a", first, 1), within("b", first, 2), within("a", second, 3)
    )

    assert grade.answer_id == "req_000001"


async def test_the_conversation_s_name_finds_an_answer_that_its_client_changed(grader):
    own = {"conversation_id": "a"}
    first = make_exchange(ANSWER, messages=[ASKED], waypost=own)
    changed = {"role": "assistant", "content": "(shortened)"}
    second = make_exchange(
        "Well.", messages=[ASKED, changed, user("Thanks!")], number=1, waypost=own
    )

    (grade,) = await graded(grader, first, second)
    assert grade.answer_id == "req_000000"


ERRORS = {
    "Error: no such city": "tool_error",
    "Error: missing required argument 'country'": "tool_misuse",
    '{"temperature": 21, "note": "no error was found"}': None,
}


@pytest.mark.parametrize(("content", "signal"), ERRORS.items(), ids=ERRORS)
async def test_a_tool_s_error_grades_the_call(grader, content, signal):
    first = make_exchange("", CALL, messages=[ASKED], tools=[WEATHER])
    second = make_exchange("Hm.", messages=[ASKED, CALLED, result(content)], number=1)

    grades = await graded(grader, first, second)

    assert [(g.grader, g.answer_id) for g in grades] == (
        [] if signal is None else [(signal, "req_000000")]
    )


async def test_the_same_call_after_its_result_grades_the_answer_that_makes_it(grader):
    history = [ASKED, CALLED, result('{"temperature": 21}')]

    (grade,) = await graded(grader, make_exchange("", CALL, messages=history, number=1))

    assert (grade.grader, grade.answer_id) == ("repeated_call", "req_000001")


@pytest.mark.parametrize(
    ("content", "call"),
    [('{"status": "pending"}', CALL), ("21", ("weather", '{"city": "Oslo"}'))],
    ids=["a wait", "another city"],
)
async def test_to_ask_a_tool_anew_is_no_loop(grader, content, call):
    history = [ASKED, CALLED, result(content)]

    assert await graded(grader, make_exchange("", call, messages=history)) == []


@pytest.mark.parametrize("has_text", [True, False], ids=["text", "arguments of tools"])
async def test_a_long_answer_is_read_in_a_thread(has_text):
    long = "x" * (SHORT + 1)
    given = make_exchange(long) if has_text else make_exchange("", ("weather", long))
    work = LongWork()
    graders: list[Grader] = [
        NextTurnGrader(load_phrases(), work),
        FormGrader(load_phrases(), load_languages(), work),
    ]

    for grader in graders:
        async with work._turn:  # whoever reads in a thread waits for this
            reading = asyncio.create_task(grader.grade(given))
            await asyncio.sleep(0)
            assert not reading.done()
        await reading


async def test_what_is_remembered_is_bounded(grader):
    for number in range(MAX_TURNS + 50):
        await grader.grade(make_exchange(f"Answer {number}", query=f"{number}", number=number))
    for number in range(MAX_TEAMS + 50):
        await grader.grade(make_exchange("yes", team_id=f"team {number}"))

    assert len(grader._teams) == MAX_TEAMS
    assert max(map(len, grader._teams.values())) <= MAX_TURNS
