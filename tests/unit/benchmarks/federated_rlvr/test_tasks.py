import numpy as np
import pytest

from benchmarks.federated_rlvr.tasks import KINDS, Sizes, from_tables, made_up
from router_models.verifiers.verifiers import verify

SIZES = Sizes(private=48, public=8, test=40)


def texts_of(prompts):
    return [one.messages[-1].content for one in prompts]


def test_no_question_is_in_two_places():
    world = made_up(SIZES, seed=1)
    everywhere = [world.public, *world.private.values(), *world.test.values()]
    texts = [text for prompts in everywhere for text in texts_of(prompts)]
    assert len(set(texts)) == len(texts) == len(KINDS) * 96


def test_every_client_has_one_kind_and_the_public_set_all_in_equal_parts():
    world = made_up(SIZES, seed=1)
    assert all({one.task for one in own} == {kind} for kind, own in world.private.items())
    assert [one.task for one in world.public] == list(KINDS) * 8


def test_another_seed_asks_other_questions():
    one, other = (made_up(SIZES, seed).test["larger"] for seed in (1, 2))
    assert set(texts_of(one)) != set(texts_of(other))


@pytest.mark.parametrize(
    ("kind", "solve"),
    [
        ("larger", lambda words: max(words[3].strip(","), words[5].strip("?"))),
        ("sum", lambda words: str(int(words[2]) + int(words[4].strip("?")))),
        ("count", lambda words: str(len(words) - 3)),
    ],
)
def test_the_reference_is_the_right_answer(kind, solve):
    for prompt in made_up(SIZES, seed=3).test[kind]:
        right = solve(prompt.messages[-1].content.split())
        assert verify(prompt.verifier, f" {right}.") == 1.0


def table(number, **more):
    verifier = {"kind": "numeric", "reference": number}
    return {"query_id": f"q{number}", "text": "x" * (number + 1), "verifier": verifier, **more}


def test_a_file_without_tasks_is_split_by_the_length_of_its_questions():
    world = from_tables([table(n) for n in range(40)], Sizes(4, 2, 4), seed=0)
    longest = [max(map(len, texts_of(prompts))) for prompts in world.private.values()]
    assert longest == sorted(longest)
    assert np.ptp([len(prompts) for prompts in world.test.values()]) == 0


def test_a_file_with_tasks_gives_each_client_one():
    tables = [table(n, task="ab"[n % 2]) for n in range(20)]
    world = from_tables(tables, Sizes(4, 2, 4), seed=0)
    assert {name: {one.task for one in own} for name, own in world.private.items()} == {
        "a": {"a"},
        "b": {"b"},
    }


def test_too_few_questions_are_refused_by_the_name_of_their_kind():
    with pytest.raises(ValueError, match=r"fewer than 10 questions of b"):
        from_tables([table(n, task="aab"[n % 3]) for n in range(20)], Sizes(4, 2, 4), seed=0)
