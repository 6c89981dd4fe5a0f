"""Before any router was trained: calibration and grades change where `auto` goes, by themselves."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from click.testing import CliRunner

from gateway.commands.calibrate import command
from gateway.routing import opening
from tests.fakes.gateway import LARGE, SMALL, running_gateway
from tests.fakes.patience import PATIENCE_S
from tests.fakes.upstream import completion, json_answer

AUTO = {"model": "auto", "messages": [{"role": "user", "content": "What is 3 + 1?"}]}
ROUTING = {"encoder": "static", "prior": True, "exploration": {"kind": "off"}}
PROMPTS = [
    {
        "query_id": f"add/{number}",
        "text": f"What is {number} + 1?",
        "verifier": {"kind": "numeric", "reference": 7},
    }
    for number in range(20)
]


@pytest.fixture
async def untrained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(opening, "POLL_S", 0.05)
    async with running_gateway(tmp_path, keeps_store=True, routing=ROUTING) as running:
        running.alpha.answers = [json_answer(completion("The answer is 7."))]
        running.beta.answers = [json_answer(completion("I do not know."))]
        yield running


async def candidates(http: httpx2.AsyncClient) -> dict[str, dict[str, Any]]:
    told = (await http.post("/v1/route", json=AUTO)).json()["candidates"]
    return {candidate["model"]: candidate for candidate in told}


async def until_apart(http: httpx2.AsyncClient) -> dict[str, dict[str, Any]]:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = await candidates(http)
            if abs(found[SMALL]["quality"] - found[LARGE]["quality"]) > 0.3:
                return found
            await asyncio.sleep(0.02)


async def test_calibration_alone_makes_auto_go_to_the_model_that_answers_right(
    untrained: Any, tmp_path: Path
) -> None:
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "rows.csv"
    prompts.write_text("".join(json.dumps(prompt) + "\n" for prompt in PROMPTS))
    options = ["--model", SMALL, "--model", LARGE, "--prompts", str(prompts), "--out", str(out)]
    whole = ["--url", f"{untrained.url}/v1", "--key", untrained.key, *options, "--max-usd", "0.2"]
    async with untrained.caller() as http:
        before = await candidates(http)
        assert before[SMALL]["quality"] == pytest.approx(before[LARGE]["quality"])
        result = await asyncio.to_thread(
            CliRunner().invoke, command, whole, env={"WAYPOST_CONFIG": ""}
        )
        assert result.exit_code == 0, result.output
        after = await until_apart(http)
        assert after[SMALL]["quality"] > after[LARGE]["quality"]
        assert after[SMALL]["quality_stderr"] < before[SMALL]["quality_stderr"]
        answer = await http.post("/v1/chat/completions", json=AUTO)
        assert answer.headers["x-waypost-model"] == SMALL
        assert answer.headers["x-waypost-router-version"].startswith("prior-")


async def test_grades_of_callers_alone_do_so_too(untrained: Any) -> None:
    async with untrained.caller() as http:
        for model, score in ((SMALL, 0.0), (LARGE, 1.0)):
            for _ in range(15):
                answer = await http.post("/v1/chat/completions", json={**AUTO, "model": model})
                sent = {"id": answer.headers["x-request-id"], "score": score}
                assert (await http.post("/v1/feedback", json=sent)).status_code == 202
        after = await until_apart(http)
        assert after[LARGE]["quality"] > after[SMALL]["quality"]
