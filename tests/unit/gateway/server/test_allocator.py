import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from gateway.server.allocator import map_large_buffers

KEPT_MB = """
import ctypes, os
from gateway.server.allocator import map_large_buffers

def resident_mb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

assert map_large_buffers(ctypes.CDLL(None))
bytes(20_000_000)
before_mb, bodies, rows = resident_mb(), [], []
for _ in range(200):
    bodies.append(b"x" * 500_000)
    rows.append(b"x" * 2_000)
bodies.clear()
print(resident_mb() - before_mb)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators are left alone")
def test_memory_of_large_buffers_goes_back_though_small_ones_lie_between() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", KEPT_MB], capture_output=True, text=True, check=True
    )
    assert float(ran.stdout) < 20


def test_a_library_without_this_setting_is_left_as_it_is() -> None:
    assert not map_large_buffers(SimpleNamespace())
