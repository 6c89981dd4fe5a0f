"""From a question to a private prompt: asked, answered, verified and read back."""

import pytest

from gateway.access.keys import KeyStore
from gateway.evaluation_log.reasoning_prompts import private_prompts
from tests.fakes.gateway import SMALL, running_gateway
from tests.fakes.turns import until
from tests.fakes.upstream import completion, json_answer

CHAT = "/v1/chat/completions"
VERIFIER = {"kind": "numeric", "reference": 42}
ASKED = {"model": SMALL, "messages": [{"role": "user", "content": "What is 6 x 7?"}]}


@pytest.fixture
async def gateway(tmp_path):
    async with running_gateway(tmp_path, keys={"staleness_s": 0.001}) as gateway:
        gateway.alpha.answers = [json_answer(completion("6 x 7 makes 42."))]
        yield gateway


async def test_a_verified_answer_becomes_a_private_prompt(gateway):
    KeyStore(gateway.engine).update_team("default", trains_reasoner=True)
    async with gateway.caller() as http:
        asked = await http.post(CHAT, json=ASKED)
        graded = await http.post(
            "/v1/feedback", json={"id": asked.json()["id"], "verifier": VERIFIER}
        )

    assert (graded.status_code, graded.json()["score"]) == (202, 1.0)
    await until(lambda: len(private_prompts(gateway.engine)) == 1)
    [(_, table)] = private_prompts(gateway.engine)
    assert (table["messages"], table["verifier"]) == (ASKED["messages"], VERIFIER)


async def test_without_the_team_s_consent_nothing_is_kept_or_verified(gateway):
    async with gateway.caller() as http:
        asked = await http.post(CHAT, json=ASKED)
        graded = await http.post(
            "/v1/feedback", json={"id": asked.json()["id"], "verifier": VERIFIER}
        )

    assert graded.status_code == 400
    assert "--train-reasoner" in graded.json()["error"]["message"]
    turn = await gateway.turn(asked.headers["x-request-id"])
    assert (turn.messages, turn.answer) == (None, None)


async def test_an_answer_that_cannot_be_checked_gets_no_grade(gateway):
    KeyStore(gateway.engine).update_team("default", trains_reasoner=True)
    gateway.alpha.answers = [json_answer(completion(r"\boxed{200!/199!}"))]
    verifier = {"kind": "math", "reference": "200"}
    async with gateway.caller() as http:
        asked = await http.post(CHAT, json=ASKED)
        graded = await http.post(
            "/v1/feedback", json={"id": asked.json()["id"], "verifier": verifier}
        )

    assert graded.status_code == 400
    assert graded.json()["error"]["param"] == "verifier"
    assert "cannot be checked" in graded.json()["error"]["message"]


@pytest.mark.parametrize("fields", [{}, {"score": 1.0, "verifier": VERIFIER}])
async def test_a_grade_is_a_score_or_a_verifier(gateway, fields):
    async with gateway.caller() as http:
        graded = await http.post("/v1/feedback", json={"id": "any", **fields})

    assert graded.status_code == 400
    assert "one of `score` and `verifier`" in graded.json()["error"]["message"]
