from dataclasses import replace

import numpy as np
import pytest

from gateway.candidate_records import NO_CANDIDATES
from gateway.endpoints.public import explain
from gateway.errors import InvalidRequest, ModelNotFound, NoCapableModel
from gateway.providers.refusals import Refusals
from gateway.routing.routing import Routing
from gateway.settings.config import DEFAULT_PROFILES, ProfileSettings
from gateway.types import Caller, HostedModel
from router_models.artifacts.router import Router
from router_models.artifacts.sealed_file import RequestEncoder
from router_models.decide import Exploration
from router_models.errors import NoModelAvailable
from tests.fakes.artifacts import ENCODER, router_artifact
from tests.fakes.priors import day_one
from tests.fakes.routing import CALLER, Embedder, hosted, planned, request
from tests.fakes.turn_budgets import make_turn_budgets


async def test_the_router_chooses_by_utility_and_says_so(routing) -> None:
    plan = await planned(await routing(), request(waypost={"willingness_to_pay": 1e6}))
    assert plan.reason == "router"
    assert plan.propensity == 1.0
    assert plan.router_version is not None
    best = max(plan.candidates, key=lambda candidate: candidate.quality or 0.0)
    assert plan.models[0].name == best.model
    assert len(plan.models) == 2


async def test_predictions_are_remembered_for_the_caller_s_team(routing, monkeypatch) -> None:
    teams, predict = [], Router.predict_pool

    def predicted(self, embedding, models, team_id):
        teams.append(team_id)
        return predict(self, embedding, models, team_id)

    monkeypatch.setattr(Router, "predict_pool", predicted)
    it = await routing()
    for team in ("one team", "another"):
        await planned(it, request(), Caller("k", team))
    assert teams == ["one team", "another"]


async def test_a_model_that_rests_is_chosen_where_there_is_no_other(routing) -> None:
    refusals = Refusals(lambda: 0.0)
    it = await routing(refusals=refusals)
    refusals.rest(CALLER.team_id, ("p", "small"), 9.0)
    chosen = [model.name for model in (await planned(it, request())).models]
    refusals.rest(CALLER.team_id, ("p", "large"), 9.0)
    left = {model.name for model in (await planned(it, request())).models}
    assert chosen == ["large"]
    assert left == {"small", "large"}


async def test_a_tiny_willingness_to_pay_takes_the_cheapest(routing) -> None:
    plan = await planned(await routing(), request(waypost={"willingness_to_pay": 1e-9}))
    cheapest = min(plan.candidates, key=lambda candidate: candidate.cost_usd or 0.0)
    assert plan.models[0].name == cheapest.model
    assert plan.willingness_to_pay_usd == 1e-9


async def test_a_named_model_is_served_as_asked(routing) -> None:
    plan = await planned(await routing(), request("small"))
    assert [model.name for model in plan.models] == ["small"]
    assert (plan.reason, plan.candidates) == ("named", NO_CANDIDATES)
    assert plan.embedding is not None


async def test_tools_are_part_of_what_the_router_reads_and_of_what_is_logged(routing) -> None:
    it = await routing()
    plain, with_tools = await planned(it, request()), await planned(it, request(tools=[{}]))
    assert plain.encoder_id == ENCODER.id
    assert with_tools.encoder_id == RequestEncoder.of(ENCODER).id
    assert plain.embedding is not None
    assert with_tools.embedding is not None
    text, shape = np.split(with_tools.embedding, [ENCODER.dimension])
    np.testing.assert_array_equal(text, plain.embedding)
    assert shape.any()


async def test_a_router_of_texts_makes_the_same_of_a_text_with_tools(routing) -> None:
    it = await routing(hosted("small", tools=True), hosted("large", tools=True))
    plain, with_tools = await planned(it, request()), await planned(it, request(tools=[{}]))
    assert list(with_tools.candidates) == list(plain.candidates)


@pytest.mark.parametrize("model", ["unknown", "large"])
async def test_a_model_that_is_not_served_to_the_key_is_not_found(routing, model) -> None:
    caller = Caller("k", "t", allowed_models=frozenset({"small"}))
    with pytest.raises(ModelNotFound):
        await planned(await routing(), request(model), caller)


async def test_the_router_chooses_among_the_key_s_models_only(routing) -> None:
    caller = Caller("k", "t", allowed_models=frozenset({"small"}))
    plan = await planned(await routing(), request(), caller)
    assert [candidate.model for candidate in plan.candidates] == ["small"]


async def test_a_profile_s_name_is_a_model(routing) -> None:
    profiles = {
        **DEFAULT_PROFILES,
        "mine": ProfileSettings(willingness_to_pay_usd=3, models=["small"]),
    }
    plan = await planned(await routing(profiles=profiles), request("mine"))
    assert (plan.profile, plan.willingness_to_pay_usd) == ("mine", 3)
    assert [model.name for model in plan.models] == ["small"]


@pytest.mark.parametrize(("profile", "used"), [("economy", "economy"), ("gone", "balanced")])
async def test_auto_uses_the_key_s_profile_while_it_exists(routing, profile, used) -> None:
    caller = Caller("k", "t", profile=profile)
    assert (await planned(await routing(), request(), caller)).profile == used


async def test_without_a_router_the_default_model_serves(routing) -> None:
    it = await routing(with_router=False)
    plan = await planned(it, request())
    assert [model.name for model in plan.models] == ["large", "small"]
    assert (plan.reason, plan.propensity, plan.router_version) == ("router_missing", 1.0, None)
    assert [candidate.propensity for candidate in plan.candidates] == [0.0, 1.0]


async def test_without_a_router_exploration_tries_other_models_too(routing) -> None:
    it = await routing(with_router=False, exploration=Exploration("epsilon", 0.5))
    plans = [await planned(it, request()) for _ in range(60)]
    tried = [plan for plan in plans if plan.models[0].name == "small"]
    assert 5 < len(tried) < 30
    assert {(plan.reason, plan.propensity) for plan in tried} == {("explored", 0.25)}
    assert {plan.propensity for plan in plans} == {0.25, 0.75}
    assert {plan.router_version for plan in plans} == {None}


async def test_without_a_router_the_prior_chooses_and_is_named(routing) -> None:
    it = await routing(
        hosted("weak"), hosted("able"), hosted("new"), with_router=False, prior=day_one()
    )
    plan = await planned(it, request(waypost={"willingness_to_pay": 1e6}))
    assert (plan.reason, plan.models[0].name) == ("router", "able")
    assert plan.router_version == it.prior.prior.manifest.version
    assert all(candidate.quality is not None for candidate in plan.candidates)


async def test_a_router_that_knows_no_model_of_the_pool_leaves_it_to_the_prior(routing) -> None:
    it = await routing(hosted("weak"), hosted("able"), prior=day_one())
    plan = await planned(it, request(waypost={"willingness_to_pay": 1e6}))
    assert (plan.reason, plan.models[0].name) == ("router", "able")
    assert str(plan.router_version).startswith("prior-")


async def test_the_prior_does_not_hide_that_the_active_router_is_damaged(routing, store) -> None:
    version = store.activate(store.put(router_artifact()).version).version
    store.path(version).write_bytes(b"damaged")
    it = await routing(with_router=False, prior=day_one())
    plan = await planned(it, request())
    assert (plan.reason, plan.models[0].name) == ("router_missing", "large")


async def test_a_router_that_knows_one_model_of_many_does_not_take_all_turns(routing) -> None:
    it = await routing(hosted("small"), hosted("able"), hosted("weak"), prior=day_one())
    plan = await planned(it, request(waypost={"willingness_to_pay": 1e6}))
    assert plan.models[0].name == "able"
    assert str(plan.router_version).startswith("kmeans-")
    assert {candidate.verdict for candidate in plan.candidates} == {"ok"}


async def test_no_router_is_named_that_did_not_decide(routing) -> None:
    plan = await planned(await routing(hosted("x"), hosted("y")), request())
    assert (plan.reason, plan.router_version) == ("router_missing", None)


async def test_thompson_exploration_goes_by_the_prior_s_doubt(routing) -> None:
    it = await routing(
        hosted("able"),
        hosted("new"),
        with_router=False,
        prior=day_one(),
        exploration=Exploration("thompson"),
    )
    plan = await planned(it, request(waypost={"willingness_to_pay": 1e6}))
    assert 0.0 < min(candidate.propensity for candidate in plan.candidates) < 0.5


async def test_the_prior_is_as_sure_of_a_question_whatever_is_sent_with_it(routing) -> None:
    it = await routing(hosted("able"), hosted("new"), with_router=False, prior=day_one())
    plain, with_tools = [
        (await it.predict(asked, CALLER, with_stderr=True)).scores
        for asked in (request(), request(tools=[{}]))
    ]
    assert plain.quality_stderr == with_tools.quality_stderr
    assert min(plain.quality_stderr) > 0.0


async def test_a_router_that_fails_does_not_fail_the_request(routing) -> None:
    class Wrong(Embedder):
        async def embed(self, text: str, team_id: str) -> np.ndarray:
            return np.full(ENCODER.dimension, "x")

    plan = await planned(await routing(embedder=Wrong()), request())
    assert plan.reason == "router_failed"
    assert plan.models[0].name == "large"


async def test_a_router_that_knows_no_model_of_the_pool_leaves_it_to_the_default(routing) -> None:
    plan = await planned(await routing(hosted("x"), hosted("y")), request())
    assert (plan.reason, plan.models[0].name) == ("router_missing", "y")
    assert {candidate.verdict for candidate in plan.candidates} == {"not_in_router"}


async def test_a_model_the_router_does_not_know_is_the_last_fallback(routing) -> None:
    plan = await planned(await routing(hosted("new"), hosted("small")), request())
    assert [model.name for model in plan.models] == ["small", "new"]


async def test_a_model_that_cannot_is_never_tried(routing) -> None:
    it = await routing(hosted("small", tools=False), hosted("large"))
    plan = await planned(it, request(tools=[{"type": "function", "function": {"name": "f"}}]))
    assert [model.name for model in plan.models] == ["large"]
    assert plan.candidates[0].verdict == "no_tools"


async def test_a_request_that_no_model_can_take_is_the_caller_s_to_change(routing) -> None:
    it = await routing(hosted("small", tools=False))
    with pytest.raises(NoCapableModel, match="small: no_tools"):
        await planned(it, request(tools=[{"type": "function", "function": {"name": "f"}}]))


async def test_a_key_without_any_served_model_is_told_so(routing) -> None:
    with pytest.raises(NoCapableModel, match="by this key and this profile"):
        await planned(await routing(), request(), Caller("k", "t", allowed_models=frozenset()))


async def test_models_that_are_down_are_worth_waiting_for(routing) -> None:
    down = {("p", "small"), ("p", "large")}
    with pytest.raises(NoModelAvailable):
        await planned(await routing(paused=lambda: down), request())


async def test_a_pinned_version_decides(routing, store) -> None:
    it = await routing()
    other = store.put(router_artifact(seed=1)).version
    plan = await planned(it, request(waypost={"router_version": other}))
    assert plan.router_version == other


@pytest.mark.parametrize("version", ["../../etc/passwd", "kmeans-20260101-000000000000"])
async def test_a_pin_that_cannot_be_used_is_the_caller_s_error(routing, version) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await planned(await routing(), request(waypost={"router_version": version}))
    assert caught.value.param == "waypost.router_version"


@pytest.mark.parametrize("kind", ["epsilon", "thompson"])
async def test_exploration_logs_the_probability_it_chose_with(routing, kind) -> None:
    it = await routing(exploration=Exploration(kind, 0.5))
    plans = [await planned(it, request()) for _ in range(200)]
    explored = [plan for plan in plans if plan.reason == "explored"]
    assert explored
    assert all(0 < plan.propensity <= 1 for plan in plans)
    assert sum(c.propensity for c in plans[0].candidates) == pytest.approx(1.0)


async def test_standard_errors_are_predicted_where_they_are_asked_for(routing) -> None:
    it = await routing(hosted("small"), hosted("new"), hosted("large"))
    told = it.choose(await it.predict(request(), CALLER, with_stderr=True))
    small, new, large = (one["quality_stderr"] for one in explain(told)["candidates"])
    assert 0 < small < 0.3
    assert 0 < large < 0.3
    assert new is None


async def test_a_decision_that_does_not_explore_asks_for_no_standard_errors(
    routing, monkeypatch
) -> None:
    it = await routing()
    monkeypatch.delattr("router_models.artifacts.router.Router.quality_stderr")
    plan = await planned(it, request())
    assert plan.reason == "router"
    assert [one["quality_stderr"] for one in explain(plan)["candidates"]] == [None, None]


def arm(name: str, max_tokens: int) -> HostedModel:
    return replace(hosted(name), request_defaults={"max_tokens": max_tokens})


async def best_of(it: Routing, turn_budget: int | None) -> tuple[str, list[str]]:
    """Route at any price; return the chosen model and every candidate's verdict."""
    own = {} if turn_budget is None else {"turn_budget": turn_budget}
    asked = request(waypost={"willingness_to_pay": 1e6, **own})
    plan = await planned(
        it, asked, budgets=make_turn_budgets(choices=[256, 4096], expected_turns=1)
    )
    return plan.models[0].name, [candidate.verdict for candidate in plan.candidates]


async def test_model_and_budget_are_chosen_together_within_the_allotment(routing) -> None:
    it = await routing(arm("small", 4096), arm("large", 4096))
    best, _ = await best_of(it, None)
    other = {"small": "large", "large": "small"}[best]
    pairs = await routing(arm(best, 4096), arm(other, 256))
    assert await best_of(pairs, 4096) == (best, ["ok", "ok"])
    assert await best_of(pairs, 256) == (other, ["over_allotment", "ok"])


async def test_where_no_pair_fits_all_are_cut_to_fit(routing) -> None:
    it = await routing(arm("small", 4096), arm("large", 512))
    assert (await best_of(it, 256))[1] == ["ok", "ok"]


async def test_the_policy_sees_what_the_router_expects_of_the_best_model(routing) -> None:
    it = await routing()
    prediction = await it.predict(request(), CALLER)
    best = max(it.choose(prediction).candidates, key=lambda candidate: candidate.quality or 0.0)
    assert prediction.best() == (best.quality, best.cost_usd)


async def test_a_named_model_s_turn_is_allotted_too(routing) -> None:
    asked = request("small", waypost={"turn_budget": 1000})
    plan = await planned(await routing(), asked, budgets=make_turn_budgets())
    assert plan.allotment is not None
    assert plan.allotment.cap.tokens == 256


@pytest.mark.parametrize(
    ("model", "key", "profile"),
    [
        ("auto", None, "balanced"),
        ("auto", "economy", "economy"),
        ("quality", "economy", "quality"),
        ("small", "economy", "economy"),
        ("small", "gone", "balanced"),
    ],
)
async def test_a_request_falls_under_its_own_profile_else_the_key_s(
    routing, model, key, profile
) -> None:
    caller = Caller("k", "t", profile=key)
    assert (await (await routing()).predict(request(model), caller)).profile_name == profile


async def test_without_a_router_a_turn_is_allotted_all_the_same(routing) -> None:
    asked = request(waypost={"turn_budget": 1000})
    plan = await planned(await routing(with_router=False), asked, budgets=make_turn_budgets())
    assert plan.allotment is not None
    assert (plan.reason, plan.allotment.cap.tokens) == ("router_missing", 256)


@pytest.mark.parametrize("model", ["auto", "small"])
async def test_a_field_that_no_provider_may_be_sent_is_refused_by_its_name(routing, model) -> None:
    strict = replace(hosted("small"), fields=frozenset({"model", "messages"}))
    with pytest.raises(InvalidRequest, match=r"`plugins`.*extra_fields") as refused:
        await planned(await routing(strict), request(model, plugins=[{"id": "web"}]))
    assert refused.value.param == "plugins"
