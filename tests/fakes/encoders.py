"""The files of the packaged encoders, and an encoder that keeps what it was asked."""

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from router_models.types import Float32

PACKAGED = Path(__file__).resolve().parents[2] / "router_models" / "encoders"


def packaged_files() -> dict[str, bytes]:
    """Every file of the packaged encoders by its name in the manifest."""
    return {
        path.relative_to(PACKAGED).as_posix(): path.read_bytes()
        for path in PACKAGED.rglob("*")
        if path.is_file()
    }


class FakeEncoder:
    """Embeds a text as its length; keeps the texts and the threads it ran in."""

    id = "fake-1"
    sha256 = "0" * 64
    dimension = 2

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.threads: set[int] = set()

    def encode(self, texts: Sequence[str]) -> Float32:
        """Embed `texts`; a third cannot be held in float16, so rounding shows."""
        self.texts += texts
        self.threads.add(threading.get_ident())
        return np.array([[len(text), 1 / 3] for text in texts], np.float32)
