"""The C library's heap, kept small: one arena for all threads.

A run reads shards on short-lived threads, in blocks of 8 MiB. glibc gives threads arenas of their own, up to eight for
each core, and each keeps the holes that its blocks leave: a driver that wrote 10 shards of 24 MB reached 349 MB, and
251 MB with one arena. Threads hardly contend for it: Python's small objects, Arrow and DuckDB have allocators of their
own.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

ARENA_MAX = -8  # glibc's M_ARENA_MAX


def use_one_arena() -> None:
    """Limit this process, from now on, and the processes that it starts to one arena.

    Call it early: threads that run already keep theirs. A MALLOC_ARENA_MAX that is set stays. No effect without glibc.
    """
    if "MALLOC_ARENA_MAX" not in os.environ:
        os.environ["MALLOC_ARENA_MAX"] = "1"
        with suppress(OSError, AttributeError, TypeError):  # no libc of this kind
            ctypes.CDLL(None).mallopt(ARENA_MAX, 1)
