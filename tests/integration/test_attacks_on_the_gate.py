"""What a registered node may try at a coordinator, and what one that was shut out learns."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import httpx2
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, PullObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient

from federation.deployment.flower import CallSigner
from federation.deployment.gate import CALLS, FLEET
from tests.fakes.federation import PATIENCE_S, Federation, federation_in
from tests.fakes.gate import PULL, Flower, gated
from tests.fakes.gate import Node as Caller
from tests.fakes.turns import until

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("attacks on the gate"),  # one coordinator
]

ACME, EVIL = "acme", "evil"
SITE = 'data_dir = "{data}"\n[embedded]\nenabled = false\n'


class Attacker:
    """Speaks Flower's own protocol with the key of one node."""

    def __init__(self, federation: Federation, name: str) -> None:
        raw = (federation.certificates.private_keys / f"{name}.key").read_bytes()
        key = load_ssh_private_key(raw, password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self.node = Node()
        self.public_key = public_key_to_bytes(key.public_key())
        self.signer = CallSigner(key, key.public_key())
        self.fleet = FleetHttpClient.from_server_address(
            f"127.0.0.1:{federation.port}",
            insecure=False,
            root_certificates=federation.certificates.authority.read_bytes(),
            interceptors=[RuntimeVersionHttpInterceptor("SuperNode"), self.signer],
        )

    def activate(self, public_key: bytes) -> None:
        """Sign a node on."""
        request = ActivateNodeRequest(public_key=public_key, heartbeat_interval=600.0)
        self.node.node_id = self.fleet.ActivateNode(request).node_id

    def pull(self) -> int:
        """Look for messages, as a node does; returns the status."""
        return self.status_of(self.fleet.PullMessages, PullMessagesRequest(node=self.node))

    def status_of(self, call: Callable[[Any], Any], request: Any) -> int:
        """Make a call that may be refused."""
        try:
            call(request)
        except httpx.HTTPStatusError as error:
            return error.response.status_code
        return 200


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def federation(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Federation]:
    async with federation_in(tmp_path_factory.mktemp("federation")) as federation:
        coordinator = federation.lay_out_coordinator()
        for name in (ACME, EVIL):
            federation.certificates.make_node_key(name)
        await coordinator.start()
        await coordinator.says("Waypost coordinates at")
        yield federation


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def acme(federation: Federation) -> AsyncIterator[Attacker]:
    async with signed_on(federation, ACME) as node:
        yield node


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def evil(federation: Federation) -> AsyncIterator[Attacker]:
    async with signed_on(federation, EVIL) as node:
        yield node


@asynccontextmanager
async def signed_on(federation: Federation, name: str) -> AsyncIterator[Attacker]:
    """Wait until Flower knows a node, which takes it a moment."""
    node = Attacker(federation, name)
    with node.fleet:
        await until(lambda: node.status_of(node.activate, node.public_key) == 200, PATIENCE_S, 0.1)
        yield node


async def test_a_node_cannot_act_as_another_one(acme, evil):
    victim, fleet = acme.node, evil.fleet

    assert evil.pull() == 200
    for call, request in (
        (fleet.PullMessages, PullMessagesRequest(node=victim)),
        (fleet.PushMessages, PushMessagesRequest(node=victim)),
        (fleet.SendNodeHeartbeat, SendNodeHeartbeatRequest(node=victim, heartbeat_interval=1.0)),
        (fleet.PullObject, PullObjectRequest(node=victim, object_id="a" * 64)),
        (fleet.ConfirmMessageReceived, ConfirmMessageReceivedRequest(node=victim)),
        (fleet.DeactivateNode, DeactivateNodeRequest(node_id=victim.node_id)),
        (evil.activate, acme.public_key),
    ):
        assert 400 <= evil.status_of(call, request) < 500
    assert acme.pull() == 200


GARBAGE = [b"", b"\x00", b"\xff" * 1_000, b"\x0a\xff\xff\xff\xff\x0f", b"{}", b"\x0a\x02" * 50_000]


@pytest.mark.parametrize("call", sorted(CALLS))
async def test_garbage_that_a_node_signs_is_refused_and_harms_nobody(federation, acme, call):
    trusted = ssl.create_default_context(cafile=federation.certificates.authority)
    url = f"https://127.0.0.1:{federation.port}"
    async with httpx2.AsyncClient(
        base_url=url, verify=trusted, trust_env=False, timeout=PATIENCE_S
    ) as http:
        evil = Caller(http, federation.certificates, Flower(), federation.port)
        for content in GARBAGE:
            for kind in ("application/protobuf", "text/plain"):
                headers = evil.signed(EVIL, FLEET + call, content) | {"content-type": kind}
                answer = await http.post(FLEET + call, content=content, headers=headers)
                assert 400 <= answer.status_code < 500
    assert acme.pull() == 200


async def test_a_node_that_is_revoked_while_it_runs_ends_and_says_why(federation):
    settings = SITE.format(data=federation.folder / "gone")
    node = federation.lay_out_node("gone", settings)
    await node.start()
    await federation.connected("gone")

    federation.certificates.revoke("gone")

    assert node.process is not None
    async with asyncio.timeout(PATIENCE_S):
        assert await node.process.wait() == 1
    assert "has shut this node out" in node.output.splitlines()[-1]


HEAD = f"POST {PULL} HTTP/1.1\r\nhost: gate\r\n".encode()
FLOODS = {
    "a line without end": (HEAD + b"x: ", b"y" * 65_536),
    "headers without end": (HEAD, b"x: " + b"y" * 1_000 + b"\r\n"),
    "a path without end": (b"POST /", b"y" * 65_536),
    "trailers without end": (
        HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n",
        b"x: " + b"y" * 1_000 + b"\r\n",
    ),
}
MOST_BYTES = 64_000_000
"""That a flood may send: what sockets and TLS hold between it and a gate that reads no further."""


async def flooded(node: Caller, begun: bytes, piece: bytes) -> int:
    """Send a request that does not end; return how many bytes were taken before it was cut off."""
    trusted = ssl.create_default_context(cafile=node.folder.authority)
    _, writer = await asyncio.open_connection("127.0.0.1", node.gate_port, ssl=trusted)
    sent = 0
    with suppress(OSError):
        writer.write(begun)
        while sent <= MOST_BYTES:
            writer.write(piece)
            sent += len(piece)
            await writer.drain()
    writer.transport.abort()
    return sent


@pytest.mark.parametrize("is_signed", [False, True], ids=["a stranger", "a node"])
@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_of_headers_is_cut_off_and_harms_nobody(tmp_path, flood, is_signed):
    begun, piece = FLOODS[flood]
    async with gated(tmp_path) as node:
        signed = node.signed(content=b"x") if is_signed else {}
        lines = "".join(f"{name}: {value}\r\n" for name, value in signed.items()).encode()
        begun = begun.replace(b"host: gate\r\n", b"host: gate\r\n" + lines)
        assert await flooded(node, begun, piece) < MOST_BYTES
        assert (await node.call()).content == b"answer"
