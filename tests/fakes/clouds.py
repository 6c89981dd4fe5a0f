"""What clouds do at their end: they check who signs in, issue credentials, and frame answers.

Written from the vendors' references, and apart from the libraries that the gateway signs in with.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html,
https://docs.aws.amazon.com/lexv2/latest/dg/event-stream-encoding.html,
https://developers.google.com/identity/protocols/oauth2/service-account,
https://learn.microsoft.com/azure/app-service/overview-managed-identity
"""

import hashlib
import hmac
import re
from base64 import b64encode, urlsafe_b64decode
from binascii import crc32
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

import orjson
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.fakes.upstream import Answer, Received, json_answer

ACCESS_KEY = "AKIDEXAMPLE000000000"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
FRAMES = {"content-type": "application/vnd.amazon.eventstream"}
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>\w+)/(?P<scope>(?P<day>\d{8})/(?P<region>[\w-]+)/"
    r"(?P<service>[\w-]+)/aws4_request), SignedHeaders=(?P<headers>[\w;-]+), "
    r"Signature=(?P<signature>[0-9a-f]{64})"
)


def is_signed_for_aws(request: Received, service: str, region: str, secret: str) -> bool:
    """Whether a request has the signature that AWS would make of it."""
    found = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
    if found is None or (found["service"], found["region"]) != (service, region):
        return False
    names = found["headers"].split(";")
    canonical = "\n".join(
        (
            request.method,
            quote(request.path, safe="/-_.~"),
            request.query,
            *(f"{name}:{' '.join(request.headers[name].split())}" for name in names),
            "",
            found["headers"],
            hashlib.sha256(request.raw).hexdigest(),
        )
    )
    moment = request.headers["x-amz-date"]
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{secret}".encode()
    for part in (found["day"], region, service, "aws4_request"):
        key = _mac(key, part)
    signed = _mac(key, "\n".join(("AWS4-HMAC-SHA256", moment, found["scope"], digest)))
    return hmac.compare_digest(signed.hex(), found["signature"]) and "host" in names


def _mac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


def frame(payload: bytes, **headers: str) -> bytes:
    """Write one message in AWS's encoding; ``event_type`` stands for the header `:event-type`."""
    named = b"".join(
        bytes([len(name) + 1])
        + f":{name.replace('_', '-')}".encode()
        + b"\x07"
        + len(value).to_bytes(2, "big")
        + value.encode()
        for name, value in headers.items()
    )
    size = len(named) + len(payload) + 16
    sizes = size.to_bytes(4, "big") + len(named).to_bytes(4, "big")
    whole = sizes + crc32(sizes).to_bytes(4, "big") + named + payload
    return whole + crc32(whole).to_bytes(4, "big")


def framed(events: Iterable[bytes]) -> list[bytes]:
    """Put events of Anthropic's stream into frames, as Bedrock does; it sends no comments."""
    frames = []
    for event in events:
        said = event.partition(b"data: ")[2].strip()
        payload = orjson.dumps({"bytes": b64encode(said).decode(), "p": "abcdefg"})
        kind = {"event_type": "chunk", "message_type": "event"}
        frames.append(frame(payload, content_type="application/json", **kind))
    return frames


def framed_answer(events: Iterable[bytes], **options: Any) -> Answer:
    """Answer with events in frames."""
    return Answer(tuple(framed(events)), headers=FRAMES, **options)


def framed_exception(name: str, message: str) -> bytes:
    """Write the frame that ends a stream that failed."""
    payload = orjson.dumps({"message": message})
    return frame(payload, exception_type=name, message_type="exception")


def aws_error(status: int, message: str, kind: str) -> Answer:
    """Answer with an error of AWS's, whose name is in a header."""
    named = {"x-amzn-errortype": f"{kind}:http://internal.amazon.com/coral/"}
    return json_answer({"message": message}, status, named)


def google_error(status: int, message: str, kind: str, **fields: Any) -> Answer:
    """Answer with an error as Google's OpenAI-compatible endpoints do: in a list."""
    error = {"code": status, "message": message, "status": kind, **fields}
    return json_answer([{"error": error}], status)


class Issuer:
    """Issues credentials over HTTP, numbered, to whoever shows what it expects.

    Attributes:
        lifetime_s: Of what is issued next.
        issued: How often it was asked and had something to give.
        is_down: Answers nothing but errors.
    """

    def __init__(self) -> None:
        self.lifetime_s = 3600.0
        self.issued = 0
        self.is_down = False
        self.signing_key = _new_key()

    def service_account(self, folder: Path, url: str) -> Path:
        """Write the file of an account whose tokens this issues."""
        form = serialization.PrivateFormat.PKCS8
        plain = serialization.NoEncryption()
        pem = self.signing_key.private_bytes(serialization.Encoding.PEM, form, plain).decode()
        account = {
            "type": "service_account",
            "client_email": "gateway@project.iam.gserviceaccount.com",
            "private_key_id": "1",
            "private_key": pem,
            "token_uri": f"{url}/token",
        }
        file = folder / "account.json"
        file.write_bytes(orjson.dumps(account))
        return file

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        raw = b""
        while True:
            message = await receive()
            raw += message.get("body", b"")
            if not message.get("more_body"):
                break
        answer = self._answer(scope, raw)
        status = 403 if answer is None else 200
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": orjson.dumps(answer or {"error": "no"})})

    def _answer(self, scope: Any, raw: bytes) -> dict[str, Any] | None:
        if self.is_down:
            return None
        headers = dict(scope["headers"])
        query = parse_qs(scope["query_string"].decode())
        issue = {
            "/token": lambda: self._google(parse_qs(raw.decode())),
            "/identity": lambda: self._azure(headers, query),
            "/role": lambda: self._aws(headers),
        }[scope["path"]]
        answer = issue()
        self.issued += answer is not None
        return answer

    def _google(self, form: dict[str, list[str]]) -> dict[str, Any] | None:
        """Give a token for an assertion that the account signed."""
        signed, _, signature = form["assertion"][0].rpartition(".")
        self.signing_key.public_key().verify(
            _decoded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256()
        )
        claims = orjson.loads(_decoded(signed.partition(".")[2]))
        if claims["scope"] != "https://www.googleapis.com/auth/cloud-platform":
            return None
        token = f"ya29.google-token-{self.issued + 1}"
        return {"access_token": token, "expires_in": self.lifetime_s, "token_type": "Bearer"}

    def _azure(
        self, headers: dict[bytes, bytes], query: dict[str, list[str]]
    ) -> dict[str, Any] | None:
        """Give the token of a managed identity to the app that knows the header."""
        if headers.get(b"x-identity-header") != b"of-this-app":
            return None
        ends = int((datetime.now(UTC) + timedelta(seconds=self.lifetime_s)).timestamp())
        return {
            "access_token": f"entra-token-{self.issued + 1}",
            "expires_on": str(ends),
            "resource": query["resource"][0],
            "token_type": "Bearer",
        }

    def _aws(self, headers: dict[bytes, bytes]) -> dict[str, Any] | None:
        """Give the keys of a pod's role to the pod that knows the token."""
        if headers.get(b"authorization") != b"of-this-pod":
            return None
        ends = datetime.now(UTC) + timedelta(seconds=self.lifetime_s)
        return {
            "AccessKeyId": ACCESS_KEY,
            "SecretAccessKey": SECRET_KEY,
            "Token": f"aws-session-token-{self.issued + 1}",
            "Expiration": ends.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }


@cache
def _new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _decoded(part: str) -> bytes:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))
