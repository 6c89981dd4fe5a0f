import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.artifacts.registry import ModelRegistry
from router_models.errors import InvalidRegistry

NAMES = st.text(min_size=1, max_size=6)


@st.composite
def registries(draw) -> dict[str, list[str]]:
    """Mappings in which every name has one meaning."""
    names = draw(st.lists(NAMES, unique=True, max_size=12))
    models = draw(st.integers(0, len(names)))
    mapping: dict[str, list[str]] = {model: [] for model in names[:models]}
    for alias in names[models:] if models else []:
        mapping[draw(st.sampled_from(names[:models]))].append(alias)
    return mapping


@given(registries())
def test_every_alias_leads_to_its_model(mapping):
    registry = ModelRegistry(mapping)
    for model, aliases in mapping.items():
        assert {registry.canonical(name) for name in (model, *aliases)} == {model}


@given(registries(), NAMES)
def test_a_canonical_name_stands_for_itself(mapping, name):
    registry = ModelRegistry(mapping)
    assert registry.canonical(registry.canonical(name)) == registry.canonical(name)


@given(registries(), st.randoms())
def test_equal_content_is_equal_whatever_its_order(mapping, random):
    shuffled = [(model, random.sample(names, len(names))) for model, names in mapping.items()]
    random.shuffle(shuffled)
    first, second = ModelRegistry(mapping), ModelRegistry(dict(shuffled))
    assert (first, hash(first), repr(first)) == (second, hash(second), repr(second))


@given(registries())
def test_is_built_again_from_what_it_says(mapping):
    registry = ModelRegistry(mapping)
    assert ModelRegistry(registry.to_mapping()) == registry
    assert bool(registry) == any(mapping.values())


@given(registries())
def test_keeps_the_aliases_of_some_models(mapping):
    models = sorted(mapping)[::2]
    kept = ModelRegistry(mapping).restricted_to(models)
    assert kept == ModelRegistry({model: mapping[model] for model in models})


@given(registries(), registries())
def test_an_organisations_own_names_mean_what_it_says(shared_mapping, own_mapping):
    shared = ModelRegistry({f"shared {m}": names for m, names in shared_mapping.items()})
    own = ModelRegistry({f"shared {m}": names for m, names in own_mapping.items()})
    merged = shared.with_overrides(own)
    for model, names in own:
        assert {merged.canonical(name) for name in names} == {model}
    for model, names in shared:
        untouched = [name for name in names if own.canonical(name) == name]
        assert {merged.canonical(name) for name in untouched} <= {model}


def test_an_own_name_may_be_of_a_model_by_its_alias():
    shared = ModelRegistry({"openai/mini": ["mini"]})
    merged = shared.with_overrides(ModelRegistry({"mini": ["fast"]}))
    assert merged == ModelRegistry({"openai/mini": ["mini", "fast"]})


def test_does_not_let_an_own_name_hide_another_model():
    shared = ModelRegistry({"a": ["first"], "b": ["second"]})
    with pytest.raises(InvalidRegistry, match="'b' is a model of its own"):
        shared.with_overrides(ModelRegistry({"a": ["b"]}))


def test_does_not_change_after_it_was_built():
    names = ["mini"]
    registry = ModelRegistry({"openai/mini": names})
    names.append("other")
    registry.to_mapping()["openai/mini"].append("other")
    assert registry.to_mapping() == {"openai/mini": ["mini"]}
    with pytest.raises(AttributeError):
        registry._aliases = ()  # type: ignore[misc]


def test_is_equal_to_no_other_thing():
    assert ModelRegistry() != {}


@pytest.mark.parametrize(
    ("mapping", "problem"),
    [
        ({"a": ["x"], "b": ["x"]}, "'x' is an alias of both 'a' and 'b'"),
        ({"a": ["x", "x"]}, "'x' is an alias of both 'a' and 'a'"),
        ({"a": ["a"]}, "'a' is a model of its own"),
        ({"a": ["b"], "b": []}, "'b' is a model of its own"),
        ({"a": "x"}, "the aliases of 'a' are not a list"),
        ({"a": 3}, "the aliases of 'a' are not a list"),
        ({"a": [3]}, "3 is not the name"),
        ({"a": [""]}, "'' is not the name"),
        ({"": ["x"]}, "'' is not the name"),
        (["a"], "maps each model's name to a list"),
    ],
)
def test_refuses_names_that_contradict_each_other(mapping, problem):
    with pytest.raises(InvalidRegistry, match=problem):
        ModelRegistry(mapping)


def test_a_column_cannot_be_an_alias_of_another():
    registry = ModelRegistry({"openai/mini": ["mini"]})
    with pytest.raises(InvalidRegistry, match="'mini' is an alias of 'openai/mini'"):
        registry.restricted_to(["mini", "large"])
