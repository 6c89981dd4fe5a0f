import ctypes
import io
import json
import os
import signal
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.embedded import child

OPTIONS = {
    "weights": "/models/small.gguf",
    "adapters": [],
    "model": "small",
    "port": 4711,
    "reuse_port": True,
    "api_key": "secret",
    "threads": 2,
    "parallel": 4,
    "context_tokens": 8192,
    "http_threads": 40,
    "parent_pid": 0,
}


class Left(Exception):
    """Raised in place of ending the test run."""


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """This process, with what would end or change it recorded instead."""
    calls = SimpleNamespace(prctl=[], signals=[], parent=OPTIONS["parent_pid"])

    def leave(status: int) -> None:
        raise Left(status)

    library = SimpleNamespace(prctl=lambda *args: calls.prctl.append(args))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(os, "getppid", lambda: calls.parent)
    monkeypatch.setattr(signal, "signal", lambda *args: calls.signals.append(args))
    monkeypatch.setattr(sys, "platform", "linux")
    return calls


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Standard input that holds the options and stays open."""
    reading, writing = os.pipe()
    os.write(writing, json.dumps(OPTIONS).encode() + b"\n")
    with os.fdopen(reading, "rb") as pipe:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=pipe))
        monkeypatch.setattr(child, "leave_at_end_of", lambda pipe: None)
        yield
    os.close(writing)


def test_is_killed_with_its_parent(process: SimpleNamespace) -> None:
    child.tie_to_parent(process.parent)
    assert process.prctl == [(child.PR_SET_PDEATHSIG, signal.SIGKILL)]


def test_leaves_if_its_parent_died_before_it_could_tie_itself(process: SimpleNamespace) -> None:
    with pytest.raises(Left):
        child.tie_to_parent(process.parent + 1)


def test_relies_on_the_pipe_where_the_system_is_not_linux(
    process: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    child.tie_to_parent(process.parent + 1)
    assert process.prctl == []


def test_leaves_when_the_pipe_ends(process: SimpleNamespace) -> None:
    with pytest.raises(Left):
        child.leave_at_end_of(io.BytesIO(b"anything"))


def test_configures_llama_cpp_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "Server", lambda params: params)
    params = child.run_server(OPTIONS)
    assert params.model.path == "/models/small.gguf"
    assert (params.port, params.api_keys) == (4711, ["secret"])
    assert (params.n_ctx, params.n_parallel, params.cpuparams.n_threads) == (8192, 4, 2)
    assert params.cache_ram_mib == child.PROMPT_CACHE_MIB


def test_keeps_no_prompts_between_adapters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "Server", lambda params: params)
    params = child.run_server({**OPTIONS, "adapters": ["/a.gguf", "/b.gguf"]})
    loaded = [(adapter.path, adapter.scale) for adapter in params.lora_adapters]
    assert loaded == [("/a.gguf", 0.0), ("/b.gguf", 0.0)]
    assert params.cache_ram_mib == 0


def test_serves_on_and_ignores_what_a_terminal_tells_all_of_its_processes(
    process: SimpleNamespace, stdin: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = SimpleNamespace(listening_address="http://127.0.0.1:4711")
    monkeypatch.setattr(child, "Server", lambda params: server)
    # The module's own view of it only: other threads of this process wait for events too.
    event = SimpleNamespace(wait=lambda: None)
    own = SimpleNamespace(Event=lambda: event, Thread=threading.Thread)
    monkeypatch.setattr(child, "threading", own)
    assert child.main() == 0
    ignored = (signal.SIGINT, signal.SIGHUP)
    assert process.signals == [(number, signal.SIG_IGN) for number in ignored]


def test_says_why_the_model_cannot_be_loaded(
    process: SimpleNamespace,
    stdin: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(params: Any) -> None:
        raise RuntimeError("no such tensor")

    monkeypatch.setattr(child, "Server", refuse)
    assert child.main() == 1
    assert "cannot serve /models/small.gguf: no such tensor" in capsys.readouterr().err
