import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from federation.deployment.certificates import CertificateFolder
from federation.deployment.gate import CALLS, UNKNOWN_NODE, Gate, GateLimits
from federation.deployment.node_keys import NodeKeys
from federation.deployment.shut_out import REVOKED_NODE
from federation.deployment.signed_calls import Refusal, SignedCalls
from tests.fakes.gate import PULL, Flower, Node, gated
from tests.fakes.patience import PATIENCE_S
from tests.fakes.turns import until


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with gated(tmp_path) as node:
        yield node


async def test_a_node_gets_its_answer(node):
    answer = await node.call()

    assert (answer.status_code, answer.content) == (200, b"answer")
    assert answer.headers["content-type"] == "application/protobuf"
    path, body, headers = node.flower.calls[0]
    assert (path, body) == (PULL, b"question")
    assert "flwr-signature" in headers


@pytest.mark.parametrize("call", sorted(CALLS))
async def test_whatever_a_node_needs_is_passed_on(node, call):
    assert (await node.call(f"/v1/fleet/{call}")).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/v1/control/start-run",
        "/v1/control/list-nodes",
        "/v1/runtime/acquire-task",
        "/v1/fleet/register-node",
        "/v1/fleet/unregister-node",
        "/v1/fleet/",
        "/v1/fleet/pull-messages/x",
        "/v1/fleet/..%2fcontrol%2fstart-run",
        "/v1/fleet/../control/start-run",
        "/v1/fleet/%2e%2e/control/start-run",
        "//v1/fleet/pull-messages",
        "/docs",
        "/health",
        "/",
    ],
)
async def test_nothing_else_of_flower_is_there(node, path):
    assert (await node.call(path)).status_code == 404
    assert node.flower.calls == []


async def test_a_call_is_a_post(node):
    assert (await node.http.get(PULL, headers=node.signed())).status_code == 404


async def test_a_stranger_is_told_what_to_do_and_heard_no_further(node):
    node.folder.make_node_key("stranger")
    (node.folder.public_keys / "stranger.pub").unlink()

    answer = await node.http.post(PULL, content=b"x", headers=node.signed("stranger"))

    assert answer.status_code == 404
    assert "does not know this node's key" in answer.json()["detail"]
    assert node.flower.calls == []


async def test_who_does_not_sign_is_a_stranger(node):
    assert (await node.http.post(PULL, content=b"x")).status_code == 404
    assert node.flower.calls == []


async def test_a_revoked_node_is_shut_out_at_once_under_every_name(node):
    twin = node.folder.public_keys / "twin.pub"
    twin.write_bytes((node.folder.public_keys / "acme.pub").read_bytes())
    assert (await node.call()).status_code == 200

    node.folder.revoke("acme")

    assert (await node.call()).status_code == 404
    assert len(node.flower.calls) == 1


async def test_a_revoked_node_is_told_so_and_nobody_else_is(node):
    theirs = node.signed()
    node.folder.revoke("acme")
    stranger = {**theirs, "flwr-signature": node.signed()["waypost-signature"]}

    told, other = [
        await node.http.post(PULL, content=b"x", headers=headers) for headers in (theirs, stranger)
    ]

    assert told.json() == {
        "code": REVOKED_NODE,
        "detail": "The coordinator's operator has shut this node out.",
    }
    assert other.json()["code"] == UNKNOWN_NODE


async def test_a_rotated_key_lets_the_node_in_and_the_old_one_nobody(node):
    old = node.signed()
    node.folder.rotate("acme")

    assert (await node.call()).status_code == 200
    assert (await node.http.post(PULL, content=b"x", headers=old)).status_code == 404


async def test_a_call_is_heard_once(node):
    headers = node.signed()

    first, second = [await node.http.post(PULL, content=b"x", headers=headers) for _ in range(2)]

    assert (first.status_code, second.status_code) == (200, 503)
    assert len(node.flower.calls) == 1


async def test_a_call_that_was_overheard_cannot_be_replayed_to_a_gate_that_was_restarted(tmp_path):
    async with gated(tmp_path) as node:
        overheard = node.signed()
    later = datetime.now(UTC) + timedelta(seconds=60)
    async with gated(tmp_path, clock=lambda: later) as node:
        answer = await node.http.post(PULL, content=b"x", headers=overheard)
        assert answer.status_code == 503
        assert node.flower.calls == []


@pytest.mark.parametrize(
    ("path", "content"), [("/v1/fleet/push-messages", b"x"), (PULL, b"another body")]
)
async def test_a_signature_fits_one_path_and_one_body(node, path, content):
    answer = await node.http.post(path, content=content, headers=node.signed())

    assert answer.status_code == 404
    assert node.flower.calls == []


@pytest.mark.parametrize("header", ["waypost-nonce", "waypost-body-sha256", "flwr-timestamp"])
async def test_nothing_that_is_signed_can_be_replaced(node, header):
    headers = {**node.signed(), header: node.signed(content=b"y")[header]}

    assert (await node.http.post(PULL, content=b"x", headers=headers)).status_code == 404


async def test_a_node_of_an_older_version_is_told_to_be_upgraded(node):
    headers = {n: value for n, value in node.signed().items() if n.startswith("flwr-")}

    answer = await node.http.post(PULL, content=b"x", headers=headers)

    assert answer.status_code == 404
    assert "install the coordinator's version" in answer.json()["detail"]


def test_one_node_cannot_fill_the_memory_of_nonces(tmp_path):
    folder = CertificateFolder(tmp_path)
    folder.make_node_key("acme")
    keys, now = NodeKeys.read(folder.public_keys), datetime.now(UTC)
    node = Node(httpx2.AsyncClient(), folder, Flower(), 0)
    calls = SignedCalls(now - timedelta(hours=1), max_calls=3)

    def admitted():
        return calls.admit(keys, PULL, node.signed(), now)

    assert [admitted() for _ in range(4)] == ["acme"] * 3 + [Refusal.TOO_MANY]
    now += timedelta(seconds=311)
    assert calls.admit(keys, PULL, node.signed(at=now), now) == "acme"


async def test_a_body_that_is_too_long_is_not_passed_on(tmp_path):
    async with gated(tmp_path, GateLimits(max_body_bytes=1000)) as node:
        assert (await node.call(content=b"x" * 1000)).status_code == 200
        assert (await node.call(content=b"x" * 1001)).status_code == 413
        assert len(node.flower.calls) == 1


async def test_a_body_that_does_not_end_is_given_up(tmp_path):
    async with gated(tmp_path, GateLimits(deadline_s=0.2)) as node:
        trusted = ssl.create_default_context(cafile=node.folder.authority)
        reader, writer = await asyncio.open_connection("127.0.0.1", node.gate_port, ssl=trusted)
        headers = "".join(f"{name}: {value}\r\n" for name, value in node.signed().items())
        head = f"POST {PULL} HTTP/1.1\r\nHost: gate\r\n{headers}Content-Length: 10\r\n\r\n"
        writer.write(head.encode() + b"x")

        assert b" 504 " in await reader.readline()
        assert node.flower.calls == []
        writer.close()


async def test_a_call_that_flower_does_not_answer_is_given_up(tmp_path):
    async with gated(tmp_path, GateLimits(deadline_s=0.2)) as node:
        node.flower.is_stuck = True

        assert (await node.call()).status_code == 504


async def test_too_many_calls_at_once_are_asked_to_come_back(tmp_path):
    async with gated(tmp_path, GateLimits(max_calls=2, deadline_s=PATIENCE_S)) as node:
        node.flower.is_stuck = True
        waiting = [asyncio.create_task(node.call()) for _ in range(2)]
        await until(lambda: len(node.flower.calls) >= 2)

        assert (await node.call()).status_code == 503
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)


async def test_one_node_does_not_take_the_places_of_others(tmp_path):
    limits = GateLimits(max_calls=3, max_calls_per_node=2, deadline_s=PATIENCE_S)
    async with gated(tmp_path, limits) as node:
        node.folder.make_node_key("other")
        node.flower.is_stuck = True
        waiting = [asyncio.create_task(node.call()) for _ in range(2)]
        await until(lambda: len(node.flower.calls) >= 2)
        node.flower.is_stuck = False

        assert (await node.call()).status_code == 503
        others = await node.http.post(PULL, content=b"x", headers=node.signed("other"))
        assert others.status_code == 200
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)


async def test_one_node_holds_no_more_than_its_share_of_memory(tmp_path):
    limits = GateLimits(max_bytes=3000, max_bytes_per_node=2000, deadline_s=PATIENCE_S)
    async with gated(tmp_path, limits) as node:
        node.folder.make_node_key("other")
        head = f"POST {PULL} HTTP/1.1\r\nHost: gate\r\nContent-Length: 1500\r\n"
        lines = "".join(
            f"{name}: {value}\r\n" for name, value in node.signed(content=b"x" * 1500).items()
        )
        _, writer = await connected_to(node)
        writer.write(f"{head}{lines}\r\n{'x' * 1500}".encode())
        node.flower.is_stuck = True
        await until(lambda: len(node.flower.calls) >= 1)
        node.flower.is_stuck = False

        assert (await node.call(content=b"x" * 501)).status_code == 429
        others = await node.http.post(
            PULL, content=b"x" * 1400, headers=node.signed("other", content=b"x" * 1400)
        )
        assert others.status_code == 200
        too_many = await node.http.post(
            PULL, content=b"x" * 1501, headers=node.signed("other", content=b"x" * 1501)
        )
        assert too_many.status_code == 503
        node.flower.answer = b"x" * 1500
        assert (await node.call()).status_code == 429
        writer.close()


async def test_while_flower_restarts_nodes_are_asked_to_come_back(tmp_path):
    async with gated(tmp_path) as node:
        gate = Gate(
            upstream="https://127.0.0.1:1",
            authority=node.folder.authority,
            keys=lambda: NodeKeys.read(node.folder.public_keys),
            clock=lambda: datetime.now(UTC),
        )
        async with gate.listen("127.0.0.1", 0, node.folder.server, node.folder.server_key) as port:
            answer = await node.http.post(
                f"https://127.0.0.1:{port}{PULL}", content=b"x", headers=node.signed()
            )

    assert answer.status_code == 503


async def test_without_tls_nobody_is_heard(node):
    async with httpx2.AsyncClient(timeout=PATIENCE_S, trust_env=False) as plain:
        with pytest.raises(httpx2.TransportError):
            await plain.post(f"http://127.0.0.1:{node.gate_port}{PULL}", headers=node.signed())
    assert node.flower.calls == []


async def connected_to(node: Node) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect with TLS, and ask nothing yet."""
    trusted = ssl.create_default_context(cafile=node.folder.authority)
    return await asyncio.open_connection("127.0.0.1", node.gate_port, ssl=trusted)


async def rest_of(reader: asyncio.StreamReader) -> bytes:
    """Read until the other side hangs up, in whatever manner."""
    async with asyncio.timeout(PATIENCE_S):
        try:
            return await reader.read()
        except (ConnectionError, ssl.SSLError):
            return b""


@pytest.mark.parametrize("said", [b"", b"POST /v1/fleet/pull-messages HTTP/1.1\r\nHost:"])
async def test_who_connects_and_does_not_call_is_hung_up_on(tmp_path, said):
    async with gated(tmp_path, GateLimits(first_call_s=0.1)) as node:
        reader, writer = await connected_to(node)
        writer.write(said)

        assert await rest_of(reader) == b""
        writer.close()


async def test_a_node_that_calls_in_time_keeps_its_connection(tmp_path):
    async with gated(tmp_path, GateLimits(first_call_s=3.0)) as node:

        async def call() -> None:
            signed = node.signed(content=b"")
            lines = [f"{name}: {value}" for name, value in signed.items()]
            head = "\r\n".join([f"POST {PULL} HTTP/1.1", "Host: x", "Content-Length: 0", *lines])
            writer.write(f"{head}\r\n\r\n".encode())
            assert b" 200 " in await reader.readline()
            await reader.readuntil(node.flower.answer)

        reader, writer = await connected_to(node)
        await call()
        silent_reader, silent_writer = await connected_to(node)
        await rest_of(silent_reader)
        silent_writer.close()
        await call()
        writer.close()


async def test_a_stranger_is_told_and_hung_up_on(tmp_path):
    async with gated(tmp_path) as node:
        reader, writer = await connected_to(node)
        writer.write(f"POST {PULL} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())

        answer = await rest_of(reader)
        writer.close()

        assert b"does not know this node" in answer
