"""TAB's network in torch: the same function as `budget.policies.tab`, with gradients."""

import numpy as np
import torch
from torch import Tensor, nn

from budget.policies.mdp import FEATURES
from budget.policies.tab import TabPolicy
from router_models.estimators.arrays import Scaler
from router_models.types import Float32


class TabNetwork(nn.Module):
    """One layer reads questions, one hidden layer joins them with the ledger's numbers."""

    def __init__(
        self,
        policy: type[TabPolicy],
        choices: tuple[int, ...],
        scaler: Scaler,
        n_read: int,
        n_hidden: int,
    ) -> None:
        super().__init__()
        self.policy = policy
        self.choices = choices
        self.scaler = scaler
        self.reader = nn.Linear(len(scaler.shift), n_read)
        self.hidden = nn.Linear(policy.blocks * n_read + len(FEATURES), n_hidden)
        self.head = nn.Linear(n_hidden, len(choices))
        # A feature that training never varies must not move the policy that serves.
        nn.init.zeros_(self.hidden.weight[:, -len(FEATURES) :])
        nn.init.zeros_(self.head.weight)  # begins by preferring no choice
        nn.init.zeros_(self.head.bias)

    def read_plans(self, plans: Tensor, lengths: Tensor) -> Tensor:
        """Read what each turn of each plan sees of the questions.

        Args:
            plans: Scaled embeddings, zeros after a plan's end; shape ``(n, n_turns, dimension)``.
            lengths: Of the plans; shape ``(n,)``.

        Returns:
            Shape ``(n, n_turns, blocks * n_read)``.
        """
        read = torch.tanh(self.reader(plans))
        if not self.policy.sees_plan:
            return read
        turns = torch.arange(read.shape[1])
        is_past = (turns[None, :] < turns[:, None]).expand(len(plans), -1, -1)
        is_coming = (turns[None, :] > turns[:, None]) & (turns < lengths[:, None])[:, None, :]
        return torch.cat([read, *_pool(read, is_past), *_pool(read, is_coming)], dim=2)

    def forward(self, questions: Tensor, features: Tensor) -> Tensor:
        """Return log probabilities of the choices; shape ``(n, n_choices)``.

        Args:
            questions: Of one turn each, as `read_plans` has them; shape ``(n, blocks * n_read)``.
            features: `budget.policies.mdp.features`; shape ``(n, len(FEATURES))``.
        """
        hidden = torch.tanh(self.hidden(torch.cat([questions, features], dim=1)))
        return self.head(hidden).log_softmax(dim=1)  # type: ignore[no-any-return]

    def to_policy(self) -> TabPolicy:
        """Return the policy that proposes what the network does, with numpy alone."""
        return self.policy(
            self.choices,
            self.scaler,
            _array(self.reader.weight.T),
            _array(self.reader.bias),
            _array(self.hidden.weight.T),
            _array(self.hidden.bias),
            _array(self.head.weight.T),
            _array(self.head.bias),
        )


def _pool(read: Tensor, is_seen: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and maximum of the questions that each turn sees, zeros where there is none.

    Args:
        read: Shape ``(n, n_turns, n_read)``, values of tanh.
        is_seen: Shape ``(n, n_turns, n_turns)``.
    """
    count = is_seen.sum(dim=2, keepdim=True)
    mean = (is_seen.float() @ read) / count.clamp(min=1)
    below_tanh = read[:, None].masked_fill(~is_seen[..., None], -2.0)
    return mean, torch.where(count > 0, below_tanh.amax(dim=2), 0.0)


def _array(weights: Tensor) -> Float32:
    return np.ascontiguousarray(weights.detach().numpy(), np.float32)
