"""The files that ship with the embedded pool fit each other and the code."""

from typing import Literal

import pyarrow.parquet
import pytest

from gateway.commands.calibrate import PACKAGED_PROMPTS
from gateway.embedded.routers import DATA, packaged_router
from gateway.embedded.variants import embedded_models
from gateway.problems.calibration import parse_prompts, read_json_lines
from gateway.routing.encoders import load_encoder
from gateway.settings.config import EmbeddedSettings
from router_models.artifacts.artifact import load
from router_models.artifacts.router import Router
from router_models.types import Encoder
from router_models.verifiers.verifiers import verify

EVALUATIONS = DATA / "evaluations.parquet"


@pytest.fixture(params=["static", "minilm"], scope="module")
def encoder(request: pytest.FixtureRequest) -> Encoder:
    name: Literal["static", "minilm"] = request.param
    return load_encoder(name)


@pytest.fixture
def router(encoder: Encoder) -> Router:
    file = packaged_router(encoder.id, EmbeddedSettings())
    assert file is not None
    return load(file.read_bytes(), encoder)


def test_a_router_for_all_arms_ships_with_every_encoder(router: Router) -> None:
    assert set(router.estimator.models) == set(embedded_models())
    assert router.guard is not None


@pytest.mark.parametrize(
    ("query", "arm"),
    [
        ("Repeat exactly: candle forest pencil", "smollm2-135m-copy"),
        ("How many words are in this list: apple, tree, house, road?", "smollm2-135m-steps"),
    ],
)
def test_the_router_knows_the_specialists(
    router: Router, encoder: Encoder, query: str, arm: str
) -> None:
    quality = router.estimator.predict(encoder.encode([query])).quality[0]
    assert router.estimator.models[int(quality.argmax())] == arm


def test_every_arm_was_asked_every_packaged_prompt() -> None:
    rows = pyarrow.parquet.read_table(EVALUATIONS, columns=["model", "query_id"]).to_pylist()
    prompts = parse_prompts(read_json_lines(PACKAGED_PROMPTS))
    asked = {(row["model"], row["query_id"]) for row in rows}
    assert asked == {(arm, prompt.query_id) for arm in embedded_models() for prompt in prompts}
    assert len(rows) == len(asked)


def test_the_stored_scores_are_what_the_verifiers_say_today() -> None:
    verifiers = {p.query_id: p.verifier for p in parse_prompts(read_json_lines(PACKAGED_PROMPTS))}
    for row in pyarrow.parquet.read_table(EVALUATIONS).to_pylist():
        assert verify(verifiers[row["query_id"]], row["answer"]) == row["score"], row
