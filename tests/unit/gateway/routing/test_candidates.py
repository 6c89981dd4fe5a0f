from gateway.routing.candidates import CandidatePools
from gateway.settings.config import ProfileSettings
from gateway.types import Caller, Capabilities, HostedModel, ModelPrice

ANYONE = Caller(key_id="k", team_id="t")


def hosted(name: str, **capabilities) -> HostedModel:
    return HostedModel(name, "p", name, ModelPrice(1, 1), Capabilities(**capabilities))


def pools_of(offered, *admitted: str) -> CandidatePools:
    profile = ProfileSettings(willingness_to_pay_usd=1, models=list(admitted) or None)
    return CandidatePools(offered, {"balanced": profile})


def test_a_pool_holds_what_both_profile_and_key_admit():
    offered = {name: hosted(name) for name in ("small", "medium", "large")}
    caller = Caller("k", "t", allowed_models=frozenset({"medium", "large", "gone"}))
    pool = pools_of(offered, "small", "medium").find("balanced", caller)
    assert pool.names == ("medium",)
    assert pool.by_name == {"medium": offered["medium"]}


def test_the_same_pool_serves_every_turn():
    pools = pools_of({"small": hosted("small")})
    found = pools.find("balanced", ANYONE)
    assert pools.find("balanced", Caller("other", "t")) is found


def test_an_adapter_joins_the_pool_and_leaves_it_again():
    offered = {"small": hosted("small")}
    pools = pools_of(offered)
    assert pools.find("balanced", ANYONE).names == ("small",)
    offered["tuned"] = hosted("tuned")
    assert pools.find("balanced", ANYONE).names == ("small", "tuned")
    del offered["tuned"]
    assert pools.find("balanced", ANYONE).names == ("small",)


def test_a_model_that_was_changed_replaces_what_had_its_name():
    offered = {"small": hosted("small")}
    pools = pools_of(offered)
    pools.find("balanced", ANYONE)
    offered["small"] = hosted("small", vision=True)
    assert pools.find("balanced", ANYONE).models[0].capabilities.vision


def test_shared_is_the_least_that_any_of_them_can_take():
    models = (
        hosted("a", tools=False, vision=True, context_tokens=8_000),
        hosted("b", vision=True, json_schema=False, context_tokens=4_000, max_output_tokens=100),
        hosted("c", vision=True),
    )
    shared = pools_of({model.name: model for model in models}).find("balanced", ANYONE).shared
    assert shared == Capabilities(
        tools=False,
        vision=True,
        json_schema=False,
        context_tokens=4_000,
        max_output_tokens=100,
    )
