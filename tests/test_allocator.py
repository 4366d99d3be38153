"""The allocator keeps memory where it can be told to, unless the user has said otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from propagate import allocator

# Touches 64 MiB again and again; with the default settings every round takes fresh pages.
PROGRAM = """
import resource, sys
from propagate.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(10):
    block = bytearray(64 << 20)
    block[::4096] = b"x" * len(block[::4096])
    del block
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def faults(way: str, **environment: str) -> int:
    return int(
        subprocess.check_output(
            [sys.executable, "-c", PROGRAM, way], text=True, env={**os.environ, **environment}
        )
    )


@pytest.mark.skipif(allocator.platform.libc_ver()[0] != "glibc", reason="glibc only")
def test_pages_are_used_again() -> None:
    default, kept = faults("default"), faults("keep")
    assert kept < default / 2
    assert faults("keep", MALLOC_TRIM_THRESHOLD_="131072") > default / 2
