import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from budget.training.grpo import clipped_loss, group_advantages, has_reward_variance

rewards = st.lists(
    st.lists(st.floats(-2, 1, width=32), min_size=4, max_size=4), min_size=1, max_size=5
).map(torch.tensor)


@given(rewards)
def test_advantages_of_a_group_sum_to_zero(group: Tensor) -> None:
    found = group_advantages(group).sum(dim=1)
    torch.testing.assert_close(found, torch.zeros(len(group)), atol=1e-2, rtol=0)


def test_advantages_are_the_papers_formula():
    found = group_advantages(torch.tensor([[1.0, 0.0]]), eps=0.5)
    torch.testing.assert_close(found, torch.tensor([[0.5, -0.5]]))


def test_a_group_of_equal_rewards_has_no_advantages():
    assert not group_advantages(torch.ones(1, 4)).any()


def test_refuses_a_group_of_one():
    with pytest.raises(ValueError, match="two rollouts"):
        group_advantages(torch.ones(3, 1))


def test_only_groups_with_unequal_rewards_teach():
    assert has_reward_variance(torch.tensor([[1.0, 1.0], [1.0, 0.0]])).tolist() == [False, True]


def log(*probabilities: float) -> Tensor:
    return torch.tensor(probabilities).log().requires_grad_()


def test_the_loss_falls_as_good_choices_become_likelier():
    before = clipped_loss(log(0.5), log(0.5), torch.tensor([1.0]))
    after = clipped_loss(log(0.55), log(0.5), torch.tensor([1.0]))
    assert after < before


@pytest.mark.parametrize(("probability", "advantage"), [(0.9, 1.0), (0.1, -1.0)])
def test_a_choice_that_moved_beyond_the_clip_moves_no_further(probability, advantage):
    now = log(probability)
    clipped_loss(now, log(0.5).detach(), torch.tensor([advantage])).backward()
    assert now.grad is not None
    assert now.grad.item() == 0.0


@pytest.mark.parametrize(("probability", "advantage"), [(0.9, -1.0), (0.1, 1.0)])
def test_a_choice_that_moved_the_wrong_way_is_pulled_back_from_anywhere(probability, advantage):
    now = log(probability)
    clipped_loss(now, log(0.5).detach(), torch.tensor([advantage])).backward()
    assert now.grad is not None
    assert now.grad.item() * advantage < 0
