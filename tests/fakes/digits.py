"""A language of ten digits, in which a tiny model can learn to answer."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from federation.reasoner.prompts import Prompt, parse_prompts
from federation.reasoner.responses import Response

MARKER: Final = 10
END: Final = 11
N_TOKENS: Final = 12


@dataclass
class DigitTokenizer:
    """One token per digit, the next one for everything else, and one more that ends answers."""

    n_digits: int = MARKER
    chat_template: Any = "digits"
    eos_token_id: Any = field(init=False)

    def __post_init__(self) -> None:
        self.eos_token_id = self.n_digits + 1

    def apply_chat_template(
        self, conversation: Any, *, add_generation_prompt: bool, return_dict: bool
    ) -> list[int]:
        text = "".join(message["content"] for message in conversation)
        tokens = {str(digit): digit for digit in range(self.n_digits)}
        return [tokens.get(one, self.n_digits) for one in text]

    def decode(self, token_ids: Any, *, skip_special_tokens: bool) -> str:
        return "".join(str(token) for token in token_ids if token < self.n_digits)

    def get_vocab(self) -> dict[str, int]:
        return {str(token): token for token in range(self.n_digits + 2)}


def library_tokenizer(n_digits: int = MARKER) -> PreTrainedTokenizerFast:
    """Make the library's own tokenizer of the same tokens, which can be saved and loaded."""
    digits = {str(digit): digit for digit in range(n_digits)}
    tokens = {**digits, "?": n_digits, "<end>": n_digits + 1}
    tokenizer = Tokenizer(models.WordLevel(tokens, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<end>",
        pad_token="<end>",
        unk_token="?",
        chat_template="{% for message in messages %}{{ message.content }}{% endfor %}",
    )


def digit_prompt(text: str = "1 2", ends_with: str = "3") -> Prompt:
    """Make a prompt whose answer must end with one of these digits."""
    verifier = {"kind": "regex", "pattern": f"[{ends_with}]$"}
    return parse_prompts([("here", {"query_id": text, "text": text, "verifier": verifier})])[0]


def response(digits: str, log_probabilities: Sequence[float] | None = None) -> Response:
    """Make a complete response of these digits."""
    tokens = (*map(int, digits), END)
    seen = tuple(log_probabilities or [-0.5] * len(tokens))
    return Response(digits, tokens, seen, is_complete=True)
