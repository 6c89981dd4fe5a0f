"""A gate with a Flower that remembers behind it, and a node in front of it."""

import asyncio
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx2
from aiohttp import web
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from federation.deployment.certificates import CertificateFolder
from federation.deployment.gate import Gate, GateLimits
from federation.deployment.node_keys import NodeKeys
from federation.deployment.signed_calls import sign_call
from tests.fakes.patience import PATIENCE_S

PULL = "/v1/fleet/pull-messages"


@dataclass
class Flower:
    """Stands behind the gate, answers everything and remembers what it was asked."""

    calls: list[tuple[str, bytes, dict[str, str]]] = field(default_factory=list)
    answer: bytes = b"answer"
    is_stuck: bool = False

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.calls.append((request.path, await request.read(), headers))
        if self.is_stuck:
            await asyncio.Event().wait()
        return web.Response(body=self.answer, content_type="application/protobuf")


@dataclass
class Node:
    """Calls the gate as a node does."""

    http: httpx2.AsyncClient
    folder: CertificateFolder
    flower: Flower
    gate_port: int

    def signed(
        self,
        name: str = "acme",
        path: str = PULL,
        content: bytes = b"x",
        at: datetime | None = None,
    ) -> dict[str, str]:
        """Headers that prove who calls, and what."""
        raw = (self.folder.private_keys / f"{name}.key").read_bytes()
        key = serialization.load_ssh_private_key(raw, password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        timestamp = (at or datetime.now(UTC)).isoformat()
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        signature = key.sign(timestamp.encode(), ec.ECDSA(hashes.SHA256()))
        return {
            "flwr-public-key": b64encode(public).decode(),
            "flwr-timestamp": timestamp,
            "flwr-signature": b64encode(signature).decode(),
            **sign_call(key, path, content, timestamp),
        }

    async def call(self, path: str = PULL, content: bytes = b"question") -> httpx2.Response:
        """Make a call that is in good order."""
        headers = self.signed(path=path, content=content)
        return await self.http.post(path, content=content, headers=headers)


@asynccontextmanager
async def gated(
    tmp_path: Path,
    limits: GateLimits | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> AsyncIterator[Node]:
    """Open a gate that knows the node ``acme``."""
    folder, inside, flower = CertificateFolder(tmp_path / "c"), tmp_path / "inside", Flower()
    folder.issue_server(["127.0.0.1"], datetime.now(UTC))
    folder.make_node_key("acme")
    loopback = CertificateFolder(inside)
    loopback.issue_server(["127.0.0.1"], datetime.now(UTC))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(loopback.server, loopback.server_key)
    runner = web.ServerRunner(web.Server(flower), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    gate = Gate(
        upstream=f"https://127.0.0.1:{runner.addresses[0][1]}",
        authority=loopback.authority,
        keys=lambda: NodeKeys.read(folder.public_keys),
        clock=clock,
        limits=limits or GateLimits(),
    )
    trusted = ssl.create_default_context(cafile=folder.authority)
    try:
        async with (
            gate.listen("127.0.0.1", 0, folder.server, folder.server_key) as port,
            httpx2.AsyncClient(
                base_url=f"https://127.0.0.1:{port}",
                verify=trusted,
                trust_env=False,
                timeout=PATIENCE_S,
            ) as http,
        ):
            yield Node(http, folder, flower, port)
    finally:
        await runner.cleanup()
