"""How the gateway signs in to AWS, Google Cloud and Azure, by their own libraries.

They are extras, imported only where a provider asks for one. All of them block, so they run in a
thread (`gateway.providers.credentials`): docs/decisions/clouds.md.
"""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.providers.credentials import Credentials, Token
from gateway.settings.base import ConfigurationError
from gateway.settings.cloud import CloudSettings

GOOGLE_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
AZURE_SCOPE: Final = "https://cognitiveservices.azure.com/.default"
AWS_VALID_S: Final = 600.0
"""What AWS's library hands out is good for 10 minutes at least: it renews temporary keys before."""
_LIBRARIES: Final = {
    "aws": ("botocore.auth", "botocore.awsrequest", "botocore.session"),
    "azure": ("azure.identity",),
    "google": ("google.auth", "google.auth.transport.requests", "google.oauth2.service_account"),
}
_AWS_HOST: Final = re.compile(
    r"(?P<service>bedrock(-runtime|-mantle)?)(-fips)?\.(?P<region>[a-z]{2,8}(-[a-z0-9]+)+-\d+)\."
)


def fetcher(name: str, base_url: str, settings: CloudSettings) -> Callable[[], Credentials]:
    """Return what fetches credentials for the provider `name`.

    Raises:
        ConfigurationError: The cloud's library is not installed, or the region is not known.
    """
    cloud = settings.cloud
    try:
        for module in _LIBRARIES[cloud]:
            import_module(module)
    except ImportError as error:
        raise ConfigurationError(
            f'providers.{name}.auth: cloud = "{cloud}" needs packages that are not installed. '
            f"Install them: pip install 'waypost[{cloud}]'"
        ) from error
    if cloud == "aws":
        return _aws(name, base_url, settings)
    if cloud == "google":
        return partial(_google, settings.credentials_file, settings.scope or GOOGLE_SCOPE)
    return partial(_azure, settings.scope or AZURE_SCOPE)


def is_at_aws(base_url: str) -> bool:
    """Whether an address is Bedrock's, which takes its API keys as bearer tokens everywhere."""
    return _AWS_HOST.match(urlsplit(base_url).hostname or "") is not None


@dataclass(frozen=True, slots=True)
class AwsKeys:
    """Keys that sign each request: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html.

    Attributes:
        keys: The library's own, of which nothing changes.
        service: What requests are signed for.
    """

    keys: Any = field(repr=False)
    service: str
    region: str
    valid_s: float = AWS_VALID_S

    @property
    def secrets(self) -> tuple[str, ...]:
        """The keys, and the token of temporary ones."""
        keys = self.keys
        return tuple(filter(None, (keys.secret_key, keys.token, keys.access_key)))

    def headers(
        self, method: str, url: str, content_type: str | None, body: bytes | None
    ) -> Mapping[str, str]:
        """Sign a request: its method, its address, its content.

        Of its headers only those are signed that decide what it means: a proxy may add to others.
        """
        signed = {} if content_type is None else {"content-type": content_type}
        request = import_module("botocore.awsrequest").AWSRequest(
            method=method, url=url, headers=signed, data=body
        )
        signer = import_module("botocore.auth").SigV4Auth(self.keys, self.service, self.region)
        signer.add_auth(request)
        return dict(request.headers.items())


def _aws(name: str, base_url: str, settings: CloudSettings) -> Callable[[], Credentials]:
    found = _AWS_HOST.match(urlsplit(base_url).hostname or "")
    region = settings.region or (found and found["region"])
    if not region:
        raise ConfigurationError(
            f"providers.{name}.auth.region: needed, since base_url names no AWS region"
        )
    is_mantle = found is not None and found["service"] == "bedrock-mantle"
    service = "bedrock-mantle" if is_mantle else "bedrock"

    def fetch() -> Credentials:
        # Anew each time, so that files that an operator changed are read again.
        session = import_module("botocore.session").Session(profile=settings.profile)
        credentials = session.get_credentials()
        if credentials is None:
            raise LookupError("AWS's usual places hold no credentials")
        return AwsKeys(credentials.get_frozen_credentials(), service, region)

    return fetch


def _google(file: object, scope: str) -> Credentials:
    if file is None:
        credentials, _ = import_module("google.auth").default(scopes=[scope])
    else:
        accounts = import_module("google.oauth2.service_account")
        credentials = accounts.Credentials.from_service_account_file(str(file), scopes=[scope])
    credentials.refresh(import_module("google.auth.transport.requests").Request())
    ends = credentials.expiry.replace(tzinfo=UTC)  # the library gives UTC without saying so
    return Token(credentials.token, (ends - datetime.now(UTC)).total_seconds())


def _azure(scope: str) -> Credentials:
    with import_module("azure.identity").DefaultAzureCredential() as credential:
        token = credential.get_token(scope)
    return Token(token.token, token.expires_on - time.time())
