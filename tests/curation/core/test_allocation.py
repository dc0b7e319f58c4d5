"""One arena for all threads, unless the user has set another number."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# Threads that allocate and then wait: each new arena of glibc is a mapping of 64 MiB of address space.
_THREADS = """
import sys, threading
from pathlib import Path
from curation.core.allocation import use_one_arena

def size():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith("VmSize"))

if sys.argv[1] == "one":
    use_one_arena()
threading.stack_size(1 << 16)
before, barrier = size(), threading.Barrier(9)
threads = [threading.Thread(target=lambda: (bytes(100_000), barrier.wait(), barrier.wait())) for _ in range(8)]
for thread in threads:
    thread.start()
barrier.wait()
print((size() - before) // 1024)
barrier.wait()
"""


@pytest.mark.skipif(sys.platform != "linux" or "glibc" not in os.confstr("CS_GNU_LIBC_VERSION"), reason="needs glibc")
@pytest.mark.parametrize(
    ("how", "other", "arenas"), [("one", "", {0}), ("none", "", {*range(2, 9)}), ("one", "3", {2})]
)
def test_threads_share_an_arena(how: str, other: str, arenas: set[int]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    if other:
        environment["MALLOC_ARENA_MAX"] = other
    command = [sys.executable, "-c", _THREADS, how]
    found = int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert found // 60 in arenas
