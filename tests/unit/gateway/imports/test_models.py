import orjson
import pytest

from gateway.imports.models import parse_price
from gateway.imports.records import InvalidImport, Model
from gateway.types import HostedModel, ModelPrice
from tests.fakes.evaluation_files import (
    INSPECT,
    LANGFUSE,
    LM_EVAL,
    PROMPTFOO,
    imported,
    means,
    no_models,
)

DEAR = ModelPrice(10**9, 10**10)
POOL = {
    "small": HostedModel("small", "openai", "gpt-4o-mini", DEAR),
    "claude-haiku-4-5": HostedModel("claude-haiku-4-5", "anthropic", "claude-haiku-4-5", DEAR),
}


def test_models_get_the_names_of_the_pool_and_its_prices():
    models = no_models(pool=POOL)
    _, report = imported(INSPECT, metrics=("match",), models=models)
    assert means(report) == {"small": (10, 0.8), "claude-haiku-4-5": (8, 1.0)}
    assert all(one.is_in_pool for one in report.models)
    small = report.models[1]
    assert small.spelled == ("openai/gpt-4o-mini",)
    assert small.cost_usd == pytest.approx(430e-6 * 1 + 60e-6 * 10)


def test_a_map_names_models_by_any_spelling_of_the_file():
    models = no_models(mapped={"openai:chat:gpt-4o-mini": "small", "haiku": "large"})
    _, report = imported(PROMPTFOO, metrics=("score",), models=models)
    assert means(report).keys() == {"small", "large"}


def test_a_price_that_is_given_comes_before_the_list_price():
    models = no_models("openai/gpt-4o-mini=1,10")
    _, report = imported(INSPECT, metrics=("match",), models=models)
    assert report.models[1].cost_usd == pytest.approx(430e-6 + 600e-6)


def test_a_model_without_a_price_is_an_error_that_names_it_and_never_free():
    with pytest.raises(InvalidImport, match=r"no price is known of Qwen/Qwen3-4B: give it with"):
        imported(LM_EVAL, metrics=("strict-match", "acc"), prices=())
    with pytest.raises(InvalidImport, match="no price is known of internal-gardener-v2"):
        imported(LANGFUSE, metrics=("correctness",), prices=())


def test_models_without_a_price_can_be_left_out_and_are_counted():
    _, report = imported(LM_EVAL, metrics=("strict-match", "acc"), prices=(), skip_unpriced=True)
    assert means(report).keys() == {"gpt-4o-mini-2024-07-18"}
    assert report.skipped == {"the model has no price": 7}


def test_costs_counted_from_text_are_marked():
    rows, _ = imported(LM_EVAL, metrics=("strict-match", "acc"))
    assert {row.cost_from for row in rows} == {"estimate"}
    assert all(row.cost_usd > 0 and row.prompt_tokens is None for row in rows)


def test_one_model_with_several_labels_is_several_models(tmp_path):
    whole = orjson.loads((PROMPTFOO / "results.json").read_bytes())
    for result in whole["results"]["results"][:5]:
        result["provider"] = {"id": "openai:gpt-4o-mini", "label": "warm"}
    for result in whole["results"]["results"][5:]:
        result["provider"] = {"id": "openai:gpt-4o-mini", "label": "cold"}
    (tmp_path / "results.json").write_bytes(orjson.dumps(whole))
    _, report = imported(tmp_path, metrics=("score",))
    assert means(report).keys() == {"warm", "cold"}


def test_a_gateways_auto_is_no_name_of_the_model_that_answered():
    models = no_models()
    assert models.name_of(Model("openai/auto", "auto", None, None, "gpt-4o-mini")) == "auto"
    assert models.name_of(Model("gpt-4o-mini", "gpt-4o-mini")) == "gpt-4o-mini"


@pytest.mark.parametrize("text", ["m", "m=1", "=1,2", "m=a,b", "m=1,2,3", "m=-1,2", "m=nan,1"])
def test_a_price_is_a_model_and_two_amounts(text):
    with pytest.raises(InvalidImport, match="--price"):
        parse_price(text)
