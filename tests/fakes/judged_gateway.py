"""A gateway whose team is judged, with its models and the judge on real sockets."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from openai import AsyncOpenAI
from sqlalchemy import func, select

from gateway.access.keys import KeyStore
from migrations.tables import GRADES, SETTLEMENTS, TURNS
from tests.fakes.gateway import LARGE, PRICE, SMALL, RunningGateway, running_gateway
from tests.fakes.patience import PATIENCE_S
from tests.fakes.upstream import JSON, completion, json_answer

JUDGE = "arbiter"
INPUT_NUSD, OUTPUT_NUSD = 1_000, 2_000
"""Per token, by `PRICE`."""
BIAS = 0.05
QUALITY = {"Zanzibar": 0.75, "Tanganyika": 0.25}
"""Of the two models' answers, by a word in them."""
MODELS: dict[str, dict[str, Any]] = {
    name: {"provider": provider, "upstream_name": f"{provider}-{name}", "price": PRICE}
    for name, provider in ((SMALL, "alpha"), (LARGE, "beta"), (JUDGE, "delta"))
}
MODELS[JUDGE]["fallbacks"] = [LARGE]
FENCED = re.compile(r"BEGIN (ANSWER[ AB]*) (\w+)\n(.*?)\nEND \1 \2", re.DOTALL)


@dataclass
class JudgeUpstream:
    """Plays a judge that knows how good answers are, and adds `BIAS`."""

    usages: list[tuple[int, int]] = field(default_factory=list)
    is_free: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0
    prompts: list[str] = field(default_factory=list)
    repeats: bool = False
    """It repeats all that it reads before it judges."""

    @property
    def cost_nusd(self) -> int:
        return sum(sent * INPUT_NUSD + said * OUTPUT_NUSD for sent, said in self.usages)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        raw, more = b"", True
        while more:
            message = await receive()
            raw += message.get("body", b"")
            more = message.get("more_body", False)
        prompt = orjson.loads(raw)["messages"][-1]["content"]
        self.prompts.append(prompt)
        self.waiting += 1
        await self.is_free.wait()
        answers = FENCED.findall(prompt)
        scores = [self._score(text) for _, _, text in answers]
        verdict: dict[str, Any] = {"id": answers[0][1]}
        if len(scores) == 1:
            verdict["score"] = scores[0]
        else:
            verdict["better"] = "A" if scores[0] > scores[1] else "B"
        used = (len(prompt) // 4, 11 + len(self.usages))
        self.usages.append(used)
        usage = {"prompt_tokens": used[0], "completion_tokens": used[1]}
        headers = [(name.encode(), value.encode()) for name, value in JSON.items()]
        said = "\n".join(text for _, _, text in answers) if self.repeats else ""
        body = completion(said + orjson.dumps(verdict).decode(), usage=usage)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": orjson.dumps(body)})

    def _score(self, text: str) -> float:
        return next(quality for word, quality in QUALITY.items() if word in text) + BIAS


@dataclass(frozen=True)
class Judged:
    """A gateway whose team ``default`` is judged."""

    gateway: RunningGateway
    judge: JudgeUpstream
    sdk: AsyncOpenAI

    async def ask(self, number: int, *, model: str = SMALL, **fields: Any) -> Any:
        content = f"Question {number}: where is Dr Livingstone?"
        messages: Any = [{"role": "user", "content": content}]
        return await self.sdk.chat.completions.create(model=model, messages=messages, **fields)

    def grades(self) -> list[Any]:
        with self.gateway.engine.connect() as connection:
            return list(connection.execute(select(GRADES).where(GRADES.c.source == "judge")))

    def turns(self, **columns: Any) -> list[Any]:
        query = select(TURNS)
        for name, value in columns.items():
            query = query.where(TURNS.c[name] == value)
        with self.gateway.engine.connect() as connection:
            return list(connection.execute(query))

    def charged_nusd(self, team_id: str) -> int:
        total = func.coalesce(func.sum(SETTLEMENTS.c.charged_nusd), 0)
        query = select(total).where(SETTLEMENTS.c.team_id == team_id)
        with self.gateway.engine.connect() as connection:
            return int(connection.scalar(query) or 0)


@asynccontextmanager
async def judged(tmp_path: Path, *, opts_in: bool = True, **grading: Any) -> AsyncIterator[Judged]:
    table = {"judge": {"models": [JUDGE], "share": 1.0, **grading.pop("judge", {})}, **grading}
    judge = JudgeUpstream()
    judge.is_free.set()
    async with running_gateway(
        tmp_path,
        grading={"checks": False, "signals": False, **table},
        models=MODELS,
        keys={"staleness_s": 0.001},
        budgets={"definitions_poll_s": 0.01},
        also={"delta": {}, "gamma": {}},
    ) as gateway:
        gateway.upstreams.by_name["delta"] = judge
        gateway.alpha.answers = [json_answer(completion("In Zanzibar."))]
        gateway.beta.answers = [json_answer(completion("By Lake Tanganyika."))]
        KeyStore(gateway.engine).update_team("default", is_judged=opts_in)
        async with AsyncOpenAI(
            base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0, timeout=PATIENCE_S
        ) as sdk:
            yield Judged(gateway, judge, sdk)
