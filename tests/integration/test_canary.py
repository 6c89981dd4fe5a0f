"""A running gateway shares turns with a canary as soon as the database says so, and as long."""

from collections import Counter
from datetime import UTC, datetime

from openai import AsyncOpenAI
from sqlalchemy import select

from gateway.learning.events import Event, LearningEvents, What
from gateway.routing.encoders import load_encoder
from migrations.tables import TURNS
from router_models.artifacts.artifact import read_manifest
from tests.fakes.gateway import LARGE, SMALL, RunningGateway, router_for, running_gateway
from tests.fakes.patience import PATIENCE_S
from tests.fakes.turns import until
from tests.fakes.upstream import completion, json_answer

ENCODER = load_encoder("static")
ACTIVE, CANARY = (router_for(ENCODER, best=best) for best in (SMALL, LARGE))
ACTIVE_VERSION, CANARY_VERSION = (read_manifest(one).version for one in (ACTIVE, CANARY))
TURNS_EACH = 40
SHARE = 0.3


async def ask(gateway: RunningGateway, turns: int) -> Counter[str]:
    """Ask `auto`; returns how often which router decided."""
    versions: Counter[str] = Counter()
    async with AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0, timeout=PATIENCE_S
    ) as sdk:
        for number in range(turns):
            answer = await sdk.chat.completions.with_raw_response.create(
                model="auto", messages=[{"role": "user", "content": f"Question {number}?"}]
            )
            versions[answer.headers["x-waypost-router-version"]] += 1
    return versions


async def test_turns_are_shared_from_one_event_to_the_next(tmp_path):
    async with running_gateway(
        tmp_path,
        router=ACTIVE,
        routing={"encoder": "static", "artifact_poll_s": 0.01, "prior": False},
        learning={"on_acceptance": "canary"},
    ) as gateway:
        gateway.alpha.answers = [json_answer(completion("Yes."))]
        gateway.beta.answers = [json_answer(completion("No."))]
        gateway.store.put(CANARY)
        events = LearningEvents(gateway.engine)

        def note(what: What) -> None:
            figures = {"share": SHARE, "salt": "s"}
            versions = CANARY_VERSION, ACTIVE_VERSION
            events.add(Event(datetime.now(UTC), "learner", what, "because", *versions, figures))

        assert set(await ask(gateway, 5)) == {ACTIVE_VERSION}

        note("canary")
        while CANARY_VERSION not in await ask(gateway, 1):
            pass
        shared = await ask(gateway, TURNS_EACH)
        assert 2 < shared[CANARY_VERSION] < 25

        note("rolled_back")
        while CANARY_VERSION in await ask(gateway, 5):
            pass
        assert set(await ask(gateway, TURNS_EACH)) == {ACTIVE_VERSION}

        def logged() -> Counter[tuple[str, str, float]]:
            columns = TURNS.c.router_version, TURNS.c.chosen_model, TURNS.c.propensity
            with gateway.engine.connect() as connection:
                return Counter(
                    (a, b, round(c, 6)) for a, b, c in connection.execute(select(*columns))
                )

        await until(lambda: logged().total() > 2 * TURNS_EACH)
    assert set(logged()) == {
        (ACTIVE_VERSION, SMALL, 1.0),
        (ACTIVE_VERSION, SMALL, 0.7),
        (CANARY_VERSION, LARGE, 0.3),
    }
