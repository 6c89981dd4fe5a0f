"""The settings of who may sign what serves."""

import re
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, field_validator

from gateway.settings.base import Settings

PUBLIC_KEY: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


class ArtifactSettings(Settings):
    """Whose routers, budget policies and adapters may serve."""

    trusted_keys: Annotated[
        dict[str, str],
        Field(
            description="Public keys whose artefacts may serve: a name of your choice, and the 64 "
            "hexadecimal digits that `waypost artifacts keygen` prints. With one or more, an "
            "artefact that none of them signed is refused, and what serves goes on. By default "
            "signatures are not asked for."
        ),
    ] = {}
    signing_key: Annotated[
        Path | None,
        Field(
            description="File of the private key that signs what this process makes: a router that "
            "a coordinator publishes or a node mixes with its own, an adapter that is trained or "
            "embedded here. A gateway that only serves needs none and should not be able to read "
            "it. By default nothing is signed."
        ),
    ] = None

    @field_validator("trusted_keys")
    @classmethod
    def _are_public_keys(cls, keys: dict[str, str]) -> dict[str, str]:
        for name, key in keys.items():
            if PUBLIC_KEY.fullmatch(key) is None:
                raise ValueError(
                    f"{name} is no public key: write the 64 lower-case hexadecimal digits that "
                    "`waypost artifacts keygen` prints"
                )
        return keys
