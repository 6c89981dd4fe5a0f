"""What Waypost needs of Flower beyond its public API; no other module may import such parts.

Stock Flower starts a process per message and runs whatever code a bundle brings: with torch to
import, 31 to 51 s a round. Here one process per site takes message after message and runs the
ClientApp of the installed package, whatever the bundle says. Written against Flower 1.41: its
coordinators and nodes must share major and minor version anyway.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import flwr
import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.common.constant import SubStatus
from flwr.common.serde import run_from_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
)
from flwr.proto.fab_pb2 import Fab
from flwr.proto.fleet_pb2 import ActivateNodeRequest, DeactivateNodeRequest
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    PullTaskInputRequest,
    PushTaskOutputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.serverapp import Grid
from flwr.supercore.constant import TaskType
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supercore.heartbeat import HeartbeatSender
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext
from flwr.supercore.retry import RetryInvoker, constant, make_simple_http_retry_invoker
from flwr.supercore.run import RunNotRunningException
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import HttpGrid
from flwr.supernode import fleet_http_connection, start_client_internal
from flwr.supernode.cli import flower_supernode
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

from federation.deployment.flower_bundle import pack_bundle
from federation.deployment.node_keys import TIMESTAMP_HEADER
from federation.deployment.shut_out import leave_if_shut_out
from federation.deployment.signed_calls import sign_call
from federation.protocol.failures import failure, reason_of

logger = logging.getLogger(__name__)

VERSION: Final = "1.41"
ACQUIRE: Final = "/flwr.proto.Runtime/AcquireTask"
COMPONENT: Final = "waypost"
HEARTBEAT_S: Final = 30.0
ANSWER_POLL_S: Final = 0.2
ABSENCE_S: Final = 2.0
"""Longer than a coordinator waits between two looks, so that it learns that work was lost."""
RECONNECT_S: Final = 1.0
UNAVAILABLE_CODES: Final = frozenset({502, 503, 504})
RUN_ENDED_CODES: Final = frozenset(
    {ApiErrorCode.RUN_ALREADY_FINISHED, ApiErrorCode.RUN_ID_NOT_FOUND}
)


class RunStopped(Exception):
    """Flower no longer runs what was asked to run: it was stopped, or this process was too slow."""


def check_version() -> None:
    """Fail where another Flower is installed than this module was written against.

    Raises:
        RuntimeError: It is another one.
    """
    if not flwr.__version__.startswith(f"{VERSION}."):
        raise RuntimeError(f"federation needs flwr {VERSION}; {flwr.__version__} is installed")


class TaskWorker:
    """Works off the tasks that a SuperLink or SuperNode on this machine has to give.

    Args:
        address: ``host:port`` of its Runtime API.
        secret: Proves that we may take tasks.
        authority: PEM of who signed its certificate; it speaks plain HTTP where there is none.
        poll_s: Between two looks for a task.
    """

    def __init__(
        self, address: str, secret: bytes, authority: bytes | None = None, poll_s: float = 0.4
    ) -> None:
        check_version()
        self._address = address
        self._authority = authority
        self._secret = secret
        self._poll_s = poll_s

    def serve(self, app: ClientApp) -> None:
        """Answer message after message with `app`, for as long as the SuperNode lives.

        Raises:
            httpx.HTTPError: The SuperNode is gone, or the secret is not its own.
        """
        with self._broker() as broker:
            while True:
                self._answer(self._acquire(broker, TaskType.CLIENT_APP), app)

    def run(self, serve_run: Callable[[int, Grid], None]) -> None:
        """Hand the next run and its grid to `serve_run`, and tell Flower how it went.

        Raises:
            RunStopped: The run was ended while it was served.
        """
        with self._broker() as broker:
            token = self._acquire(broker, TaskType.SERVER_APP)
        grid = FastPollingGrid(self._address, self._authority is None, self._authority, token=token)
        with closing(grid):
            try:
                _serve(grid, serve_run)
            except RunNotRunningException as error:
                raise RunStopped("Flower ended the run") from error

    def _answer(self, token: str, app: ClientApp) -> None:
        runtime = self._runtime(RuntimeTokenHttpInterceptor(token))
        with closing(runtime), _heartbeat(runtime):
            message, context, _, _ = pull_task_input(runtime)
            reply, status, details = _reply(app, message, context)
            push_message(runtime, reply, context)
            push_task_output(runtime, context, status, details)

    def _broker(self) -> "closing[RuntimeHttpClient]":
        authentication = SuperExecAuthHttpInterceptor(
            master_secret=self._secret, protected_methods={ACQUIRE}
        )
        return closing(self._runtime(authentication))

    def _runtime(
        self, authentication: RuntimeTokenHttpInterceptor | SuperExecAuthHttpInterceptor
    ) -> RuntimeHttpClient:
        return RuntimeHttpClient.from_server_address(
            server_address=self._address,
            insecure=self._authority is None,
            root_certificates=self._authority,
            interceptors=[RuntimeVersionHttpInterceptor(COMPONENT), authentication],
            retry_invoker=retry_invoker(RECONNECT_S),
        )

    def _acquire(self, broker: RuntimeHttpClient, kind: TaskType) -> str:
        """Wait for a task; returns the token that opens it."""
        request = AcquireTaskRequest(supported_task_types=[kind])
        while True:
            response = broker.AcquireTask(request)
            if response.token:
                return str(response.token)
            time.sleep(self._poll_s)


class FastPollingGrid(HttpGrid):
    """Looks for answers more often than every 3 s, which is what Flower's does."""

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send messages; returns the answers that came in time, or all as soon as they are in."""
        missing = {message_id for message_id in self.push_messages(messages) if message_id}
        give_up_s = math.inf if timeout is None else time.monotonic() + timeout
        answers: list[Message] = []
        while missing and time.monotonic() < give_up_s:
            time.sleep(ANSWER_POLL_S)
            arrived = list(self.pull_messages(missing))
            missing -= {message.metadata.reply_to_message_id for message in arrived}
            answers += arrived
        return answers


class SuperLinkClient:
    """Registers nodes and starts runs at a SuperLink on this machine.

    Args:
        address: ``host:port``.
        authority: PEM of who signed its certificate.
    """

    def __init__(self, address: str, authority: bytes) -> None:
        check_version()
        self._control = ControlHttpClient.from_server_address(
            address,
            insecure=False,
            root_certificates=authority,
            interceptors=[RuntimeVersionHttpInterceptor(COMPONENT)],
            retry_invoker=retry_invoker(RECONNECT_S),
        )

    def registered(self) -> dict[bytes, str]:
        """Return the registered nodes: public key to status, such as ``online``."""
        listed = self._control.ListNodes(ListNodesRequest()).nodes_info
        return {node.public_key: node.status for node in listed}

    def admit(self, name: str, public_key: bytes) -> int:
        """Register a node."""
        request = RegisterNodeRequest(public_key=public_key, name=name)
        return int(self._control.RegisterNode(request).node_id)

    def start_run(self) -> int:
        """Have Flower offer a new run to `TaskWorker.run`; returns its id."""
        return int(self._control.StartRun(StartRunRequest(fab=Fab(content=pack_bundle()))).run_id)

    def stop_run(self, run_id: int) -> None:
        """End a run that may have ended by itself."""
        try:
            self._control.StopRun(StopRunRequest(run_id=run_id))
        except httpx.HTTPStatusError as error:
            error_body = FlowerError.from_json(error.response.text)
            if error_body is None or error_body.code not in RUN_ENDED_CODES:
                raise


def run_supernode(
    coordinator: str, authority: Path, private_key: Path, node_id_file: Path, poll_s: float
) -> None:
    """Run Flower's SuperNode, the arguments of its command line being set.

    Flower's own looks for a message every 3 s; this one every `poll_s`, and about as often for a
    coordinator that is away.

    A killed SuperNode counts as online for another 60 s: in that time it cannot come back, and the
    round waits for it. So the next one signs it off first, under the id that it left in
    `node_id_file`.
    """
    check_version()
    key = load_ssh_private_key(private_key.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise SystemExit(f"{private_key} is not an elliptic curve key")
    public = key.public_key()
    fleet = FleetHttpClient.from_server_address(
        coordinator,
        insecure=False,
        root_certificates=str(authority),
        interceptors=[
            RuntimeVersionHttpInterceptor("SuperNode"),
            CallSigner(key, public),
        ],
    )
    with fleet:
        while not _has_signed_off(fleet, public_key_to_bytes(public), node_id_file):
            time.sleep(RECONNECT_S)
    pull = start_client_internal._pull_and_store_message  # noqa: SLF001
    start_client_internal._pull_and_store_message = polling(pull, poll_s)  # noqa: SLF001
    again_s = max(poll_s, RECONNECT_S)
    fleet_http_connection.NodeAuthHttpInterceptor = CallSigner  # type: ignore[attr-defined]
    fleet_http_connection.make_simple_http_retry_invoker = partial(retry_invoker, again_s)  # type: ignore[attr-defined]
    flower_supernode()


class CallSigner(NodeAuthHttpInterceptor):
    """Signs what Flower signs, the time, and beside it the whole call."""

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        """Sign one call; a call that is tried again is signed anew."""

        def bound(signed: ProtobufRequestContext) -> httpx.Response:
            request = signed.request
            path, timestamp = request.url.path, request.headers[TIMESTAMP_HEADER]
            body = request.read()
            request.headers.update(sign_call(self._private_key, path, body, timestamp))
            return call_next(signed)

        answer = super().intercept(context, bound)
        if answer.status_code == HTTPStatus.NOT_FOUND:
            leave_if_shut_out(answer.read())
        return answer


def retry_invoker(max_wait_s: float) -> RetryInvoker:
    """Return a retry invoker that waits at most `max_wait_s`; Flower's own waits grow to 20 s.

    With those, a restart that takes 10 s keeps nodes away for up to 25.
    """
    invoker = make_simple_http_retry_invoker()
    invoker.wait_gen_factory = partial(constant, max_wait_s)
    return invoker


def polling(pull: Callable[..., int | None], poll_s: float) -> Callable[..., int]:
    """Have `pull` look again and again until there is something, without Flower's longer wait."""

    def wait(**collaborators: Any) -> int:
        while True:
            found = pull(**collaborators)
            if found is not None:
                return found
            time.sleep(poll_s)

    return wait


def _has_signed_off(fleet: FleetHttpClient, public_key: bytes, node_id_file: Path) -> bool:
    """Sign the last SuperNode off and note the next one's id; False to try again.

    Raises:
        SystemExit: The coordinator does not let this node in.
    """
    try:
        if node_id_file.exists() and _deactivate(fleet, int(node_id_file.read_text())):
            time.sleep(ABSENCE_S)
            return True
        request = ActivateNodeRequest(public_key=public_key, heartbeat_interval=HEARTBEAT_S)
        node_id = fleet.ActivateNode(request).node_id
        node_id_file.write_text(str(node_id))
        return _deactivate(fleet, node_id)
    except httpx.TransportError as error:
        logger.warning("the coordinator cannot be reached: %s", error)
        return False
    except httpx.HTTPStatusError as error:
        error_body = FlowerError.from_json(error.response.text)
        # The gate knows this node, Flower does not yet, or holds it for online still.
        is_early = (
            error_body is not None and error_body.code == ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED
        )
        if is_early or error.response.status_code in UNAVAILABLE_CODES:
            return False
        raise SystemExit(
            f"the coordinator refused: {error_body.message if error_body else error}"
        ) from error


def _deactivate(fleet: FleetHttpClient, node_id: int) -> bool:
    try:
        fleet.DeactivateNode(DeactivateNodeRequest(node_id=node_id))
    except httpx.HTTPStatusError:
        return False  # it left in good order, or was another coordinator's
    return True


def _serve(grid: HttpGrid, serve_run: Callable[[int, Grid], None]) -> None:
    runtime = grid._runtime_client  # noqa: SLF001
    with _heartbeat(runtime):
        task = runtime.PullTaskInput(PullTaskInputRequest())
        run = run_from_proto(task.run)
        grid.set_run(run)
        # Messages that are made from here on are this run's.
        TaskIdentity.task_id, TaskIdentity.run_id = task.task_id, run.run_id
        TaskIdentity.node_id = task.context.node_id
        status, details = SubStatus.FAILED, "the ServerApp failed"
        try:
            serve_run(run.run_id, grid)
            status, details = SubStatus.COMPLETED, ""
        finally:
            runtime.PushTaskOutput(PushTaskOutputRequest(sub_status=status, details=details))


def _reply(app: ClientApp, message: Message, context: Context) -> tuple[Message, str, str]:
    """Run the app; what it raises becomes an error reply, so that the round goes on."""
    try:
        return app(message=message, context=context), SubStatus.COMPLETED, ""
    except Exception as error:  # an app's failure must not end the node
        logger.exception("the ClientApp failed")
        return failure(message, error), SubStatus.FAILED, reason_of(error)


@contextmanager
def _heartbeat(runtime: RuntimeHttpClient) -> Iterator[None]:
    """Tell Flower that a task is being worked on."""

    def beat() -> bool:
        try:
            runtime.SendTaskHeartbeat(SendTaskHeartbeatRequest())
        except httpx.HTTPError:
            return False
        return True

    sender = HeartbeatSender(beat)
    sender.start()
    try:
        yield
    finally:
        sender.stop()
