"""The routers that ship with the embedded pool, one per encoder."""

from pathlib import Path

DATA = Path(__file__).with_name("data")


def packaged_router(encoder_id: str) -> Path | None:
    """Return the artefact trained on the embedded pool's calibration; None for other encoders."""
    file = DATA / f"router-{encoder_id}.safetensors"
    return file if file.exists() else None
