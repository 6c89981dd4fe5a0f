import subprocess
import sys

import pytest


@pytest.mark.parametrize("process", ["router_node", "router_sessions"])
def test_a_federation_of_kmeans_routers_imports_no_torch(process):
    code = f"import sys, gateway.federation.{process}; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert {"flwr", "sklearn"} & set(ran.stdout.split())
    assert "torch" not in ran.stdout.split()
