"""How the gateway signs in to a cloud that knows who it is, instead of by a key of its own."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gateway.settings.base import Settings

_OF_CLOUD = {
    "aws": frozenset({"region", "profile"}),
    "google": frozenset({"credentials_file", "scope"}),
    "azure": frozenset({"scope"}),
}


class CloudSettings(Settings):
    """How the gateway signs in to a cloud. It takes the place of `api_key`.

    The cloud's own library finds the credentials where it always looks: in the environment, in its
    files, from the machine, the pod or its identity. They are renewed before they expire.
    """

    cloud: Annotated[
        Literal["aws", "google", "azure"],
        Field(
            description="Whose credentials are used: `aws` signs each request (SigV4), `google` "
            "and `azure` send a token of Google's or of Entra ID. Needs the extra of the same "
            "name, as in `waypost[aws]`; without it the gateway does not start."
        ),
    ]
    region: Annotated[
        str | None,
        Field(
            description="AWS region that requests are signed for. By default the one in the host "
            "name of `base_url`; needed where that names none, as behind a proxy."
        ),
    ] = None
    profile: Annotated[
        str | None,
        Field(
            description="Profile of the AWS files, for a second account. By default `$AWS_PROFILE` "
            "and the rest of AWS's usual search."
        ),
    ] = None
    credentials_file: Annotated[
        Path | None,
        Field(
            description="JSON file of a Google service account. By default Google's application "
            "default credentials, which also know workload identities."
        ),
    ] = None
    scope: Annotated[
        str | None,
        Field(
            description="What the token is asked for. By default Google Cloud as a whole, or Azure "
            "Cognitive Services, which includes OpenAI; a sovereign cloud has other names."
        ),
    ] = None

    @model_validator(mode="after")
    def _fits_the_cloud(self) -> Self:
        others = frozenset[str]().union(*_OF_CLOUD.values()) - _OF_CLOUD[self.cloud]
        misplaced = sorted(self.model_fields_set & others)
        if misplaced:
            raise ValueError(f'`{misplaced[0]}` means nothing with cloud = "{self.cloud}"')
        return self
