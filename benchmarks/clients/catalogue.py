"""The clients: what is installed of each, and the script that drives it."""

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Client:
    """A client.

    Attributes:
        packages: What is installed; the first one's version is shown.
        script: File in ``scripts``; a Python script drives programs for Node too.
    """

    packages: tuple[str, ...]
    script: str
    registry: Literal["pypi", "npm"] = "pypi"


CLIENTS: Final = {
    "openai (Python)": Client(("openai",), "openai_python.py"),
    "openai (Node)": Client(("openai",), "openai_node.mjs", "npm"),
    "anthropic (Python)": Client(("anthropic",), "anthropic_python.py"),
    "@anthropic-ai/sdk": Client(("@anthropic-ai/sdk",), "anthropic_node.mjs", "npm"),
    "openai-agents": Client(("openai-agents",), "openai_agents.py"),
    "Claude Code": Client(("@anthropic-ai/claude-code",), "claude_code.py", "npm"),
    "Codex": Client(("@openai/codex",), "codex.py", "npm"),
    "Vercel ai": Client(
        ("ai", "@ai-sdk/openai", "@ai-sdk/openai-compatible", "@ai-sdk/anthropic", "zod"),
        "vercel_ai.mjs",
        "npm",
    ),
    "langchain": Client(("langchain-openai", "langchain-anthropic"), "langchain_any.py"),
    "pydantic-ai": Client(("pydantic-ai-slim[openai,anthropic]",), "pydantic_ai_any.py"),
    "litellm": Client(("litellm",), "litellm_any.py"),
    "llama-index": Client(
        ("llama-index-llms-openai-like", "llama-index-embeddings-openai-like"),
        "llama_index_any.py",
    ),
    "instructor": Client(("instructor", "openai", "anthropic"), "instructor_any.py"),
    "opencode": Client(("opencode-ai",), "opencode.py", "npm"),
    "Continue": Client(("@continuedev/cli",), "continue_cli.py", "npm"),
    "Cline": Client(("cline",), "cline.py", "npm"),
    "dspy": Client(("dspy", "numpy"), "dspy_any.py"),
    "haystack": Client(("haystack-ai",), "haystack_any.py"),
    "smolagents": Client(("smolagents[openai,toolkit]",), "smolagents_any.py"),
    "autogen": Client(
        ("autogen-agentchat", "autogen-ext[openai,anthropic]", "anthropic<1"), "autogen_any.py"
    ),
    "aider": Client(("aider-chat",), "aider.py"),
    "llm": Client(("llm",), "llm_cli.py"),
}
"""By the name that is shown and that ``--only`` takes, the most used first."""
