"""What one site does with one message: nothing twice, nothing that it should not."""

from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Message

from federation.errors import PlanRefused, ReplyRejected
from federation.reasoner.client import ReasonerClient, answers_to_share
from federation.reasoner.messages import (
    ADAPTER,
    ANSWERS,
    POOL,
    PUBLIC,
    ReasonerInstruction,
    lay_out_prompts,
    unpack,
)
from federation.reasoner.responses import Response
from router_models.estimators.arrays import add_prefix
from router_models.verifiers.verifiers import verify
from tests.fakes.reasoners import (
    SETTINGS,
    TOKENIZER,
    public_prompts,
    reasoner,
    reasoner_plan,
    reasoner_sites,
)

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

BATCH = public_prompts()[:3]
PUBLIC_PROMPTS = lay_out_prompts({2: BATCH, 4: BATCH, 6: BATCH})


def first(plan=None, **changes):
    """The message that begins a round."""
    sent = {**add_prefix(ADAPTER, reasoner().initial), **PUBLIC_PROMPTS, **changes}
    return ReasonerInstruction(plan or reasoner_plan(), 1, sent)


def second(pool=None):
    """The message that brings the others' answers."""
    return ReasonerInstruction(reasoner_plan(), 2, {**PUBLIC_PROMPTS, **(pool or {})})


def assert_equal(one, another):
    assert one.keys() == another.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, another[name])


class Killed(BaseException):
    """The process ends."""


class Mortal:
    """A learner that takes so many steps."""

    def __init__(self, learner, steps):
        self._learner = learner
        self._left = iter(range(steps))

    def __getattr__(self, name):
        return getattr(self._learner, name)

    def private_step(self, prompts):
        if next(self._left, None) is None:
            raise Killed
        return self._learner.private_step(prompts)


class Counting:
    """A learner that counts what it draws."""

    def __init__(self, learner):
        self._learner = learner
        self.drawn = []

    def __getattr__(self, name):
        return getattr(self._learner, name)

    def answer_public(self, prompts):
        self.drawn.append([prompt.id for prompt in prompts])
        return self._learner.answer_public(prompts)


def no_learner(plan, seed):
    raise AssertionError("nothing is left to learn")


@pytest.fixture
def site():
    return reasoner_sites(1)[0]


def test_a_message_that_comes_twice_gets_the_same_answer_and_no_step_is_taken_twice(site):
    answer = ReasonerClient(site).work(site, first())
    idle = replace(site, new_learner=no_learner)
    assert_equal(ReasonerClient(idle).work(idle, first()), answer)


def test_another_message_of_the_same_phase_is_worked_on_from_where_the_phase_began(site):
    client, fresh = ReasonerClient(site), reasoner_sites(1)[0]
    client.work(site, first())
    pool = add_prefix(f"{POOL}0/", client.work(site, first()))
    client.work(site, second())
    other = ReasonerClient(fresh)
    other.work(fresh, first())
    assert_equal(client.work(site, second(pool)), other.work(fresh, second(pool)))


@pytest.mark.parametrize("steps", [0, 1])
def test_a_site_killed_in_a_phase_goes_on_at_the_step(steps):
    plan = reasoner_plan({"public": False, "steps_per_round": 3})
    whole, broken = reasoner_sites(1)[0], reasoner_sites(1)[0]
    answer = ReasonerClient(whole).work(whole, first(plan))
    mortal = replace(broken, new_learner=lambda p, s: Mortal(broken.new_learner(p, s), steps))
    with pytest.raises(Killed):
        ReasonerClient(mortal).work(mortal, first(plan))
    left = replace(broken, new_learner=lambda p, s: Mortal(broken.new_learner(p, s), 3 - steps))
    assert_equal(ReasonerClient(left).work(left, first(plan)), answer)


def test_own_public_answers_are_drawn_once(site):
    counting = Counting(site.learner(reasoner_plan()))
    counted = replace(site, new_learner=lambda plan, seed: counting)
    client = ReasonerClient(counted)
    client.work(counted, first())
    client.work(counted, second())
    assert len(counting.drawn) == 2


def test_a_restarted_site_draws_the_same_public_answers_again(site):
    fresh = reasoner_sites(1)[0]
    client = ReasonerClient(fresh)
    client.work(fresh, first())
    ReasonerClient(site).work(site, first())
    assert_equal(ReasonerClient(site).work(site, second()), client.work(fresh, second()))


def test_only_right_and_whole_answers_leave(site):
    sent = unpack(ReasonerClient(site).work(site, first()))
    assert sent
    for place, response in sent:
        text = TOKENIZER.decode(response.tokens, skip_special_tokens=True)
        assert verify(BATCH[place].verifier, text) == 1.0
        assert response.tokens[-1] == TOKENIZER.eos_token_id


def test_a_site_that_was_not_there_when_the_round_began_waits_for_the_next(site):
    with pytest.raises(PlanRefused, match="started without this site"):
        ReasonerClient(site).work(site, second())


def test_a_site_that_was_killed_in_a_phase_does_not_skip_it(site):
    mortal = replace(site, new_learner=lambda p, s: Mortal(site.new_learner(p, s), 0))
    with pytest.raises(Killed):
        ReasonerClient(mortal).work(mortal, first())
    with pytest.raises(PlanRefused, match="started without this site"):
        ReasonerClient(site).work(site, second())


def test_moments_stay_from_round_to_round(site):
    plan = reasoner_plan({"public": False})
    again = ReasonerInstruction(plan, 2, first(plan).sent)
    client, fresh = ReasonerClient(site), reasoner_sites(1)[0]
    client.work(site, first(plan))
    seasoned = client.work(site, again)
    new = ReasonerClient(fresh).work(fresh, again)
    name = next(name for name in new if "lora_B" in name)
    assert (seasoned[name] != new[name]).any()


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ({f"{ADAPTER}extra": np.zeros(1, np.float32)}, "another model"),
        ({PUBLIC: np.frombuffer(b"[1", np.uint8)}, "public prompts cannot be read"),
        ({PUBLIC: np.frombuffer(b'{"2": [{"query_id": "a"}]}', np.uint8)}, "cannot be read"),
    ],
)
def test_what_does_not_fit_is_refused(site, sent, reason):
    with pytest.raises(PlanRefused, match=reason):
        ReasonerClient(site).work(site, first(**sent))


def test_others_answers_that_cannot_be_read_are_refused(site):
    client = ReasonerClient(site)
    client.work(site, first())
    with pytest.raises(PlanRefused, match="others' answers cannot be read"):
        client.work(site, second({f"{POOL}0/tokens": np.zeros(1, np.int32)}))


def test_a_phase_that_the_plan_does_not_have_is_refused():
    with pytest.raises(PlanRefused, match="no phase 7"):
        _ = ReasonerInstruction(reasoner_plan(), 7).phase


def test_what_diverged_does_not_leave_and_does_not_follow_into_the_next_round(site):
    class Diverged(Mortal):
        def weights(self):
            return {name: array * np.nan for name, array in reasoner().initial.items()}

    plan = reasoner_plan({"public": False})
    broken = replace(site, new_learner=lambda p, s: Diverged(site.new_learner(p, s), 9))
    with pytest.raises(ReplyRejected, match="not finite"):
        ReasonerClient(broken).work(broken, first(plan))
    fresh = reasoner_sites(1)[0]
    again = ReasonerInstruction(plan, 2, first(plan).sent)
    assert_equal(ReasonerClient(site).work(site, again), ReasonerClient(fresh).work(fresh, again))


def right(*tokens):
    return Response("", tokens, (-0.5,) * len(tokens), is_complete=True)


def test_copies_leave_once_and_no_more_than_are_admitted():
    assert answers_to_share([right(1), right(1), right(2), right(3)], SETTINGS) == [
        right(1),
        right(2),
    ]


def test_answers_that_nobody_could_admit_do_not_leave():
    unknown = replace(right(2), log_probabilities=())
    assert answers_to_share([right(1, 1, 1, 1, 1, 1, 1), unknown, right(3)], SETTINGS) == [right(3)]


def test_no_site_takes_no_part(grid):
    message = Message(first().to_content(), 1, ANSWERS)
    with pytest.raises(PlanRefused, match="takes no part in tuning"):
        ReasonerClient(None).answers()[ANSWERS](message)
