import pytest

from gateway.errors import ProviderUnsupported
from gateway.providers.refusals import KEPT_S, LONGEST_REST_S, MAX_TEAMS, Learned, Refusals

SENT = frozenset({"logprobs", "max_completion_tokens", "max_tokens", "messages", "temperature"})
PLACE, OTHER = ("one", "m"), ("two", "m")
TOKENS = 100


def refusal(param: object, code: str = "unsupported_parameter") -> ProviderUnsupported:
    return ProviderUnsupported("no", body={"param": param, "code": code})


class Now:
    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def refusals(now: Now) -> Refusals:
    return Refusals(now)


@pytest.mark.parametrize(
    ("field", "code", "is_sent_less", "is_kept"),
    [
        ("temperature", "unsupported_parameter", True, True),
        ("temperature", "unsupported_value", True, True),
        ("max_tokens", "unsupported_parameter", True, True),
        ("logprobs", "unsupported_parameter", False, True),
        ("logprobs", "unsupported_value", False, False),
        ("messages", "unsupported_value", False, False),
        ("tools", "unsupported_parameter", False, False),
        ({"odd": 1}, "unsupported_parameter", False, False),
    ],
)
def test_learns_only_what_holds_for_other_requests(
    refusals: Refusals, field: object, code: str, *, is_sent_less: bool, is_kept: bool
) -> None:
    assert refusals.learn("t", "m", refusal(field, code), SENT, TOKENS) is is_sent_less
    assert refusals.of_team("t") == ({"m": Learned(frozenset({str(field)}))} if is_kept else {})


def test_no_team_learns_from_another(refusals: Refusals) -> None:
    refusals.learn("t", "m", refusal("temperature"), SENT, TOKENS)
    assert refusals.of_team("other") == {}
    assert refusals.of_model("t", "m") == Learned(frozenset({"temperature"}))


def test_a_model_rests_for_one_team_and_a_while(refusals: Refusals, now: Now) -> None:
    refusals.rest("t", PLACE, 5.0)
    refusals.rest("t", OTHER, 10 * LONGEST_REST_S)
    assert refusals.resting("t") == {PLACE: 5.0, OTHER: LONGEST_REST_S}
    assert not refusals.resting("another")
    now.s = 5.0
    assert refusals.resting("t") == {OTHER: LONGEST_REST_S - 5.0}
    now.s = LONGEST_REST_S
    assert not refusals.resting("t")


def test_rests_of_so_many_teams_are_remembered(refusals: Refusals) -> None:
    for number in range(MAX_TEAMS + 1):
        refusals.rest(str(number), PLACE, 5.0)
    assert (refusals.resting("0"), refusals.resting("1")) == ({}, {PLACE: 5.0})


def test_nothing_is_tried_twice(refusals: Refusals) -> None:
    assert refusals.learn("t", "m", refusal("temperature"), SENT, TOKENS)
    assert not refusals.learn("t", "m", refusal("temperature"), SENT - {"temperature"}, TOKENS)
    assert refusals.learn("t", "m", refusal("max_tokens"), SENT, TOKENS)
    assert not refusals.learn("t", "m", refusal("max_completion_tokens"), SENT, TOKENS)


def test_what_another_request_has_learned_meanwhile_is_left_out_at_once(refusals: Refusals) -> None:
    assert refusals.learn("t", "m", refusal("temperature"), SENT, TOKENS)
    assert refusals.learn("t", "m", refusal("temperature"), SENT, TOKENS)


def test_the_shortest_prompt_that_was_too_long_is_remembered(refusals: Refusals) -> None:
    for tokens in (300, 200, 250):
        assert not refusals.learn("t", "m", refusal(None, "context_length_exceeded"), SENT, tokens)
    refusals.learn("t", "m", refusal("temperature"), SENT, TOKENS)
    assert refusals.of_model("t", "m") == Learned(frozenset({"temperature"}), too_long_tokens=200)


def test_thinking_that_is_refused_as_a_field_is_no_lesson_on_earlier_thoughts(
    refusals: Refusals,
) -> None:
    assert not refusals.learn("t", "m", refusal("thinking"), {"thinking"}, TOKENS)
    assert refusals.of_team("t") == {}


def test_forgets_after_a_while(refusals: Refusals, now: Now) -> None:
    refusals.learn("t", "m", refusal("temperature"), SENT, TOKENS)
    now.s = KEPT_S - 1
    assert refusals.of_team("t")
    now.s = KEPT_S
    assert not refusals.of_team("t")
    assert refusals.learn("t", "m", refusal("temperature"), SENT, TOKENS)


def test_remembers_for_so_many_teams_only(refusals: Refusals) -> None:
    for number in range(MAX_TEAMS + 1):
        refusals.learn(str(number), "m", refusal("temperature"), SENT, TOKENS)
    assert refusals.of_team("0") == {}
    assert refusals.of_team(str(MAX_TEAMS))
