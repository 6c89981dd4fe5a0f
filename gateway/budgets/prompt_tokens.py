"""How many tokens a prompt may have: a bound that is never too low, and a count of long ones.

No tokenizer makes more tokens than a text has bytes: byte-level ones begin with one token per byte
and merge, SentencePiece falls back to bytes. Those that normalise first (NFKC) can see more bytes
than were sent, so the longer of both forms counts.

English has 4 to 5 bytes per token, so a long prompt is counted with a tokenizer, where that is the
models' own and is installed. For any other model its bytes are the bound: a tokenizer may make one
token of 128 spaces where another one makes 128.

What a call used is bounded in the same way, where its provider did not say it
(`gateway.chat.usage`): else who always leaves early pays less than is billed.

The tokenizer counts ASCII, with a margin for the form in which a host writes it out, and digits one
by one. Other scripts count by their bytes.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from math import ceil
from typing import Any, Final
from unicodedata import is_normalized, normalize

import orjson

from gateway.budgets.surplus import (
    HOSTS_OWN_TOKENS,
    IMAGE_TOKENS,
    LARGEST_IMAGE_TOKENS,
    Surpluses,
)
from gateway.exact_json import dumps
from gateway.long_work import LongWork
from gateway.types import HostedModel
from router_models.unicode_forms import divided

REQUEST_TOKENS: Final = 64
"""Start marks, and the system prompt that some chat templates add (Llama 3.1: about 30)."""
MESSAGE_TOKENS: Final = 8
"""Marks around a message, beside its role and name, which are counted."""
TOOLS_TOKENS: Final = 600
"""What providers and chat templates say around tools (Anthropic: up to 530)."""
FILE_TOKENS: Final = 50_000
"""A file named by its id or address, whose size nobody here knows: an estimate, no bound."""
CHARS_PER_AUDIO_TOKEN: Final = 40
"""Base64 of 8 kbit/s speech has 1,365 characters per second; models charge up to 32 tokens."""
LONG_TOKENS: Final = 2_000
"""Prompts whose bound is below this are not worth a tokenizer."""
MARGIN: Final = 1.5
"""For how a host writes out roles, tools and schemas."""
USUAL_MARGIN: Final = 1.2
"""What Claude's tokenizer makes of English and code, in tokens of o200k."""
USUAL_IMAGE_TOKENS: Final = 1_600
CHUNK_CHARS: Final = 20_000
"""About 0.3 ms of the tokenizer, which holds the interpreter meanwhile."""

OWN_TOKENIZER: Final = re.compile(r"(^|/)(gpt-4o|gpt-4\.1|gpt-4\.5|gpt-5|chatgpt-4o|o[134])(-|$)")
"""Upstream names of the models that read with o200k: openai.com, tiktoken's `model.py`."""

Count = Callable[[str], int]

_TOOLS = frozenset({"tools", "functions"})
_NOT_IN_PROMPT = frozenset(
    {
        "audio",
        "conversation",
        "encoding_format",
        "include",
        "logit_bias",
        "metadata",
        "modalities",
        "model",
        "previous_response_id",
        "prompt_cache_key",
        "prompt_cache_retention",
        "reasoning",
        "reasoning_effort",
        "safety_identifier",
        "service_tier",
        "stop",
        "stream_options",
        "truncation",
        "user",
        "verbosity",
        "waypost",
    }
)
_FILES = frozenset(
    {"audio_url", "document", "file", "input_file", "input_video", "video", "video_url"}
)
_STRUCTURES = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS


class _Prompt:
    """The texts of a prompt, and the tokens of everything else in it.

    Attributes:
        images: How many of them are in it.
        has_files: Something in it has a size that nobody here knows.
    """

    __slots__ = ("has_files", "images", "other_tokens", "texts")

    def __init__(self, body: Mapping[str, Any]) -> None:
        self.texts: list[str] = []
        self.other_tokens = REQUEST_TOKENS
        self.images = 0
        self.has_files = False
        for name, value in body.items():
            if name in {"messages", "input", "prompt"} and isinstance(value, list):
                for item in value:
                    self._add_message(item)
            elif name in _TOOLS and value:
                self.other_tokens += TOOLS_TOKENS
                self._add_structure(value)
            elif name not in _NOT_IN_PROMPT and value:
                self._add_structure(value)

    def bound(self) -> int:
        """Sum up what the prompt has at most."""
        return self.other_tokens + _most_tokens_of(self.texts)

    def _add_message(self, message: object) -> None:
        """Add one message; also a plain text, or a token of a prompt that is sent as tokens."""
        if isinstance(message, int):
            self.other_tokens += 1
            return
        self.other_tokens += MESSAGE_TOKENS
        if not isinstance(message, dict):
            self._add_structure(message)
            return
        for name, value in message.items():
            if name in {"content", "output"} and isinstance(value, list):
                for part in value:
                    self._add_part(part)
            else:
                self._add_structure(value)

    def _add_part(self, part: object) -> None:
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(part, dict) or not isinstance(kind, str):
            self._add_structure(part)
        elif "image" in kind:
            self.images += 1
            self.other_tokens += IMAGE_TOKENS
        elif kind in _FILES:
            self.has_files = True
            self.other_tokens += max(FILE_TOKENS, _longest_text(part))
        elif "audio" in kind:
            self.other_tokens += -(-_longest_text(part) // CHARS_PER_AUDIO_TOKEN)
        elif isinstance(part.get("text"), str):
            self.texts.append(part["text"])
        else:
            self._add_structure(part)

    def _add_structure(self, value: object) -> None:
        """Add what a chat template may write out, as text or as indented JSON."""
        if isinstance(value, str):
            self.texts.append(value)
        elif isinstance(value, list) and value and all(type(item) is int for item in value):
            self.other_tokens += len(value)
        elif isinstance(value, dict | list):
            self.texts.append(dumps(value, _STRUCTURES).decode())


def worst_prompt_tokens(body: Mapping[str, Any]) -> int:
    """Bound the prompt tokens of a request body, whichever model reads it.

    Texts are bounded for certain; images, audio and files by the constants above.
    """
    return _Prompt(body).bound()


class PromptCounter:
    """Counts tokens with a tokenizer, off the event loop.

    Args:
        count: Tokens of a text; None bounds every prompt by its bytes.
        margin: Multiplies the count of ASCII.
        long_tokens: Prompts with a lower bound are not counted.
        load: Makes `count` when the first long prompt comes: a tokenizer takes 70 MB.
        long_work: Reads what is long, in a thread.
    """

    def __init__(
        self,
        count: Count | None = None,
        *,
        margin: float = MARGIN,
        long_tokens: int = LONG_TOKENS,
        load: Callable[[], Count | None] | None = None,
        long_work: LongWork | None = None,
    ) -> None:
        self._count = count
        self._load = load
        self._margin = margin
        self._long_tokens = long_tokens
        self._long_work = long_work or LongWork()
        self._surpluses = Surpluses()

    async def bound(
        self, body: Mapping[str, Any], models: Sequence[HostedModel], team_id: str
    ) -> int:
        """Return what the prompt of a team has at most, whichever of `models` reads it."""
        prompt = _Prompt(body)
        surplus = self._surpluses.most(models, team_id, prompt.images, has_files=prompt.has_files)
        return await self._bound_for(prompt, models) + surplus

    async def charged_of(
        self,
        claimed: int,
        body: Mapping[str, Any],
        model: HostedModel,
        team_id: str,
        *,
        added: int,
        held: int,
    ) -> int:
        """Return how many of the prompt tokens that a host claims to have read are charged.

        Never more than it can have read, nor more than was held: what it read beyond that is held
        for the team's next prompts.

        Args:
            added: Bound of what the model's own settings add to the prompt.
            held: For the prompt; 0 where nothing was.
        """
        if claimed <= held:
            return claimed
        prompt = _Prompt(body)
        possible = await self._possible(prompt, claimed, added)
        if not held or possible <= held:
            return possible
        surplus = possible - added - await self._bound_for(prompt, [model])
        learn = self._surpluses.of(model, team_id).learn
        learn(surplus, prompt.images, has_files=prompt.has_files)
        return held

    async def bound_text(self, text: str, upstream_name: str) -> int:
        """Return how many tokens the model of that name makes of a text at most."""
        counted = None
        if OWN_TOKENIZER.search(upstream_name):
            counted = await self._long_work.aside(self._counted, [text], self._margin)
        most = await self._most([text])
        return most if counted is None else min(counted, most)

    async def estimate_prompt(self, body: Mapping[str, Any]) -> int:
        """Return about as many tokens as most models read in a request body."""
        prompt = _Prompt(body)
        spare = REQUEST_TOKENS + prompt.images * (IMAGE_TOKENS - USUAL_IMAGE_TOKENS)
        counted = await self._long_work.aside(self._counted, prompt.texts, USUAL_MARGIN)
        if counted is None:
            counted = sum(len(text.encode("utf-8", "replace")) for text in prompt.texts) // 3
        return prompt.other_tokens - spare + counted

    async def _bound_for(self, prompt: _Prompt, models: Sequence[HostedModel]) -> int:
        """Bound a prompt, whichever of `models` reads it; files as far as their context goes."""
        if all(OWN_TOKENIZER.search(model.upstream_name) for model in models):
            bound = await self._count_of(prompt)
        else:
            bound = await self._bound(prompt)
        if not prompt.has_files:
            return bound
        return max(bound, *(model.capabilities.context_tokens or 0 for model in models))

    async def _possible(self, prompt: _Prompt, claimed: int, added: int) -> int:
        room = claimed - HOSTS_OWN_TOKENS - added
        room -= prompt.images * (LARGEST_IMAGE_TOKENS - IMAGE_TOKENS)
        # Characters are quicker to count than bytes, and there are hardly ever more tokens.
        if prompt.has_files or room <= prompt.other_tokens + sum(map(len, prompt.texts)):
            return claimed
        return claimed - max(room - await self._bound(prompt), 0)

    async def _count_of(self, prompt: _Prompt) -> int:
        bound = await self._bound(prompt)
        if bound < self._long_tokens or (self._count is None and self._load is None):
            return bound
        counted = await self._long_work.aside(self._counted, prompt.texts, self._margin)
        return bound if counted is None else min(prompt.other_tokens + counted, bound)

    async def _bound(self, prompt: _Prompt) -> int:
        return prompt.other_tokens + await self._most(prompt.texts)

    async def _most(self, texts: Sequence[str]) -> int:
        """Bound texts; long ones that are not ASCII in a thread: their forms are looked up."""
        if sum(len(text) for text in texts if not text.isascii()) <= CHUNK_CHARS:
            return _most_tokens_of(texts)
        return await self._long_work.aside(_most_tokens_of, texts)

    def _counted(self, texts: list[str], margin: float) -> int | None:
        load, self._load = self._load, None
        if load is not None:
            self._count = load()
        return None if self._count is None else _count_texts(self._count, margin, texts)


def find_tokenizer(encoding: str = "o200k_base") -> Count | None:
    """Load the tokenizer of current OpenAI models, or None where it is not installed.

    Only the compiled part of bpe-openai is loaded (0.06 CPU seconds, 70 MB): its Python part reads
    every vocabulary at import, for ten times as long and twice the memory.
    """
    package = find_spec("bpe_openai")
    if package is None:
        return None
    compiled = PathFinder.find_spec("_bindings", package.submodule_search_locations)
    if compiled is None or compiled.loader is None:
        return None
    module: Any = module_from_spec(compiled)
    compiled.loader.exec_module(module)
    count: Count = module.tokenizer_for_encoding(encoding).count
    return count


def _most_tokens_of(texts: Sequence[str]) -> int:
    return sum(map(_most_tokens, texts))


def _most_tokens(text: str) -> int:
    if text.isascii():
        return len(text)
    pieces = range(0, len(text), CHUNK_CHARS)
    return sum(_most_tokens_of_piece(text[start : start + CHUNK_CHARS]) for start in pieces)


def _most_tokens_of_piece(text: str) -> int:
    """Bound a text short enough that one look at it holds up nobody."""
    text = divided(text)
    sent = len(text.encode("utf-8", "surrogatepass"))
    if is_normalized("NFKC", text):
        return sent
    return max(sent, len(normalize("NFKC", text).encode("utf-8", "surrogatepass")))


def _longest_text(value: object) -> int:
    """Length of the longest string within: the data of an audio or file part."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return max(map(_longest_text, value.values()), default=0)
    return 0


def _count_texts(count: Count, margin: float, texts: list[str]) -> int:
    return sum(_count_text(count, margin, text) for text in texts)


def _count_text(count: Count, margin: float, text: str) -> int:
    """Count in pieces, so that the event loop gets its turn in between."""
    ascii_text = text if text.isascii() else text.encode("ascii", "ignore").decode()
    counted = sum(
        count(ascii_text[start : start + CHUNK_CHARS])
        for start in range(0, len(ascii_text), CHUNK_CHARS)
    )
    digits = sum(map(ascii_text.count, "0123456789"))
    return ceil(counted * margin) + digits + _most_tokens(text) - len(ascii_text)
