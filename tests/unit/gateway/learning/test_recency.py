"""The learner notices a model that does otherwise lately; and what a look at the log costs."""

from sqlalchemy import Engine

from gateway.evaluation_log import log_export
from gateway.evaluation_log.judged_answers import JudgedAnswer, read_judged
from router_models.artifacts.artifact import load
from router_models.types import Evaluations, Float32
from tests.fakes.evaluations import MODELS, made_up
from tests.fakes.learning_loop import ENCODER, SETTINGS, Loop, mistaken


def predicted(it: Loop, version: str | None, model: str, asked: Evaluations) -> Float32:
    assert version is not None
    router = load(it.store.read(version), ENCODER)
    column = router.column(model)
    assert column is not None
    return router.serving_estimator.predict(asked.embeddings).quality[:, column]


async def test_a_model_that_got_worse_is_routed_around_though_older_answers_praise_it(loop):
    before = loop.activate(made_up(2000, seed=1))
    await loop.serve(made_up(3000), "before")
    worse = made_up(900, seed=2)
    worse.quality[:, MODELS.index("coder")] = 0.0
    await loop.serve(worse, "after")

    assert loop.step() == ["activated", "trained", "activated"]

    trained = loop.events.latest("trained")
    assert trained is not None
    assert set(trained.figures["half_life_answers"]) == {"coder"}
    assert "coder does otherwise lately, so its answers count half after" in trained.why
    old, new = (
        predicted(loop, version, "coder", worse).mean() for version in (before, loop.store.active())
    )
    assert new < 0.5 * old


async def test_judges_are_measured_once_in_a_step(loop, monkeypatch):
    measured = []

    def read(engine: Engine) -> list[JudgedAnswer]:
        measured.append(engine)
        return read_judged(engine)

    monkeypatch.setattr(log_export, "read_judged", read)
    loop.activate(mistaken())
    loop.activate(made_up(2000, seed=1))
    loop.step(SETTINGS.model_copy(update={"min_new_grades": 10_000}))
    await loop.serve(made_up(400, seed=3))
    measured.clear()
    assert loop.step()[:2] == ["watched", "trained"]
    assert len(measured) == 1
