"""Protects a site's replies before they leave: noise, the site's own checks, masks."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from federation.errors import PlanRefused
from federation.exchanges.exchange import Exchange, Task
from federation.exchanges.masked import MaskingKey, is_masked, member_count
from federation.privacy.accounting import PrivacyAccount
from federation.protocol.protocol import Payload, TrainingPlan
from federation.site import SitePolicy, Verdict


@dataclass(frozen=True, slots=True)
class Protection:
    """Stands between a site's rows and the coordinator.

    Attributes:
        account: What noisy answers are charged to, over all sessions; None for no limit. A site
            with an account sends nothing without noise.
        new_rng: Makes the generator of one answer's noise; seeded by the system, since whoever knew
            the seed could take the noise off again.
        masking_key: Keys of masked answers; knows the members that this site adds up with.
    """

    account: PrivacyAccount | None = None
    new_rng: Callable[[], np.random.Generator] = np.random.default_rng
    masking_key: MaskingKey = field(default_factory=MaskingKey)

    def check(self, plan: TrainingPlan, policy: SitePolicy) -> None:
        """Check that a plan meets the site's own policy.

        Raises:
            PlanRefused: It does not; the message says in what.
        """
        if plan.least_rows < policy.least_rows:
            raise PlanRefused(
                f"this site sends no statistics over fewer than {policy.least_rows} rows; the "
                f"plan's least_rows is {plan.least_rows}"
            )
        if plan.noise is None and (policy.needs_noise or self.account is not None):
            raise PlanRefused("this site takes part only with noise, and the plan has none")
        if plan.noise is not None and plan.noise.noise_multiplier < policy.least_noise:
            raise PlanRefused(
                f"this site's noise is at least {policy.least_noise:g} "
                f"(federation.node.least_noise); the plan's is {plan.noise.noise_multiplier:g}"
            )
        if policy.needs_secure_sum and not plan.secure_sum:
            raise PlanRefused("this site takes part only with secure sums, and the plan has none")

    def answer(self, exchange: Exchange, task: Task) -> Payload:
        """Compute what may leave the site; what the coordinator would drop does not leave.

        Raises:
            PlanRefused: The site's rows or its privacy budget do not suffice.
            ReplyRejected: The answer is not what was asked for.
            SecureSumRefused: The others in a secure sum are too few or not agreed on.
        """
        instruction, plan = task.instruction, task.instruction.plan
        masked = is_masked(exchange, plan)
        if masked:
            member_count(instruction)  # refuses a question that names none
        if plan.noise is None or not exchange.is_about_rows:
            payload = exchange.answer(task)
        else:
            payload = self._noisy(exchange, task, masked=masked)
        if plan.noise is None or not masked:
            exchange.form(instruction).check(payload)
        return self.masking_key.mask(exchange, instruction, payload) if masked else payload

    def _noisy(self, exchange: Exchange, task: Task, *, masked: bool) -> Payload:
        instruction = task.instruction
        if self.account is not None:
            self.account.spend(exchange.release(instruction.plan))
        # Up to half of the members may tell the coordinator their own noise; invented ones all do.
        is_shared = masked and self.masking_key.identity is not None
        sharers = max(1, member_count(instruction) // 2) if is_shared else 1
        noisy = exchange.noisy_answer(task, self.new_rng(), sharers)
        return noisy if masked else exchange.post_processed(instruction, noisy)


def withhold_figures(verdict: Verdict, plan: TrainingPlan) -> Verdict:
    """Remove reason and figures from a verdict where the plan has noise: they would have none."""
    if plan.noise is None:
        return verdict
    return replace(verdict, reason="the site does not share its reason", figures={})
