"""Draws answers on a server that speaks OpenAI's chat completions, such as vLLM with LoRA."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Protocol

import httpx2
import numpy as np

from federation.errors import FederationError
from federation.reasoner.prompts import Prompt
from federation.reasoner.responses import Response
from federation.reasoner.settings import ReasonerSettings

MAX_CONCURRENT_CALLS: Final = 64
"""Requests under way: the server batches them."""

FINISH_STOP: Final = "stop"
"""`finish_reason` of an answer that ended by itself; ``length`` is one that was cut off."""


class SamplerUnavailable(FederationError):
    """The server draws no answers; the message says why."""


class TextTokenizer(Protocol):
    """What is used of a tokenizer of the transformers library."""

    eos_token_id: Any

    def encode(self, text: str, *, add_special_tokens: bool) -> Any:
        """Return the tokens of a text."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class ServerSampler:
    """Draws over HTTP.

    Tokens are the server's where it sends them: vLLM does when asked by `return_token_ids`
    (https://docs.vllm.ai/en/stable/serving/openai_compatible_server.html). Otherwise they are the
    text's, which may be split in another way than it was drawn. Log-probabilities are left to the
    learner: servers differ in whether they count the temperature in.

    Attributes:
        http: Has the server's ``/v1`` as base URL, its key and the time to wait.
        announce: Puts the adapters as they are now onto the server; returns their model's name.
        tokenizer: The model's.
        settings: Temperature and longest answer.
    """

    http: httpx2.Client
    announce: Callable[[], str]
    tokenizer: TextTokenizer
    settings: ReasonerSettings

    def sample(self, prompts: Sequence[Prompt], k: int, seed: int) -> list[list[Response]]:
        """Return `k` answers to each prompt; the same from call to call if the server keeps seeds.

        Raises:
            SamplerUnavailable: An answer could not be had.
        """
        model = self.announce()
        # One by one: not every server knows `n`, and those that cache prefixes read each once.
        asked = [prompt for prompt in prompts for _ in range(k)]
        seeds = np.random.SeedSequence(seed).generate_state(len(asked)) >> 1
        with ThreadPoolExecutor(MAX_CONCURRENT_CALLS) as pool:
            drawn = list(pool.map(self._draw, [model] * len(asked), asked, seeds.tolist()))
        return [drawn[first : first + k] for first in range(0, len(drawn), k)]

    def _draw(self, model: str, prompt: Prompt, seed: int) -> Response:
        body = {
            "model": model,
            "messages": [{"role": one.role, "content": one.content} for one in prompt.messages],
            "temperature": self.settings.temperature,
            "max_tokens": self.settings.max_new_tokens,
            "seed": seed,
            "return_token_ids": True,
        }
        where = f"{self.http.base_url}chat/completions"
        try:
            answer = self.http.post("chat/completions", json=body)
            answer.raise_for_status()
            choice = answer.json()["choices"][0]
            text, ending = choice["message"]["content"] or "", choice["finish_reason"]
        except httpx2.HTTPStatusError as error:
            detail = error.response.text[:200]
            raise SamplerUnavailable(
                f"{where} refused: {error.response.status_code} {detail}"
            ) from error
        except httpx2.HTTPError as error:
            raise SamplerUnavailable(
                f"{where} does not answer: {type(error).__name__} {error}"
            ) from error
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise SamplerUnavailable(f"{where} sent no chat completion") from error
        tokens = self._tokens(text, choice.get("token_ids"), is_complete=ending == FINISH_STOP)
        return Response(text, tokens, (), tokens[-1:] == (self.tokenizer.eos_token_id,))

    def _tokens(self, text: str, token_ids: Any, *, is_complete: bool) -> tuple[int, ...]:
        tokens = tuple(token_ids or self.tokenizer.encode(text, add_special_tokens=False))
        end = self.tokenizer.eos_token_id
        is_missing = is_complete and tokens[-1:] != (end,)
        # An answer without a token cannot be learned from: one that was cut off to nothing ends.
        return (*tokens, end) if is_missing or not tokens else tokens
