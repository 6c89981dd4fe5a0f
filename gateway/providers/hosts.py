"""The hosts that speak OpenAI's dialect and differ in what they take of a conversation.

Looked up once, when the providers are built. Sources: https://docs.mistral.ai/api,
https://console.groq.com/docs/openai, https://api-docs.deepseek.com/guides/thinking_mode,
https://docs.cohere.com/docs/compatibility-api, https://docs.perplexity.ai,
https://platform.openai.com/docs/api-reference/chat/create,
https://ai.google.dev/gemini-api/docs/openai,
https://docs.cloud.google.com/vertex-ai/generative-ai/docs/migrate/openai/overview
"""

from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from gateway.providers.tool_ids import IdForm

_OF_OPENAI: Final = IdForm(r".{1,40}", prefix="call_", longest=40)
_OF_MISTRAL: Final = IdForm(r"[a-zA-Z0-9]{9}", prefix="", longest=9)


@dataclass(frozen=True, slots=True)
class Host:
    """What one host takes.

    Attributes:
        takes_developer: Knows the role `developer`; others are sent `system`.
        takes_reasoning: Takes messages with the reasoning of earlier answers; others refuse these,
            or have no use for them.
        tool_ids: The form of ids of tool calls; None where it takes any.
        output_limit: The one name of the output limit that it knows; None where it knows both.
        refused: Features that none of its models has; see `gateway.providers.lacks`.
        dropped: Fields that none of its models takes, and that an answer may do without.
        signs_calls: Signs the tool calls of its models, and wants the signatures back.
        hides_reasoning: Counts tokens of reasoning in the sum of all tokens alone.
        speaks_responses: Serves OpenAI's Responses too, to which requests on that wire are sent.
    """

    takes_developer: bool = False
    takes_reasoning: bool = True
    tool_ids: IdForm | None = None
    output_limit: str | None = None
    refused: frozenset[str] = frozenset()
    dropped: frozenset[str] = frozenset()
    signs_calls: bool = False
    hides_reasoning: bool = False
    speaks_responses: bool = False


ANY_HOST: Final = Host()
_OPENAI: Final = Host(takes_developer=True, takes_reasoning=False, tool_ids=_OF_OPENAI)
_GOOGLE: Final = Host(
    takes_reasoning=False,
    refused=frozenset({"custom_tools", "logit_bias", "logprobs", "top_logprobs"}),
    dropped=frozenset(
        {
            "metadata",
            "prediction",
            "prompt_cache_key",
            "prompt_cache_retention",
            "safety_identifier",
            "service_tier",
            "store",
            "user",
            "verbosity",
        }
    ),
    signs_calls=True,
    hides_reasoning=True,
)
_GEMINI: Final = replace(
    _GOOGLE,
    refused=_GOOGLE.refused | {"function_call", "functions"},
    dropped=_GOOGLE.dropped | {"frequency_penalty", "presence_penalty", "seed"},
)
"""The Gemini API refuses what Vertex AI, where models of others are too, ignores or takes."""
_HOSTS: Final = {
    "azure": _OPENAI,
    "cerebras": Host(takes_reasoning=False),
    "cohere": Host(takes_reasoning=False, output_limit="max_tokens"),
    "deepseek": Host(output_limit="max_tokens"),
    "gemini": _GEMINI,
    "google": _GOOGLE,
    "groq": Host(takes_reasoning=False),
    "mistral": Host(
        takes_reasoning=False,
        tool_ids=_OF_MISTRAL,
        output_limit="max_tokens",
        refused=frozenset({"functions", "logit_bias", "logprobs", "system_only", "top_logprobs"}),
    ),
    "openai": replace(_OPENAI, speaks_responses=True),
    "perplexity": Host(takes_reasoning=False, output_limit="max_tokens"),
    "x-ai": Host(takes_reasoning=False),
}
_ADDRESSES: Final = {
    "api.openai.com": "openai",
    "openai.azure.com": "azure",
    "services.ai.azure.com": "azure",
    "cognitiveservices.azure.com": "azure",
    "api.cerebras.ai": "cerebras",
    "api.cohere.ai": "cohere",
    "api.cohere.com": "cohere",
    "api.deepseek.com": "deepseek",
    "generativelanguage.googleapis.com": "gemini",
    "aiplatform.googleapis.com": "google",
    "aiplatform.us.rep.googleapis.com": "google",
    "aiplatform.eu.rep.googleapis.com": "google",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral",
    "api.perplexity.ai": "perplexity",
    "api.x.ai": "x-ai",
}


def host_of(kind: str, base_url: str, catalogue: str | None) -> Host:
    """Find a host.

    Args:
        kind: Of the provider.
        catalogue: The host's name in the price catalogue, where an operator gives it.
    """
    address = urlsplit(base_url).hostname or ""
    by_address = (
        name
        for known, name in _ADDRESSES.items()
        if address == known or address.endswith((f".{known}", f"-{known}"))
    )
    name = "azure" if kind == "azure" else next(by_address, catalogue or "")
    return _HOSTS.get(name, ANY_HOST)
