"""Azure's paths, so that its clients need another address and nothing else.

https://learn.microsoft.com/azure/ai-foundry/openai/reference: a deployment is named in the path.
Here it is a model, or `auto`; the version of the API in the query means nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.endpoints.access import CHAT_PATH
from gateway.endpoints.asgi import Scope
from gateway.wire import ChatRequest, decoded_body, read_chat_request
from gateway.wires.chat import ChatWire

AZURE: Final = "/openai/"
DEPLOYMENT_OF_SCOPE: Final = "waypost.deployment"
"""Where the scope of a request names the model that its path named."""
_BEFORE_VERSION: Final = "/openai"
_VERSIONED: Final = "/openai/v1/"
_DEPLOYMENTS: Final = "/openai/deployments/"
_BELOW_DEPLOYMENTS: Final = {
    "/chat/completions": CHAT_PATH,
    "/completions": "/v1/completions",
    "/embeddings": "/v1/embeddings",
}


def translated(scope: Scope) -> Scope:
    """Return the scope of the same request at the gateway's own path.

    A path that stands for none is left as it is, so that it is answered as any other is.
    """
    path: str = scope["path"]
    if path.startswith(_VERSIONED):
        # Spelled as it was: what is passed through has one spelling only.
        raw: bytes = scope.get("raw_path") or path.encode()
        moved = raw.removeprefix(_BEFORE_VERSION.encode())
        return {**scope, "path": path.removeprefix(_BEFORE_VERSION), "raw_path": moved}
    if not path.startswith(_DEPLOYMENTS) or scope["method"] != "POST":
        return scope
    rest = path.removeprefix(_DEPLOYMENTS)
    for ending, own in _BELOW_DEPLOYMENTS.items():
        model = rest.removesuffix(ending)
        if model and model != rest:
            return {**scope, "path": own, "raw_path": own.encode(), DEPLOYMENT_OF_SCOPE: model}
    return scope


@dataclass(frozen=True, slots=True)
class DeploymentWire(ChatWire):
    """Chat completions of the model that the path names, whatever the body does."""

    model: str

    def parse(self, raw: bytes, headers: Mapping[bytes, bytes]) -> ChatRequest:
        """Parse a request."""
        return read_chat_request(decoded_body(raw) | {"model": self.model}, headers)
