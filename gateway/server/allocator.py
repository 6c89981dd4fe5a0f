"""Has the memory of large bodies go back to the system when it is freed.

glibc maps a buffer of 128 KB or more apart, and unmaps it when it is freed. But with each one that
it frees it raises that size, up to 32 MB. From then on bodies lie among small objects, and every
thread keeps up to 64 MB of what was freed. What was measured: docs/decisions/long-bodies.md.
"""

from typing import Any, Final

M_MMAP_THRESHOLD: Final = -3
"""https://man7.org/linux/man-pages/man3/mallopt.3.html"""
MAPPED_BYTES: Final = 128 * 1024


def map_large_buffers(library: Any) -> bool:
    """Have every buffer of `MAPPED_BYTES` or more mapped apart, for good.

    Args:
        library: The C library of this process, as `ctypes` loads it.

    Returns:
        Whether that was done: C libraries without `mallopt` are left as they are.
    """
    mallopt = getattr(library, "mallopt", None)
    return mallopt is not None and bool(mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES))
