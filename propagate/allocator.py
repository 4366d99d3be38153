"""The C library's allocator, told to keep memory that was freed."""

from __future__ import annotations

import ctypes
import os
import platform

# Names of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MOST = (1 << 31) - 1


def keep_freed_memory() -> None:
    """Reuse freed memory instead of giving it back to the system each time; glibc only.

    A network's activations come and go for every frame, and fresh pages for each cost as much as
    the convolutions. The process keeps what it took at its peak. Settings of the whole process, so
    this is for programs to call, not for libraries; what a user set by `MALLOC_*` stays.
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    library = ctypes.CDLL(None)
    library.mallopt(_M_MMAP_THRESHOLD, _MOST)
    library.mallopt(_M_TRIM_THRESHOLD, _MOST)
