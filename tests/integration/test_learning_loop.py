"""The loop closes by itself: traffic, grades, a better router, a spoiled model, and the way back.

A real gateway on a real socket, asked through OpenAI's SDK; a judge among its models, and a learner
in a process of its own. Nobody grades, or says when to train, what to activate or to roll back.
"""

import os
import random
import signal
from collections.abc import Iterator
from statistics import mean
from typing import Any

import orjson
import pytest
from openai import AsyncOpenAI

from gateway.access.keys import KeyStore
from gateway.learning.child import learner_beside
from gateway.learning.events import LearningEvents
from gateway.learning.opening import LEARNER
from gateway.routing.encoders import load_encoder
from gateway.storage.database import create_database_engine
from gateway.storage.lease import Lease
from router_models.artifacts.artifact import read_manifest
from tests.fakes.gateway import LARGE, SMALL, RunningGateway, router_for, running_gateway
from tests.fakes.judged_gateway import FENCED, JUDGE, MODELS
from tests.fakes.patience import PATIENCE_S
from tests.fakes.processes import start
from tests.fakes.schemas import closing
from tests.fakes.turns import until
from tests.fakes.upstream import completion, json_answer

FIRST = router_for(load_encoder("static"), best=SMALL)
SKILL = {SMALL: {"sum": 0.95, "letter": 0.5}, LARGE: {"sum": 0.3, "letter": 0.95}}
ROUTING = {
    "encoder": "static",
    "artifact_poll_s": 0.01,
    "prior": False,
    "exploration": {"kind": "epsilon", "epsilon": 0.5},
}
TURNS = 560
LEARNING = {
    "enabled": True,
    "on_acceptance": "activate",
    "estimator": "ridge",
    "min_new_grades": TURNS,
    "max_rows": 2000,
    "poll_s": 0.2,
}


class ModelOfKnownQuality:
    """Answers with how good its answer is; the topic of the question decides."""

    def __init__(self, skill: dict[str, float]) -> None:
        self.skill = dict(skill)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        asked = await question_in(receive)
        topic = "letter" if "letter" in asked else "sum"
        await give(send, str(self.skill[topic]))


async def judge(scope: Any, receive: Any, send: Any) -> None:
    """Play the judge: an answer says itself how good it is."""
    found = FENCED.search(await question_in(receive))
    assert found is not None
    _, code, answer = found.groups()
    await give(send, orjson.dumps({"id": code, "score": float(answer)}).decode())


async def question_in(receive: Any) -> str:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return str(orjson.loads(body)["messages"][-1]["content"])


async def give(send: Any, text: str) -> None:
    answer = json_answer(completion(text))
    headers = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer.chunks[0]})


def questions() -> Iterator[str]:
    """Ask for sums and letters in turn, each time another one."""
    rng = random.Random(0)
    while True:
        yield f"What is {rng.randrange(10_000)} plus {rng.randrange(10_000)}?"
        yield f"Write a polite letter to customer {rng.randrange(10_000)} about a late parcel."


async def ask(client: AsyncOpenAI, asked: Iterator[str], turns: int) -> float:
    """Ask; returns how good the answers were on average."""
    scores = []
    for _ in range(turns):
        answer = await client.chat.completions.create(
            model="auto", messages=[{"role": "user", "content": next(asked)}]
        )
        scores.append(float(answer.choices[0].message.content or 0.0))
    return mean(scores)


async def serving(client: AsyncOpenAI) -> str:
    """Return the version of the router that decides now."""
    hello = {"model": "auto", "messages": [{"role": "user", "content": "Hello."}]}
    plan = await client.post("/route", cast_to=object, body=hello)
    assert isinstance(plan, dict)
    return str(plan["router_version"])


def client_of(gateway: RunningGateway) -> AsyncOpenAI:
    return AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0, timeout=PATIENCE_S
    )


async def test_a_gateway_learns_by_itself_and_returns_from_a_model_that_got_worse(tmp_path):
    asked, version = questions(), read_manifest(FIRST).version
    async with running_gateway(
        tmp_path,
        router=FIRST,
        routing=ROUTING,
        learning=LEARNING,
        models=MODELS,
        grading={"judge": {"models": [JUDGE], "share": 1.0}},
        also={"delta": {}, "gamma": {}},
    ) as gateway:
        large = ModelOfKnownQuality(SKILL[LARGE])
        gateway.upstreams.by_name.update(
            alpha=ModelOfKnownQuality(SKILL[SMALL]), beta=large, delta=judge
        )
        KeyStore(gateway.engine).update_team("default", is_judged=True)
        events = LearningEvents(gateway.engine)
        with learner_beside(gateway.settings):
            async with client_of(gateway) as client:
                before = await ask(client, asked, TURNS)
                await until(lambda: gateway.store.active() != version)
                learned = gateway.store.active()
                while await serving(client) != learned:
                    pass
                after = await ask(client, asked, 60)

                large.skill = dict.fromkeys(large.skill, 0.0)
                turns = 0
                while gateway.store.active() == learned:
                    assert turns < TURNS - 60
                    await ask(client, asked, 20)
                    turns += 20

    assert after > before + 0.05
    assert gateway.store.active() == version
    done = [event for event in reversed(events.newest(20)) if event.what != "watched"]
    assert [(event.who, event.what) for event in done] == [
        ("learner", "activated"),
        ("learner", "trained"),
        ("learner", "activated"),
        ("learner", "rolled_back"),
    ]
    assert done[-1].router_version == learned
    assert done[-1].former_version == version


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_serve_runs_the_learner_in_a_process_that_ends_with_it(tmp_path, number):
    file = tmp_path / "waypost.toml"
    file.write_text(
        f'data_dir = "{tmp_path}"\n[server]\nport = 0\nadmin_port = 0\n'
        "[embedded]\nenabled = false\n[learning]\nenabled = true\n"
        '[providers.a]\nbase_url = "http://127.0.0.1:1/v1"\n[models.small]\nprovider = "a"\n'
        "price = { input_usd_per_mtok = 1.0, output_usd_per_mtok = 2.0 }\n"
    )
    engine = create_database_engine(f"sqlite:///{tmp_path / 'waypost.db'}")
    with closing(engine):
        async with start(file) as serving:
            await serving.started()
            await until(lambda: LearningEvents(engine).latest() is not None)
            learner = int(str(Lease(engine, LEARNER, "").current_holder()).split("/")[1])
            assert learner != serving.process.pid
            await serving.end(number)
            await until(lambda: not is_alive(learner))
        event = LearningEvents(engine).latest()
    assert event is not None
    assert (event.what, event.who) == ("skipped", "learner")
