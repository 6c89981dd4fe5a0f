"""Prompts whose answers can be verified: what a reasoning model is tuned on."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from router_models.verifiers.verifiers import InvalidVerifier, VerifierSpec, parse_verifier


class InvalidPrompt(ValueError):
    """A prompt's table cannot be used; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation that waits for an answer, with the means to check it."""

    id: str
    messages: tuple[Message, ...]
    verifier: VerifierSpec
    task: str = ""


class ChatTokenizer(Protocol):
    """What is used of a tokenizer of the transformers library."""

    eos_token_id: Any
    chat_template: Any

    def apply_chat_template(
        self, conversation: Any, *, add_generation_prompt: bool, return_dict: bool
    ) -> Any:
        """Return the tokens of a conversation, up to where the answer begins."""
        ...

    def decode(self, token_ids: Any, *, skip_special_tokens: bool) -> Any:
        """Return the text of tokens."""
        ...

    def get_vocab(self) -> dict[str, int]:
        """Return every token with its number."""
        ...


def parse_prompts(tables: Iterable[tuple[str, Mapping[str, Any]]]) -> list[Prompt]:
    """Read prompts in the form of ``waypost calibrate``, or with `messages` in place of `text`.

    Args:
        tables: Each with the words that tell a reader where it stands.

    Raises:
        InvalidPrompt: A field is missing or wrong, or two prompts share an id.
    """
    prompts: dict[str, Prompt] = {}
    for where, table in tables:
        identity = table.get("query_id") or table.get("id")
        if not isinstance(identity, str):
            raise InvalidPrompt(f"{where}: `query_id` must be non-empty text")
        if identity in prompts:
            raise InvalidPrompt(f"{where}: query_id {identity!r} is there twice")
        try:
            verifier = parse_verifier(_object(table.get("verifier")))
        except InvalidVerifier as error:
            raise InvalidPrompt(f"{where}: verifier: {error}") from error
        task = str(table.get("task") or "")
        prompts[identity] = Prompt(identity, _messages(table, where), verifier, task)
    return list(prompts.values())


def tokens_of(prompt: Prompt, tokenizer: ChatTokenizer) -> tuple[int, ...]:
    """Return what the model reads before it answers."""
    conversation = [{"role": one.role, "content": one.content} for one in prompt.messages]
    return tuple(
        tokenizer.apply_chat_template(conversation, add_generation_prompt=True, return_dict=False)
    )


def batch_of(prompts: Sequence[Prompt], size: int, step: int, seed: int) -> list[Prompt]:
    """Return the prompts of a step: each once before any comes again, in an order of the seed.

    Args:
        prompts: At least one.
        size: Of a batch.
        step: Counted from 0 over the whole session.
        seed: The same seed gives the same batches everywhere.
    """
    places = range(step * size, (step + 1) * size)
    orders = {
        epoch: np.random.default_rng([seed, epoch]).permutation(len(prompts))
        for epoch in {place // len(prompts) for place in places}
    }
    return [prompts[orders[place // len(prompts)][place % len(prompts)]] for place in places]


def tokenizer_sha256(tokenizer: ChatTokenizer) -> str:
    """Digest what must be the same at two sites for tokens to mean the same."""
    known = [sorted(tokenizer.get_vocab().items()), tokenizer.eos_token_id, tokenizer.chat_template]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def _messages(table: Mapping[str, Any], where: str) -> tuple[Message, ...]:
    text = table.get("text")
    if isinstance(text, str) and text:
        return (Message("user", text),)
    given = _object(table.get("messages"))
    try:
        messages = tuple(Message(**one) for one in given)
    except TypeError as error:
        raise InvalidPrompt(f"{where}: `text` or `messages` is missing or wrong") from error
    texts = [text for one in messages for text in (one.role, one.content)]
    if not messages or not all(isinstance(text, str) and text for text in texts):
        raise InvalidPrompt(f"{where}: a message has a `role` and a `content`, both non-empty text")
    return messages


def _object(value: Any) -> Any:
    """Parquet files carry nested values as JSON text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return None
