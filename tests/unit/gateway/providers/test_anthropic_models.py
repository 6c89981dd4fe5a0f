import pytest

from gateway.providers.anthropic_models import traits_of


@pytest.mark.parametrize(
    ("model", "takes_sampling", "adaptive", "budget"),
    [
        ("claude-3-haiku-20240307", True, False, False),
        ("claude-3-5-sonnet-latest", True, False, False),
        ("claude-3-7-sonnet-latest", True, False, True),
        ("claude-sonnet-4-20250514", True, False, True),
        ("claude-sonnet-4-0", True, False, True),
        ("claude-haiku-4-5-20251001", True, False, True),
        ("claude-opus-4-6", True, True, False),
        ("claude-opus-4-7", False, True, False),
        ("claude-sonnet-5", False, True, False),
        ("claude-haiku-5-5", False, True, False),
        ("claude-fable-5-2", False, True, False),
        ("something-new", False, True, False),
    ],
)
def test_tells_traits_from_the_name(
    model: str, *, takes_sampling: bool, adaptive: bool, budget: bool
) -> None:
    traits = traits_of(model)
    assert traits.takes_sampling is takes_sampling
    assert traits.thinks_adaptively is adaptive
    assert traits.takes_budget is budget


def test_some_families_always_think() -> None:
    assert traits_of("claude-fable-5").thinks_always
    assert traits_of("claude-mythos-5-2").thinks_always
    assert not traits_of("claude-opus-5-5").thinks_always
