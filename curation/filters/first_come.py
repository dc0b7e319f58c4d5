"""Which of many linked things stay when they come in order: one stays unless an earlier one that stays is linked to it.

That is the lexicographically first maximal independent set: one answer, whatever finds the links and in whatever order.
No chains: a thing leaves because of one that stays, and everything that leaves is linked to what it leaves for. The
links come sorted by the later thing, so one pass decides all. Links to what an earlier batch has decided are looked up
together; only those within one batch are taken one by one (0.1 us each). Memory: a byte a thing, and one batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def leaving(links: Iterable[tuple[Array, Array]], count: int) -> Iterator[tuple[Array, Array]]:
    """(what leaves, what it leaves for: the first one that stays and is linked to it), in batches.

    `links`: (later, earlier), int64, numbers below `count` in the order in which things come; each link once or more,
    sorted by later, then earlier.
    """
    gone = np.zeros(count, np.uint8)
    flags = gone.data
    for later, earlier in links:
        if not len(later):
            continue
        decided = earlier < later[0]  # by batches before this one
        hit = np.flatnonzero(decided & (gone[earlier] == 0) & (gone[later] == 0))
        hit = hit[np.diff(later[hit], prepend=-1) != 0]  # the first link of each
        gone[later[hit]] = 1
        yield later[hit], earlier[hit]
        open_ = np.flatnonzero(~decided & (gone[later] == 0) & (gone[earlier] == 0))
        left: list[tuple[int, int]] = []
        for one, other in zip(later[open_].tolist(), earlier[open_].tolist(), strict=True):
            if not flags[other] and not flags[one]:
                flags[one] = 1
                left.append((one, other))
        if left:
            pairs = np.array(left, np.int64)
            yield pairs[:, 0], pairs[:, 1]
