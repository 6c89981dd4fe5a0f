"""A node that spoils what it sends: ``python -m tests.fakes.bad_node join --config FILE``."""

import sys
from itertools import cycle
from pathlib import Path

import numpy as np
from flwr.app import Context, Message, RecordDict

from federation.client_app import build_client_app
from federation.deployment.children import Child, Children
from federation.deployment.flower import Tasks
from federation.deployment.programs import Program, free_port
from federation.protocol import ARRAYS, to_record
from gateway.commands.database import opened
from gateway.commands.federation.places import node_dir
from gateway.commands.federation.running import run_until_stopped
from gateway.commands.federation.site import open_site
from gateway.config import GatewaySettings, load_settings

FACTORS = (np.nan, 100.0)


def answer_badly(settings: GatewaySettings, program: Program) -> None:
    """Answer as an honest node would, times each of `FACTORS` in turn."""
    factors = cycle(FACTORS)
    with opened(settings) as engine:
        honest = build_client_app(open_site(settings, engine))

        def app(message: Message, context: Context) -> Message:
            reply = honest(message=message, context=context)
            if not reply.has_content() or ARRAYS not in reply.content.array_records:
                return reply
            arrays, factor = reply.content.array_records[ARRAYS], next(factors)
            bad = {
                name: (array.numpy() * factor).astype(array.dtype) for name, array in arrays.items()
            }
            return Message(RecordDict({ARRAYS: to_record(bad)}), reply_to=message)

        Tasks(program.address, program.secret_file.read_bytes()).serve(app)  # type: ignore[arg-type]


def main(file: Path) -> None:
    """Do what `waypost federation join` does, with another process to answer."""
    settings = load_settings(file, {})
    node = settings.federation.node
    program = Program(node_dir(settings), free_port())
    program.prepare()
    answering = Child(
        name="bad-node",
        function="tests.fakes.bad_node:answer_badly",
        log_file=program.folder / "node.log",
        arguments=(settings, program),
        environ=program.environ(),
    )
    assert node.coordinator is not None
    assert node.authority is not None
    assert node.private_key is not None
    supernode = program.supernode(node.coordinator, node.authority, node.private_key, node.poll_s)
    run_until_stopped(Children((supernode, answering), print).run())


if __name__ == "__main__":
    np.seterr(all="ignore")
    main(Path(sys.argv[3]))
