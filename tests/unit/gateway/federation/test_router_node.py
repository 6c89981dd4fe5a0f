import subprocess
import sys


def test_a_federation_of_kmeans_routers_imports_no_torch():
    code = (
        "import sys, gateway.federation.router_node, gateway.federation.router_sessions;"
        "print(*sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert {"flwr", "sklearn"} <= set(ran.stdout.split())
    assert "torch" not in ran.stdout.split()
