"""The child process: runs llama.cpp's server until its parent lets go of it.

Run as a script, not imported: it needs xllamacpp and the standard library alone, so that it starts
in tens of milliseconds. One JSON object arrives as the first line of standard input (arguments and
environments can be read by other processes; the API key must not); then standard input stays open
for as long as the parent lives.
"""

import ctypes
import json
import os
import signal
import sys
import threading
from typing import Any, BinaryIO

from xllamacpp import CommonAdapterLoraInfo, CommonParams, Server

PR_SET_PDEATHSIG = 1
PROMPT_CACHE_MIB = 64
WARNING_LEVEL = 2


def main() -> int:
    """Serve until standard input ends; the exit status is 1 if the model cannot be loaded."""
    options: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    tie_to_parent(int(options["parent_pid"]))
    threading.Thread(target=leave_at_end_of, args=(sys.stdin.buffer,), daemon=True).start()
    # A terminal tells the whole process group; the gateway drains first and then lets go of us.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        server = run_server(options)
    except RuntimeError as error:
        sys.stderr.write(f"cannot serve {options['weights']}: {error}\n")
        return 1
    sys.stderr.write(f"serving {options['weights']} at {server.listening_address}\n")
    sys.stderr.flush()
    threading.Event().wait()
    return 0


def tie_to_parent(parent_pid: int) -> None:
    """Have Linux kill this process when its parent dies, even while llama.cpp holds the GIL."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        # It died before the call above.
        os._exit(0)


def leave_at_end_of(pipe: BinaryIO) -> None:
    """End the process at once when `pipe` does: nothing here outlives a request."""
    while pipe.read(4096):
        pass
    os._exit(0)


def run_server(options: dict[str, Any]) -> Any:
    """Load the weights and listen; returns when the first request can be served."""
    params = CommonParams()
    params.model.path = options["weights"]
    params.model_alias = {options["model"]}
    params.port = options["port"]
    params.reuse_port = options["reuse_port"]
    params.api_keys = [options["api_key"]]
    params.n_ctx = options["context_tokens"]
    params.n_parallel = options["parallel"]
    # One pool of context for all slots: a lone long conversation may use all of it.
    params.kv_unified = True
    params.n_threads_http = options["http_threads"]
    for cpu in (params.cpuparams, params.cpuparams_batch):
        cpu.n_threads = options["threads"]
        cpu.poll = 0
    # Measured: 0.4 s to the first answer instead of 0.7 s; the first request warms up.
    params.warmup = False
    params.fit_params = False
    params.lora_adapters = [CommonAdapterLoraInfo(path, 0.0) for path in options["adapters"]]
    # Keeps the long prompts of all arms (5 MB each) though there are fewer slots than arms. But
    # llama.cpp hands what was read with one adapter to requests with another (measured).
    params.cache_ram_mib = 0 if options["adapters"] else PROMPT_CACHE_MIB
    params.verbosity = WARNING_LEVEL
    params.ui = False
    params.offline = True
    params.endpoint_slots = False
    params.endpoint_props = False
    return Server(params)


if __name__ == "__main__":
    sys.exit(main())
