"""Has the memory of large bodies go back to the system when it is freed.

glibc maps a large buffer apart and unmaps it when it is freed. With each one it frees it raises the
size from which it does so, up to 32 MB. From then on bodies lie among small objects, and every
thread keeps up to 64 MB of what was freed. What was measured: docs/decisions/memory.md.
"""

import ctypes
from typing import Final

M_MMAP_THRESHOLD: Final = -3
"""https://man7.org/linux/man-pages/man3/mallopt.3.html"""
MAPPED_BYTES: Final = 1024 * 1024


def map_large_buffers(library: str | None = None) -> bool:
    """Have every buffer of `MAPPED_BYTES` or more mapped apart, for good.

    Args:
        library: Whose allocator; this process's own where None.

    Returns:
        Whether that was done: other C libraries have other allocators, which are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(library), "mallopt", None)
    return mallopt is not None and bool(mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES))
