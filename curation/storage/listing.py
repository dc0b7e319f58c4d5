"""Listings that survive failures: each key exactly once, in whatever order the store lists.

An interrupted listing resumes after the second-last key that it yielded, and is accepted if the next key is the last
one yielded: an overlap of one key. Otherwise (the key was deleted meanwhile, or the store has no fixed order, like
seaweedfs when a key is also a folder) the listing restarts and skips the keys already yielded. Its end is checked in
the same way, because a proxy's page with status 200 parses as an empty listing: one more request per listing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from curation.core.errors import StoreError
from curation.storage.errors import LATER, TransientError
from curation.storage.retry import RetryBudget
from curation.storage.urls import ObjectInfo

Listing = Callable[[str], Iterator[ObjectInfo]]  # lists the objects after a key, all of them for ""


class Resumable:
    """One listing of `where`. `start(after)` makes one attempt; `budget` waits before the next one, or raises.

    `confirm`: check that the end is real. False for stores that no proxy can stand in front of.
    """

    def __init__(self, where: str, start: Listing, budget: RetryBudget, *, confirm: bool) -> None:
        self._where, self._start, self._budget, self._confirm = where, start, budget, confirm
        self._given, self._before, self._last = 0, "", ""  # the number of keys yielded, and the last two of them
        self._ordered = True  # whether all keys so far came in ascending order
        self._end: str | None = None  # the last key of an attempt that ended before an earlier attempt's position

    def __iter__(self) -> Iterator[ObjectInfo]:
        overlap, ended = True, False
        while True:
            found = self._given
            try:
                for info in self._rest(overlap):
                    self._ordered = self._ordered and info.key > self._last
                    self._given, self._before, self._last = self._given + 1, self._last, info.key
                    yield info
                    self._budget.renew()  # the time that the consumer took doesn't count either
            except _OverlapError:
                overlap = False
                continue
            except StoreError as error:
                if isinstance(error, _GoneError) and ended:
                    return  # the end was reached; only the check of the end lost its position
                self._budget.retry(error)
                overlap = overlap or self._given > found
                continue
            nothing = self._given == found
            if not self._confirm or (nothing and (ended or self._given)):
                return
            overlap = ended = True

    def _rest(self, overlap: bool) -> Iterator[ObjectInfo]:
        """Yield the objects not yielded so far."""
        if not self._given:
            yield from self._start("")
        elif overlap:
            stream = self._start(self._before)
            if next(stream, _NOTHING).key != self._last:
                raise _OverlapError
            yield from stream
        else:
            yield from self._restarted()

    def _restarted(self) -> Iterator[ObjectInfo]:
        """List from the start and yield what follows the last key yielded, or its position if that key is gone."""
        last, found, end = self._last, False, ""
        for info in self._start(""):
            end = info.key
            if found or (self._ordered and end > last):
                found = True
                yield info
            found = found or end == last
        if not found and end != self._end:  # the rest was deleted, or this listing is cut short: list once more
            self._end = end
            raise TransientError(f"a listing of {self._where} ended before a key of an earlier listing", fix=LATER)
        if not found and not self._ordered:
            raise _GoneError(f"a listing of {self._where} was interrupted at a key that is now gone", fix=LATER)


class _OverlapError(Exception):
    """The resumed listing does not continue where the interrupted one stopped."""


class _GoneError(TransientError):
    """The key at which the listing would resume is gone."""


_NOTHING = ObjectInfo("", 0, "")
