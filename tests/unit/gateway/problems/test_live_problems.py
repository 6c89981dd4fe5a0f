import asyncio
from contextlib import asynccontextmanager

import httpx2
import numpy as np
import pytest

from budget.environments.conversation import Conversation
from budget.errors import InvalidProblems
from gateway.problems.live_problems import Endpoint, SolverFailed, parse_live_problems
from gateway.routing.encoders import load_encoder
from tests.fakes.completions import answer_of
from tests.fakes.patience import PATIENCE_S
from tests.fakes.server import serve
from tests.fakes.upstream import JSON, Answer, ScriptedUpstream

ENCODER = load_encoder("static")
FOUR = {"kind": "numeric", "reference": 4}
TURNS = [
    {"text": "What is 1 + 3?", "verifier": FOUR},
    {"text": "And 2 + 2?", "verifier": FOUR, "is_decisive": False},
]
TABLE = {"problem_id": "sums", "sub_questions": TURNS}


@asynccontextmanager
async def conversation(upstream, budget=1000, table=TABLE):
    async with serve(upstream) as url:
        with httpx2.Client(base_url=f"{url}/v1", timeout=PATIENCE_S) as http:
            endpoint = Endpoint(http, "small", options={"temperature": 0.5})
            environment = parse_live_problems([("line 1", table)], ENCODER, endpoint)
            (solver,) = environment.start(0, np.random.default_rng(0))
            yield Conversation(environment.problems[0], solver, budget)


async def test_asks_with_everything_said_so_far_and_the_allotment_as_limit():
    upstream = ScriptedUpstream(answer_of("The answer is 4", 7), answer_of("5", 3))
    async with conversation(upstream) as one:
        await asyncio.to_thread(one.answer, 256)
        await asyncio.to_thread(one.answer, 64)
    first, second = (request.body for request in upstream.requests)
    assert (first["model"], first["max_tokens"], first["temperature"]) == ("small", 256, 0.5)
    assert [message["content"] for message in second["messages"]] == [
        "What is 1 + 3?",
        "The answer is 4",
        "And 2 + 2?",
    ]
    assert one.used_tokens == 10
    assert one.is_right


async def test_verifiers_grade_the_answers():
    async with conversation(ScriptedUpstream(answer_of("5", 7))) as one:
        answer = await asyncio.to_thread(one.answer, 256)
    assert answer == (7, False, False)


async def test_an_answer_that_cannot_be_checked_is_no_wrong_answer():
    deep = answer_of(r"\boxed{200!/199!}", 7)
    turns = [{"text": "What is 200!/199!?", "verifier": {"kind": "math", "reference": "200"}}]
    async with conversation(ScriptedUpstream(deep), table={**TABLE, "sub_questions": turns}) as one:
        with pytest.raises(SolverFailed, match=r"cannot be graded: .*factorial"):
            await asyncio.to_thread(one.answer, 256)


async def test_an_answer_that_the_limit_stopped_was_cut_off():
    async with conversation(ScriptedUpstream(answer_of("1 + 3 is", 5, "length"))) as one:
        answer = await asyncio.to_thread(one.answer, 5)
    assert answer == (5, False, True)


async def test_asks_nothing_once_nothing_is_left():
    upstream = ScriptedUpstream(answer_of("4", 5))
    async with conversation(upstream, budget=0) as one:
        assert one.answer(256) == (0, False, True)
    assert not upstream.requests


async def test_every_rollout_is_a_conversation_of_its_own():
    async with serve(ScriptedUpstream(answer_of("4", 5))) as url:
        with httpx2.Client(base_url=url, timeout=PATIENCE_S) as http:
            environment = parse_live_problems([("", TABLE)], ENCODER, Endpoint(http, "small"))
            first, second = environment.start(0, np.random.default_rng(0), 2)
            await asyncio.to_thread(first.answer, 0, 64)
    assert len(first.messages) == 2
    assert not second.messages


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Answer([b'{"error": "overloaded"}'], 503, JSON), "status 503"),
        (Answer([b"hello"], headers=JSON), "not a chat completion"),
        (Answer([b'{"choices": []}'], headers=JSON), "not a chat completion"),
    ],
)
async def test_says_what_came_instead_of_an_answer(answer, why):
    async with conversation(ScriptedUpstream(answer)) as one:
        with pytest.raises(SolverFailed, match=why):
            await asyncio.to_thread(one.answer, 256)


def test_says_that_nobody_is_there():
    with httpx2.Client(base_url="http://127.0.0.1:1") as http:
        endpoint = Endpoint(http, "small")
        with pytest.raises(SolverFailed, match="ConnectError"):
            endpoint.complete([], 64)


def test_reads_which_turns_are_decisive():
    with httpx2.Client() as http:
        environment = parse_live_problems([("", TABLE)], ENCODER, Endpoint(http, "small"))
    assert environment.problems[0].is_decisive == (True, False)
    assert environment.problems[0].embeddings.shape == (2, ENCODER.dimension)


@pytest.mark.parametrize(
    ("tables", "why"),
    [
        ([], "no problem"),
        ([("line 3", {"problem_id": "p"})], "line 3: `problem_id` and `sub_questions`"),
        ([("line 3", {"problem_id": "p", "sub_questions": []})], "needs sub-questions"),
        (
            [("line 3", {"problem_id": "p", "sub_questions": [{"text": "", "verifier": FOUR}]})],
            "none of them empty",
        ),
        (
            [("", {"problem_id": "p", "sub_questions": [{"text": "x", "verifier": {}}]})],
            "verifier",
        ),
    ],
)
def test_refuses_problems_that_cannot_be_asked(tables, why):
    with httpx2.Client() as http, pytest.raises(InvalidProblems, match=why):
        parse_live_problems(tables, ENCODER, Endpoint(http, "small"))
