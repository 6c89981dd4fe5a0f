"""A server that loads adapters as vLLM does: its calls, its errors, its words."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from tests.fakes.upstream import completion

BASE = "meta/base"
KEY = "sk-vllm"


@dataclass
class FakeVllm:
    """An ASGI application.

    Attributes:
        allows_updates: It was started with VLLM_ALLOW_RUNTIME_LORA_UPDATING.
        refuses_unload: It fails to unload.
        adapters: Folder of each adapter that is loaded.
        calls: Method and path of every request but lists of models.
    """

    allows_updates: bool = True
    refuses_unload: bool = False
    adapters: dict[str, Path] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        raw, more = b"", True
        while more:
            message = await receive()
            raw += message.get("body", b"")
            more = message.get("more_body", False)
        body = json.loads(raw) if raw else {}
        if dict(scope["headers"]).get(b"authorization") != f"Bearer {KEY}".encode():
            status, answer = 401, {"error": "Unauthorized"}
        else:
            status, answer = self._answer(scope["path"], body)
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": orjson.dumps(answer)})

    def _answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/v1/models":
            return 200, {"object": "list", "data": [{"id": n} for n in (BASE, *self.adapters)]}
        self.calls.append(path)
        if path == "/v1/chat/completions":
            return self._complete(body["model"])
        if path == "/v1/load_lora_adapter" and self.allows_updates:
            return self._load(body["lora_name"], Path(body["lora_path"]))
        if path == "/v1/unload_lora_adapter" and self.allows_updates:
            return self._unload(body["lora_name"])
        return 404, {"detail": "Not Found"}

    def _complete(self, model: str) -> tuple[int, Any]:
        if model != BASE and model not in self.adapters:
            return _error(404, f"The model `{model}` does not exist.")
        return 200, completion(f"answered by {model}")

    def _load(self, name: str, path: Path) -> tuple[int, Any]:
        if name in self.adapters:
            return _error(400, f"The lora adapter '{name}' has already been loaded.")
        try:
            rank = json.loads((path / "adapter_config.json").read_bytes())["r"]
        except OSError:
            return _error(404, f"Loading lora {name} failed: No adapter found for {path}")
        if rank > 16:
            return _error(400, f"LoRA rank {rank} is greater than max_lora_rank 16.")
        assert (path / "adapter_model.safetensors").is_file()
        self.adapters[name] = path
        return 200, f"Success: LoRA adapter '{name}' added successfully."

    def _unload(self, name: str) -> tuple[int, Any]:
        if self.refuses_unload or name not in self.adapters:
            return _error(404, f"The lora adapter '{name}' cannot be found.")
        del self.adapters[name]
        return 200, f"Success: LoRA adapter '{name}' removed successfully."


def _error(status: int, message: str) -> tuple[int, Any]:
    return status, {"object": "error", "message": message, "type": "x", "code": status}
