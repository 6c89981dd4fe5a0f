import subprocess
import sys

HEAVY = {"torch", "sklearn", "flwr", "dp_accounting"}
"""Each takes a second or more of CPU time, and tens of MB."""


def test_what_keeps_a_nodes_processes_running_imports_nothing_heavy():
    code = "import sys, gateway.commands.federation.join; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert not HEAVY & set(ran.stdout.split())
