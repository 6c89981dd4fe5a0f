"""What leaves a site: adapters, figures of steps, and right answers to public prompts. No more."""

import json
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from benchmarks.federation_simulation.in_process import Exchanged
from benchmarks.federation_simulation.reasoner import simulate
from federation.protocol.protocol import ARRAYS, from_record
from federation.reasoner.figures import StepFigures
from federation.reasoner.messages import (
    ADAPTER,
    ADAPTERS,
    ANSWERS,
    FIGURES,
    POOL,
    PROMPTS_USED,
    PUBLIC,
    unpack,
)
from federation.reasoner.prompts import Message, Prompt, tokens_of
from federation.reasoner.rollouts import LocalSampler
from federation.reasoner.trainer import Learner
from tests.fakes.reasoners import (
    TOKENIZER,
    public_prompts,
    reasoner,
    reasoner_plan,
    reasoner_sites,
)

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

SECRET = "a word of mine 0123012301"


@dataclass
class Eavesdropper:
    """Samplers that remember what they drew, as (prompt, tokens)."""

    drawn: dict[str, set[tuple[int, ...]]] = field(default_factory=dict)

    def learner(self, plan, seed):
        model, tokenizer = reasoner().model, TOKENIZER
        sampler = Listening(LocalSampler(model, tokenizer, plan.settings), self)
        return Learner.begin(model, tokenizer, sampler, plan.settings, seed)


@dataclass
class Listening:
    sampler: LocalSampler
    to: Eavesdropper

    def sample(self, prompts, k, seed):
        drawn = self.sampler.sample(prompts, k, seed)
        for prompt, responses in zip(prompts, drawn, strict=True):
            known = self.to.drawn.setdefault(prompt.id, set())
            known.update(response.tokens for response in responses)
        return drawn


def secret(prompt: Prompt) -> Prompt:
    return replace(prompt, messages=(Message("user", f"{SECRET} {prompt.id}"),))


@dataclass(frozen=True)
class Recording:
    """One session's messages and what its sites drew."""

    traffic: list[Exchanged]
    drawn: dict[str, set[tuple[int, ...]]]

    def replies(self, name):
        return [t for t in self.traffic if t.instruction.metadata.message_type == name]


@pytest.fixture(scope="module")
def recording():
    sites, heard = [], Eavesdropper()
    for site in reasoner_sites():
        private = [secret(prompt) for prompt in site.private]
        sites.append(replace(site, private=private, new_learner=heard.learner))
    traffic: list[Exchanged] = []
    simulate(sites, reasoner_plan(), public_prompts(), reasoner().initial, traffic=traffic)
    return Recording(traffic, heard.drawn)


def payload_of(message):
    return from_record(message.content.array_records[ARRAYS])


def batch_of(exchanged):
    """The public prompts that an instruction asks to answer: those of its last step."""
    tables = json.loads(payload_of(exchanged.instruction)[PUBLIC].tobytes())
    return tables[max(tables, key=int)]


def content(message):
    """All bytes of a message."""
    arrays = [a.data for r in message.content.array_records.values() for a in r.values()]
    texts = [str(dict(record)) for record in message.content.config_records.values()]
    return b"".join(arrays) + "".join(texts).encode()


def test_no_private_prompt_is_in_any_message(recording):
    tokens = tokens_of(replace(public_prompts()[0], messages=(Message("user", SECRET),)), TOKENIZER)
    runs = [np.array(tokens[-10:], dtype).tobytes() for dtype in (np.int32, np.int64)]
    for exchanged in recording.traffic:
        for message in (exchanged.instruction, exchanged.reply):
            sent = content(message)
            assert SECRET.encode() not in sent
            assert b"private-" not in sent
            assert not [run for run in runs if run in sent]


def test_answers_that_leave_are_those_drawn_for_public_prompts_and_right(recording):
    n_sent = 0
    for exchanged in recording.replies(ANSWERS):
        batch = batch_of(exchanged)
        for place, response in unpack(payload_of(exchanged.reply)):
            assert response.tokens in recording.drawn[batch[place]["query_id"]]
            text = TOKENIZER.decode(response.tokens, skip_special_tokens=True)
            assert text.endswith(("0", "1")), "those are the right ones"
            n_sent += 1
    assert n_sent > 10
    wrong = [tokens for each in public_prompts() for tokens in recording.drawn[each.id]]
    assert len(wrong) > n_sent


def test_a_reply_holds_the_documented_arrays_and_no_others(recording):
    for exchanged in recording.replies(ANSWERS):
        names = set(payload_of(exchanged.reply))
        assert names == {"prompt", "length", "tokens", "log_probabilities"}
    for exchanged in recording.replies(ADAPTERS):
        payload = payload_of(exchanged.reply)
        weights = {ADAPTER + name for name in reasoner().initial}
        assert set(payload) == {*weights, PROMPTS_USED, FIGURES}
        assert payload[FIGURES].shape == (4, len(StepFigures._fields))


def test_every_other_reply_is_a_profile_or_a_verdict(recording):
    exchanging = {ANSWERS, ADAPTERS}
    for exchanged in recording.traffic:
        if exchanged.instruction.metadata.message_type not in exchanging:
            (record,) = exchanged.reply.content.config_records.values()
            assert set(json.loads(record["json"])) in (
                {"name", "base_sha256", "tokenizer_sha256", "prompts"},
                {"outcome", "version", "reason", "figures"},
            )


def test_a_site_is_sent_the_others_answers_and_not_its_own(recording):
    told = 0
    replies = {
        (t.instruction.metadata.group_id, t.node): payload_of(t.reply)
        for t in recording.replies(ANSWERS)
    }
    for exchanged in recording.traffic:
        phase = exchanged.instruction.metadata.group_id
        sent = payload_of(exchanged.instruction)
        senders = {name.split("/")[1] for name in sent if name.startswith(POOL)}
        others = [replies[key] for key in sorted(replies) if key[0] == str(int(phase or 0) - 1)]
        if senders:
            assert senders == {"0", "1"}
            own = replies[str(int(phase) - 1), exchanged.node]
            expected = [each for each in others if each is not own]
            for sender, payload in enumerate(expected):
                np.testing.assert_array_equal(sent[f"{POOL}{sender}/tokens"], payload["tokens"])
                told += 1
    assert told == 2 * 2 * 3 * 2
