"""Has a vLLM server load adapters, and announces them to the gateways: both or neither.

vLLM: https://docs.vllm.ai/en/latest/features/lora/#dynamically-serving-lora-adapters
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2

from gateway.artifacts.store import replace_file
from gateway.pool.announcements import Announcement, AnnouncementFile
from router_models.artifacts.adapter import Adapter

REMEDY: Final = (
    "start it with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 in its environment"
)


class HostRefused(Exception):
    """The server does not do what is asked; the message says why, in its own words or ours."""


@dataclass(frozen=True, slots=True)
class VllmServer:
    """A vLLM server that may load adapters while it runs.

    Attributes:
        http: Client whose base URL is the server's ``/v1``, with its key.
    """

    http: httpx2.Client

    def names(self) -> frozenset[str]:
        """Return the models and adapters it serves.

        Raises:
            HostRefused: It cannot be asked.
        """
        answer = self._ask("GET", "models")
        try:
            return frozenset(str(model["id"]) for model in answer.json()["data"])
        except (ValueError, KeyError, TypeError) as error:
            raise HostRefused(
                f"{self.http.base_url} does not list its models at /models as OpenAI's API does"
            ) from error

    def load(self, name: str, path: str) -> None:
        """Have the adapter in the folder `path`, as the server sees it, served as `name`.

        One that is served already is left as it is: a name is a version, and never changes.

        Raises:
            HostRefused: It did not.
        """
        if name not in self.names():
            self._ask("POST", "load_lora_adapter", {"lora_name": name, "lora_path": path})
        if name not in self.names():
            raise HostRefused(
                f"{self.http.base_url} accepted the adapter {name} but does not serve it"
            )

    def unload(self, name: str) -> None:
        """Have an adapter served no longer; one that is not served is fine.

        Raises:
            HostRefused: It did not.
        """
        if name in self.names():
            self._ask("POST", "unload_lora_adapter", {"lora_name": name})

    def _ask(self, method: str, path: str, body: dict[str, str] | None = None) -> httpx2.Response:
        try:
            answer = self.http.request(method, path, json=body)
        except httpx2.HTTPError as error:
            raise HostRefused(f"{self.http.base_url} cannot be reached: {error}") from error
        if answer.is_success:
            return answer
        said = _message(answer)
        if answer.status_code == 404 and said is None:
            raise HostRefused(f"{self.http.base_url} has no {path}: {REMEDY}")
        raise HostRefused(
            f"{self.http.base_url}{path} answers {answer.status_code}: {said or 'no reason given'}"
        )


@dataclass(frozen=True, slots=True)
class AdapterHost:
    """A server together with the folder through which it gets adapters.

    Attributes:
        server: Loads them.
        folder: Where adapters are put, as this machine sees it.
        seen_as: The same folder as the server sees it.
        announced: Tells the gateways.
        wait: Passes the time in which every gateway has read what is announced.
    """

    server: VllmServer
    folder: Path
    seen_as: str
    announced: AnnouncementFile
    wait: Callable[[], None]

    def announce(self, adapter: Adapter, name: str, model: str) -> Announcement | None:
        """Load `adapter` and offer it as `name`; return what had the name, now unloaded.

        Whatever fails, callers get what they got before.

        Raises:
            HostRefused: The server does not load it, or not unload what had the name.
            ArtifactRejected: What is announced already cannot be read.
            OSError: A file cannot be written.
        """
        was_loaded = adapter.version in self.server.names()
        write_folder(adapter, self.folder / adapter.version)
        self.server.load(adapter.version, f"{self.seen_as.rstrip('/')}/{adapter.version}")
        try:
            before = self.announced.put(Announcement(name, model, adapter.version))
        except BaseException:
            if not was_loaded:
                self.server.unload(adapter.version)
            raise
        if before is not None:
            self._unload_unused(before)
        return before

    def withdraw(self, name: str) -> Announcement:
        """Offer `name` no longer, then unload its adapter.

        Raises:
            HostRefused: The server does not unload it; it is offered no longer all the same.
            ArtifactRejected: There is no such name.
        """
        found = self.announced.remove(name)
        self._unload_unused(found)
        return found

    def _unload_unused(self, announcement: Announcement) -> None:
        """Unload an adapter unless it is still announced on its model, once no gateway asks it."""
        kept = {(one.model, one.version) for one in self.announced.read()}
        if (announcement.model, announcement.version) not in kept:
            self.wait()
            self.server.unload(announcement.version)


def write_folder(adapter: Adapter, folder: Path) -> None:
    """Write the files that peft, transformers and vLLM load an adapter from.

    Raises:
        OSError: They cannot be written.
    """
    for name, content in adapter.to_peft().items():
        replace_file(folder / name, content)


def _message(answer: httpx2.Response) -> str | None:
    """Return what the server says is wrong; None where it does not know the path at all."""
    try:
        body: Any = answer.json()
    except ValueError:
        return answer.text[:300] or None
    if not isinstance(body, dict):
        return None
    error = body.get("error")
    said = error.get("message") if isinstance(error, dict) else body.get("message")
    return str(said)[:300] if said else None
