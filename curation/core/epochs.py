"""The epoch of a dataset, known to every copy of it that lies in a DataLoader's workers.

A DataLoader with workers copies its dataset into them: by fork or by pickling, once for all epochs where the workers
are persistent. A plain attribute that is set in the parent stays there. The epoch therefore lives in shared memory,
which fork inherits and which torch hands to processes that are spawned. Cost: 16 bytes, read once an epoch.
"""

from __future__ import annotations

import torch


class SharedEpoch:
    """A number that is set in one process and read in all that hold a copy of this object.

    Pickled by anything but torch's multiprocessing (to a file, through Ray), a copy keeps the number and is on its own.
    """

    def __init__(self, epoch: int = 0) -> None:
        self._cells = torch.tensor([epoch, 0], dtype=torch.int64)  # the epoch, and how often it was set
        self._cells.share_memory_()  # type: ignore[no-untyped-call]

    @property
    def value(self) -> int:
        """The epoch that was set last."""
        return int(self._cells[0])

    @property
    def settings(self) -> int:
        """How often it was set: tells the same epoch, asked for again, from one that nobody has set since."""
        return int(self._cells[1])

    def set(self, epoch: int) -> None:
        """The epoch of every iteration that begins from now on, here and in all workers."""
        self._cells[0] = epoch
        self._cells[1] += 1
