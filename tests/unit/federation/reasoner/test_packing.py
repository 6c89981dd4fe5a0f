import torch
from hypothesis import given
from hypothesis import strategies as st

from federation.reasoner.packing import PromptResponse, Tree, pack

tokens = st.lists(st.integers(0, 2), min_size=1, max_size=5).map(tuple)
pairs = st.lists(st.builds(PromptResponse, tokens, tokens), min_size=1, max_size=12)


def path_to(tree: Tree, node: int) -> tuple[int, ...]:
    """Read the tokens that a node sees, in their order."""
    seen = torch.nonzero(tree.mask[node])[:, 0]
    ordered = seen[tree.positions[seen].argsort()]
    return tuple(tree.tokens[ordered].tolist())


@given(pairs, st.integers(1, 30))
def test_every_token_is_predicted_from_exactly_what_stood_before_it(given_sequels, most):
    for tree in pack(given_sequels, most):
        seen = [path_to(tree, int(tree.read[at])) for at in tree.picked]
        expected = [
            (one.prompt + one.response[:place], one.response[place])
            for one in (given_sequels[at] for at in tree.members)
            for place in range(len(one.response))
        ]
        assert list(zip(seen, tree.targets.tolist(), strict=True)) == expected


@given(pairs, st.integers(1, 30))
def test_every_sequel_is_packed_once(given_sequels, most):
    packed = [at for tree in pack(given_sequels, most) for at in tree.members]
    assert sorted(packed) == list(range(len(given_sequels)))


@given(pairs)
def test_positions_are_those_of_the_unpacked_rows(given_sequels):
    (tree,) = pack(given_sequels, 10_000)
    assert torch.equal(tree.mask.sum(dim=1) - 1, tree.positions)


@given(pairs, st.integers(1, 30))
def test_only_a_sequel_of_its_own_exceeds_the_limit(given_sequels, most):
    for tree in pack(given_sequels, most):
        assert len(tree.tokens) <= most or len(tree.members) == 1


def test_what_answers_share_is_packed_once():
    prompt = (1, 2, 3)
    answers = [
        PromptResponse(prompt, (4, 5, 9)),
        PromptResponse(prompt, (4, 6, 9)),
        PromptResponse(prompt, (4, 5, 9)),
    ]
    (tree,) = pack(answers, 100)
    assert tree.tokens.tolist() == [1, 2, 3, 4, 5, 6]
    assert len(tree.targets) == 9
