"""A node that spoils what it sends: ``python -m tests.fakes.bad_node join --config FILE``."""

import sys
from pathlib import Path

from federation.deployment.programs import Program, free_port
from federation.deployment.supervisor import ChildProcess, Supervisor
from gateway.federation.paths import node_dir
from gateway.federation.process import run_until_stopped
from gateway.settings.config import load_settings


def main(file: Path) -> None:
    """Do what `waypost federation join` does, with another process to answer."""
    settings = load_settings(file, {})
    node = settings.federation.node
    program = Program(node_dir(settings), free_port())
    program.prepare()
    answering = ChildProcess(
        name="bad-node",
        function="tests.fakes.bad_answers:answer_badly",
        log_file=program.folder / "node.log",
        arguments=(settings, program),
        environ=program.environ(),
    )
    assert node.coordinator is not None
    assert node.authority is not None
    assert node.private_key is not None
    supernode = program.supernode(node.coordinator, node.authority, node.private_key, node.poll_s)
    run_until_stopped(Supervisor((supernode, answering), print).run())


if __name__ == "__main__":
    main(Path(sys.argv[3]))
