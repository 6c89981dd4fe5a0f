"""Writes what a site must not forget."""

import os
from pathlib import Path


def write_durably(path: Path, data: bytes) -> None:
    """Replace a file, or leave it as it was; what this returned from survives a loss of power."""
    draft = path.with_suffix(".draft")
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
