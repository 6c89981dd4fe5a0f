"""Lets other clients' right answers to public prompts into the own group.

PubSwap, arXiv 2604.12160. Everything here is the receiver's own: what a sender says of its answers
counts for nothing.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import isfinite

import numpy as np

from federation.reasoner.prompts import ChatTokenizer, Prompt
from federation.reasoner.responses import Response
from federation.reasoner.settings import ReasonerSettings
from router_models.verifiers.verifiers import NotVerifiable, verify

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response with its reward.

    Attributes:
        response: What was answered.
        reward: Of the verifier, 0 to 1.
        is_foreign: Another client drew it.
        is_verified: The verifier could check it.
    """

    response: Response
    reward: float
    is_foreign: bool = False
    is_verified: bool = True

    @property
    def is_right(self) -> bool:
        """Whether the verifier found nothing wrong."""
        return self.is_verified and self.reward >= 1.0


def grade(prompt: Prompt, responses: Sequence[Response]) -> list[Answer]:
    """Verify responses to one prompt.

    One that cannot be verified gets the mean reward of the others: its advantage is 0, so it
    teaches nothing.
    """
    rewards = [_reward(prompt, one.text) for one in responses]
    known = [reward for reward in rewards if reward is not None]
    neutral = sum(known) / len(known) if known else 0.0
    return [
        Answer(one, neutral if reward is None else reward, is_verified=reward is not None)
        for one, reward in zip(responses, rewards, strict=True)
    ]


def admit_foreign(
    prompt: Prompt,
    responses_by_sender: Mapping[str, Sequence[Response]],
    tokenizer: ChatTokenizer,
    settings: ReasonerSettings,
) -> list[Answer]:
    """Return the responses that are in good order and right by the own verifier.

    Of each sender, copies count once and at most `max_per_sender` are admitted; two senders with
    the same answer count twice. The tokens are what is learned, so the text is read from them.
    """
    n_tokens = len(tokenizer.get_vocab())
    pool: list[Answer] = []
    for sender in sorted(responses_by_sender):
        distinct = {one.tokens: one for one in reversed(responses_by_sender[sender])}
        admitted = _right_answers(
            prompt, list(reversed(distinct.values())), tokenizer, n_tokens, settings
        )
        pool += islice(admitted, settings.max_per_sender)
    return pool


def balanced_swap(
    own: Sequence[Answer], pool: Sequence[Answer], rng: np.random.Generator
) -> list[Answer]:
    """Fill the own group up to one half right answers, as far as the pool has any.

    Wrong answers give way; a group that is half right already stays as it is.
    """
    wrong = [place for place, answer in enumerate(own) if not answer.is_right]
    n_missing = len(own) // 2 - (len(own) - len(wrong))
    return _replace(own, pool, wrong, n_missing, rng)


def random_swap(
    own: Sequence[Answer], pool: Sequence[Answer], rng: np.random.Generator
) -> list[Answer]:
    """Replace one half of the own group, right or wrong, as far as the pool goes: the control."""
    return _replace(own, pool, range(len(own)), len(own) // 2, rng)


def _replace(
    own: Sequence[Answer],
    pool: Sequence[Answer],
    places: Sequence[int],
    most: int,
    rng: np.random.Generator,
) -> list[Answer]:
    n_swapped = max(min(most, len(places), len(pool)), 0)
    group = list(own)
    leaving = rng.choice(len(places), n_swapped, replace=False)
    coming = rng.choice(len(pool), n_swapped, replace=False)
    for place, chosen in zip(leaving, coming, strict=True):
        group[places[place]] = pool[chosen]
    return group


def _reward(prompt: Prompt, text: str) -> float | None:
    """Verify an answer; None where it is beyond what the verifier can check."""
    try:
        return verify(prompt.verifier, text)
    except NotVerifiable as error:
        logger.warning("an answer to prompt %s has no reward: %s", prompt.id, error)
        return None


def _right_answers(
    prompt: Prompt,
    responses: Sequence[Response],
    tokenizer: ChatTokenizer,
    n_tokens: int,
    settings: ReasonerSettings,
) -> Iterator[Answer]:
    for response in responses:
        if not _is_in_order(response, tokenizer, n_tokens, settings):
            continue
        text = tokenizer.decode(list(response.tokens), skip_special_tokens=True)
        answer = Answer(
            replace(response, text=text, is_complete=True),
            _reward(prompt, text) or 0.0,
            is_foreign=True,
        )
        if answer.is_right:
            yield answer


def _is_in_order(
    response: Response, tokenizer: ChatTokenizer, n_tokens: int, settings: ReasonerSettings
) -> bool:
    """Whether it ends by itself, is not too long, and holds tokens and log-probabilities."""
    tokens, seen = response.tokens, response.log_probabilities
    return (
        0 < len(tokens) <= settings.max_response_tokens
        and all(0 <= token < n_tokens for token in tokens)
        and tokens[-1] == tokenizer.eos_token_id
        and tokenizer.eos_token_id not in tokens[:-1]
        and len(seen) == len(tokens)
        and all(isfinite(one) and one <= 0 for one in seen)
    )
