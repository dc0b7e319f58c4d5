"""The device that models run on, and the CPU threads of torch."""

from __future__ import annotations

import os

import torch

from curation.core.errors import UserError


def pick_device(name: str) -> torch.device:
    """Return the torch device called `name`; `auto` means CUDA where available, else the CPU.

    Raises `UserError` for a device that torch can't use.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        line = str(error).splitlines()[0]
        fix = "--device auto chooses an available device"
        raise UserError(f"device {name!r} can't be used: {line}", fix=fix) from None
    return device


def use_threads(wanted: int) -> int:
    """Set the number of torch's threads, and return it. See `threads_of`.

    On a CPU they determine the last bits of trained weights.
    """
    threads = threads_of(wanted)
    torch.set_num_threads(threads)
    return threads


def threads_of(wanted: int) -> int:
    """Return the number of torch's threads: `wanted`; for 0 one a core, at most 8."""
    return wanted or min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
