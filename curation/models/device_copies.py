"""Copies between host and device that overlap with computation.

To a GPU: from pinned memory, on a stream of its own, so that the pixels of the next batch travel while the models work
on this one. torch's allocators keep two pinned buffers and two device buffers of a batch's size in turns: a buffer is
reused once the events recorded on it have passed. From a GPU: into pinned memory, with an event instead of a wait for
the whole device. On a CPU both are no copies at all, by the same calls.

Source: CUDA C++ best practices guide, "Asynchronous and overlapping transfers with computation".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return `tensor` on `device`; from the host's memory by a copy that the calling thread does not wait for."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    there = _upload_stream(torch.cuda.current_device() if device.index is None else device.index)
    with torch.cuda.stream(there):
        copy = tensor.pin_memory().to(device, non_blocking=True)
    current = torch.cuda.current_stream(device)
    current.wait_stream(there)
    copy.record_stream(current)  # its memory is of the other stream, which must not reuse it before this one is done
    return copy


def to_host(tensor: Tensor) -> Callable[[], Tensor]:
    """Begin to copy `tensor` to the host, and return a function that waits for this copy alone and returns it."""
    if not tensor.is_cuda:
        return lambda: tensor
    copy = torch.empty_like(tensor, device="cpu", pin_memory=True)
    copy.copy_(tensor, non_blocking=True)
    done = torch.cuda.Event()  # type: ignore[no-untyped-call]
    done.record(torch.cuda.current_stream(tensor.device))

    def wait() -> Tensor:
        done.synchronize()
        return copy

    return wait


@cache
def _upload_stream(device: int) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
