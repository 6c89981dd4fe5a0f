from dataclasses import dataclass, field
from pathlib import Path
from pkgutil import resolve_name
from types import SimpleNamespace
from typing import Any

import flwr
import httpx
import pytest
from flwr.app import Context, Message, Metadata, RecordDict
from flwr.app.message import make_message
from flwr.clientapp import ClientApp
from flwr.common.config import get_fab_config
from flwr.supercore.error import ApiErrorCode

from federation.deployment import flower
from federation.deployment.flower import (
    SuperLinkClient,
    _has_signed_off,
    _reply,
    check_version,
    polling,
    retry_invoker,
)
from federation.deployment.flower_bundle import pack_bundle
from federation.deployment.gate import UNKNOWN_NODE

NODE_ID = 2**63 + 11
KEY = b"public key"


def refusal(status: int, code: int = 0) -> httpx.HTTPStatusError:
    """An answer that is no good, as Flower's client raises it."""
    request = httpx.Request("POST", "https://coordinator/v1/fleet/activate-node")
    detail = {"code": code, "detail": "told so"}
    return httpx.HTTPStatusError(
        "refused", request=request, response=httpx.Response(status, json=detail)
    )


@dataclass
class FakeFleet:
    """A coordinator that plays a script for each of two calls and remembers them."""

    activations: list[Any] = field(default_factory=list)
    deactivations: list[Any] = field(default_factory=list)
    calls: list[tuple[str, Any]] = field(default_factory=list)

    def ActivateNode(self, request: Any) -> Any:  # noqa: N802
        """Sign a node on."""
        self.calls.append(("activate", request.public_key))
        return self._play(self.activations, SimpleNamespace(node_id=NODE_ID))

    def DeactivateNode(self, request: Any) -> Any:  # noqa: N802
        """Sign a node off."""
        self.calls.append(("deactivate", request.node_id))
        return self._play(self.deactivations, None)

    def _play(self, script: list[Any], otherwise: Any) -> Any:
        outcome = script.pop(0) if script else otherwise
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.fixture
def node_id_file(tmp_path: Path) -> Path:
    return tmp_path / "node-id"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that signs its predecessor off is away for no time."""
    monkeypatch.setattr(flower, "ABSENCE_S", 0.0)


def sign_off(fleet: FakeFleet, file: Path) -> bool:
    return _has_signed_off(fleet, KEY, file)  # type: ignore[arg-type]


def test_a_first_start_learns_the_nodes_id_and_leaves_it_signed_off(node_id_file):
    fleet = FakeFleet()

    assert sign_off(fleet, node_id_file)
    assert fleet.calls == [("activate", KEY), ("deactivate", NODE_ID)]
    assert node_id_file.read_text() == str(NODE_ID)


def test_a_start_after_a_kill_signs_the_predecessor_off(node_id_file):
    node_id_file.write_text("5")
    fleet = FakeFleet()

    assert sign_off(fleet, node_id_file)
    assert fleet.calls == [("deactivate", 5)]


def test_an_id_of_another_coordinator_is_replaced(node_id_file):
    node_id_file.write_text("5")
    fleet = FakeFleet(deactivations=[refusal(401)])

    assert sign_off(fleet, node_id_file)
    assert node_id_file.read_text() == str(NODE_ID)


@pytest.mark.parametrize(
    "problem",
    [
        httpx.ConnectError("nobody there"),
        refusal(503),
        refusal(400, ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED),
    ],
    ids=["down", "restarting", "not registered yet"],
)
def test_what_may_pass_is_tried_again(node_id_file, problem):
    assert not sign_off(FakeFleet(activations=[problem]), node_id_file)
    assert not node_id_file.exists()


def test_a_coordinator_that_does_not_know_the_node_ends_it_with_the_reason(node_id_file):
    with pytest.raises(SystemExit, match="the coordinator refused: told so"):
        sign_off(FakeFleet(activations=[refusal(404, UNKNOWN_NODE)]), node_id_file)


def test_a_coordinator_that_is_away_is_tried_again_without_longer_and_longer_waits():
    outcomes: list[Any] = [httpx.ConnectError("nobody there") for _ in range(8)] + ["here"]
    waits: list[float] = []

    def call() -> Any:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    invoker = retry_invoker(3.0)
    invoker.jitter, invoker.wait_function = None, waits.append

    assert invoker.invoke(call) == "here"
    assert waits == [3.0] * 8


def test_the_bundle_is_one_that_flower_takes_and_always_the_same():
    assert get_fab_config(pack_bundle())["project"]["name"] == "waypost"
    assert pack_bundle() == pack_bundle()


def test_the_bundle_names_code_that_exists():
    components = get_fab_config(pack_bundle())["tool"]["flwr"]["app"]["components"]
    assert all(callable(resolve_name(name)) for name in components.values())


def test_another_flower_than_the_one_written_for_is_refused(monkeypatch):
    monkeypatch.setattr(flwr, "__version__", "1.42.0")

    with pytest.raises(RuntimeError, match=r"needs flwr 1\.41; 1\.42\.0 is installed"):
        check_version()


def test_an_app_that_fails_answers_with_an_error_and_goes_on_living():
    app = ClientApp()

    @app.query("break")
    def fail(message: Message, context: Context) -> Message:
        raise ZeroDivisionError("by nothing")

    metadata = Metadata(1, "m", 2, 3, "", "0", 1.0e9, 60.0, "query.break")
    question = make_message(metadata=metadata, content=RecordDict())
    context = Context(1, 3, {}, RecordDict(), {})

    reply, status, reason = _reply(app, question, context)

    assert reply.has_error()
    assert status == "failed"
    assert reason == reply.error.reason
    assert reason == "ZeroDivisionError in federation.deployment.flower._reply: by nothing"


@pytest.mark.parametrize(
    "problem",
    [
        refusal(412, ApiErrorCode.RUN_ALREADY_FINISHED),
        refusal(404, ApiErrorCode.RUN_ID_NOT_FOUND),
    ],
    ids=["finished", "of a database that is gone"],
)
def test_a_run_that_is_over_needs_no_stopping(problem):
    stop_run(RefusingLink(problem))


def test_a_link_that_refuses_for_another_reason_is_not_ignored():
    with pytest.raises(httpx.HTTPStatusError):
        stop_run(RefusingLink(refusal(403)))


def stop_run(link: Any) -> None:
    operator = object.__new__(SuperLinkClient)
    operator._control = link
    operator.stop_run(7)


@dataclass
class RefusingLink:
    """A SuperLink that will not stop a run."""

    problem: httpx.HTTPStatusError

    def StopRun(self, request: Any) -> None:  # noqa: N802
        """Refuse."""
        raise self.problem


def test_a_node_looks_again_and_again_until_there_is_a_message():
    found = [None, None, 7]
    asked = []

    def pull(**collaborators: Any) -> int | None:
        asked.append(collaborators)
        return found.pop(0)

    assert polling(pull, 0.0)(state="its own") == 7
    assert asked == [{"state": "its own"}] * 3
