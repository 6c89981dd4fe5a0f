import pytest
from pydantic import ValidationError

from gateway.settings.learning import LearningSettings


@pytest.mark.parametrize("shares", [(), (0.0,), (0.5, 0.1), (0.1, 0.1), (0.001, 0.1), (0.6,)])
def test_shares_of_a_canary_grow_and_leave_the_other_router_half(shares):
    with pytest.raises(ValidationError, match="canary_shares"):
        LearningSettings(canary_shares=shares)
    assert LearningSettings(canary_shares=(0.1, 0.5)).canary_shares == (0.1, 0.5)
