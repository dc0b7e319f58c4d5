"""The epoch of a dataset, shared by the parent process and the copies of the dataset in a DataLoader's workers.

A DataLoader copies its dataset into its workers by fork or by pickling, and only once if the workers are persistent.
A plain attribute that the parent sets later never reaches them. The epoch therefore lives in shared memory, which
forked processes inherit and which torch passes to spawned ones. Cost: 16 bytes, read once an epoch.
"""

from __future__ import annotations

import torch


class SharedEpoch:
    """An epoch number that one process sets and every process with a copy of this object reads.

    A copy pickled by anything but torch's multiprocessing (to a file, through Ray) keeps the number but is independent.
    """

    def __init__(self, epoch: int = 0) -> None:
        self._cells = torch.tensor([epoch, 0], dtype=torch.int64)  # the epoch; how often it has been set
        self._cells.share_memory_()  # type: ignore[no-untyped-call]

    @property
    def value(self) -> int:
        """The epoch set last."""
        return int(self._cells[0])

    @property
    def times_set(self) -> int:
        """How often the epoch has been set: distinguishes setting the same epoch again from not setting it."""
        return int(self._cells[1])

    def set(self, epoch: int) -> None:
        """Set the epoch of every iteration that begins from now on, in this process and in all workers."""
        self._cells[0] = epoch
        self._cells[1] += 1
