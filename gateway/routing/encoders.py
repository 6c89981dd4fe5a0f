"""Load the query encoders that ship with the package, and embed queries off the event loop.

Which encoder to run and why: ``docs/decisions/query-encoders.md``.
"""

import asyncio
import hashlib
import importlib
import importlib.resources
import importlib.util
import json
import os
from collections import OrderedDict
from concurrent.futures import Executor, ThreadPoolExecutor
from importlib.resources.abc import Traversable
from typing import Final, Literal, cast

import numpy as np
from numpy.typing import NDArray

from gateway.settings.config import ConfigurationError
from router_models.encoders.encode import StaticEncoder
from router_models.encoders.features import cap_text
from router_models.errors import ArtifactRejected
from router_models.types import Encoder, Float32

MANIFEST_FILE: Final = "manifest.json"
DEFAULT_CACHE_ENTRIES: Final = 10_000

_KEY_BYTES: Final = 16


def packaged_encoders() -> Traversable:
    """Return the folder of encoder files inside the installed package."""
    return importlib.resources.files("router_models") / "encoders"


def load_encoder(
    name: Literal["static", "minilm", "auto"], folder: Traversable | None = None
) -> Encoder:
    """Load an encoder and check its files; ``auto`` is ``minilm`` where that is installed.

    Args:
        name: ``routing.encoder`` of the configuration.
        folder: Holds the files and their manifest; by default the installed package's.

    Raises:
        ConfigurationError: ``minilm`` is asked for, and onnxruntime or its weights are missing.
        ArtifactRejected: A file is missing, or is not the one the manifest describes.
    """
    folder = packaged_encoders() if folder is None else folder
    missing = _missing_for_minilm(folder)
    if name == "static" or (name == "auto" and missing):
        return StaticEncoder.from_files(read_encoder_files(folder, "static"))
    if missing:
        raise ConfigurationError(
            f'routing.encoder = "minilm" needs {missing}: '
            "pip install 'waypost[accurate]', or set routing.encoder = \"static\""
        )
    # An optional dependency: the module must not be imported where onnxruntime is missing.
    minilm = importlib.import_module("router_models.encoders.minilm").MiniLMEncoder
    return cast("Encoder", minilm.from_files(read_encoder_files(folder, "minilm")))


def _missing_for_minilm(folder: Traversable) -> str:
    """Name what ``waypost[accurate]`` would bring along; empty where it is installed."""
    missing = []
    if importlib.util.find_spec("onnxruntime") is None:
        missing.append("onnxruntime")
    # A distribution of its own, two thirds of what the base wheel would weigh.
    if not folder.joinpath("minilm", "model.onnx").is_file():
        missing.append("waypost-minilm")
    return " and ".join(missing)


def read_encoder_files(folder: Traversable, encoder: str) -> dict[str, bytes]:
    """Read the files of one encoder and compare each with the manifest's digest.

    Raises:
        ArtifactRejected: The manifest is unreadable, or a file is missing or altered.
    """
    try:
        manifest = json.loads(folder.joinpath(MANIFEST_FILE).read_bytes())
        names = manifest["encoders"][encoder]["files"]
        digests = {name: manifest["files"][name] for name in names}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactRejected(
            f"encoder manifest {folder / MANIFEST_FILE} is unreadable ({error!r}); "
            "reinstall waypost"
        ) from error
    return {name: _read_verified(folder, name, digest) for name, digest in digests.items()}


def _read_verified(folder: Traversable, name: str, sha256: str) -> bytes:
    try:
        content = folder.joinpath(*name.split("/")).read_bytes()
    except OSError as error:
        raise ArtifactRejected(
            f"encoder file {name} is missing from {folder}; reinstall waypost"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ArtifactRejected(
            f"encoder file {name} in {folder} has sha256 {found}, the manifest says {sha256}: "
            "it is damaged or from another version; reinstall waypost"
        )
    return content


class QueryEmbedder:
    """Embeds one query at a time and remembers the latest.

    Entries are float16 under a hash of the capped text: 10,000 of them take 8 MB and no text is
    kept. Every embedding is rounded to float16, so a query gets the same vector whether or not it
    was remembered. Two equal queries at the same moment are both computed.

    Attributes:
        cache_hits: Queries answered from memory since the start.
        cache_misses: Queries that had to be encoded.
    """

    __slots__ = ("_executor", "_places", "_rows", "cache_hits", "cache_misses", "encoder")

    def __init__(
        self,
        encoder: Encoder,
        *,
        max_entries: int = DEFAULT_CACHE_ENTRIES,
        executor: Executor | None = None,
    ) -> None:
        """Take an encoder to run in `executor`, or on the event loop itself if there is none."""
        self.encoder = encoder
        self.cache_hits = 0
        self.cache_misses = 0
        self._executor = executor
        # One block, of which the system gives memory as it fills: an array for each entry took
        # more, and lay between what comes and goes.
        self._rows = np.empty((max_entries, encoder.dimension), np.float16)
        self._places: OrderedDict[bytes, int] = OrderedDict()

    @property
    def encoder_id(self) -> str:
        """Name and revision of the encoder."""
        return self.encoder.id

    async def embed(self, text: str, team_id: str) -> Float32:
        """Embed `text`; shape ``(dimension,)``, owned by the caller.

        A team is answered from what it asked itself: how long that takes tells nobody what others
        asked.
        """
        capped = cap_text(text)
        named = f"{team_id}\0{capped}".encode()
        key = hashlib.blake2b(named, digest_size=_KEY_BYTES).digest()
        place = self._places.get(key)
        entry: NDArray[np.float16]
        if place is None:
            self.cache_misses += 1
            entry = await self._encode(capped)
            self._remember(key, entry)
        else:
            self.cache_hits += 1
            self._places.move_to_end(key)
            entry = self._rows[place]
        return entry.astype(np.float32)

    async def _encode(self, text: str) -> NDArray[np.float16]:
        if self._executor is None:
            rows = self.encoder.encode([text])
        else:
            loop = asyncio.get_running_loop()
            rows = await loop.run_in_executor(self._executor, self.encoder.encode, [text])
        return np.asarray(rows[0], np.float16)

    def _remember(self, key: bytes, entry: NDArray[np.float16]) -> None:
        place = self._places.get(key)
        if place is None:
            place = len(self._places)
            if place == len(self._rows):
                if not place:
                    return
                _, place = self._places.popitem(last=False)
            self._places[key] = place
        self._rows[place] = entry

    def close(self) -> None:
        """Let the threads go; queries still waiting for one are cancelled."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)


def open_embedder(encoder: Encoder, *, max_entries: int = DEFAULT_CACHE_ENTRIES) -> QueryEmbedder:
    """Give `encoder` the threads it needs.

    The static encoder runs on the event loop: handing 0.2 ms of work to a thread costs more than
    it saves. A network runs in one thread per core: inline, it held up the loop by 566 ms at full
    load, in threads by 4 ms.
    """
    if isinstance(encoder, StaticEncoder):
        return QueryEmbedder(encoder, max_entries=max_entries)
    threads = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="encoder")
    return QueryEmbedder(encoder, max_entries=max_entries, executor=threads)
