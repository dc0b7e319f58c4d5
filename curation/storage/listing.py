"""A listing that survives failures: each key once, none lost, whatever the order in which a store lists.

A listing that breaks off goes on from the last key but one that was given out, and is believed if the next key is the
last one: an overlap of one key. Otherwise (the key was deleted meanwhile, or the store does not list in one order, as
seaweedfs where a key is also a folder) it starts again and passes over what was given out. The end is checked in the
same way, since a proxy's page with status 200 reads like a listing without keys: one more request per listing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from curation.core.errors import StoreError
from curation.storage.errors import LATER, TransientError
from curation.storage.retry import RetryBudget
from curation.storage.urls import ObjectInfo

Listing = Callable[[str], Iterator[ObjectInfo]]  # the objects after a key, "" for all


class Resumable:
    """One listing of `where`. `start(after)` lists once; `spend` waits before the next attempt, or raises.

    `confirm`: check the end. False for stores that nothing stands before.
    """

    def __init__(
        self, where: str, start: Listing, budget: RetryBudget, spend: Callable[[StoreError], None], *, confirm: bool
    ) -> None:
        self._where, self._start, self._budget, self._spend, self._confirm = where, start, budget, spend, confirm
        self._given, self._before, self._last = 0, "", ""  # how many keys were given out, the last two of them
        self._ordered = True  # so far
        self._end: str | None = None  # the last key of a listing that did not get as far as an earlier one

    def __iter__(self) -> Iterator[ObjectInfo]:
        overlap, ended = True, False
        while True:
            found = self._given
            try:
                for info in self._rest(overlap):
                    self._ordered = self._ordered and info.key > self._last
                    self._given, self._before, self._last = self._given + 1, self._last, info.key
                    yield info
                    self._budget.renew()  # also of the time that the consumer took
            except _OverlapError:
                overlap = False
                continue
            except StoreError as error:
                if isinstance(error, _GoneError) and ended:
                    return  # the end was seen; it is the check of it that has lost its place
                self._spend(error)
                overlap = overlap or self._given > found
                continue
            nothing = self._given == found
            if not self._confirm or (nothing and (ended or self._given)):
                return
            overlap = ended = True

    def _rest(self, overlap: bool) -> Iterator[ObjectInfo]:
        """The objects that were not given out yet."""
        if not self._given:
            yield from self._start("")
        elif overlap:
            stream = self._start(self._before)
            if next(stream, _NOTHING).key != self._last:
                raise _OverlapError
            yield from stream
        else:
            yield from self._passing_over()

    def _passing_over(self) -> Iterator[ObjectInfo]:
        """All of a listing behind the last key given out; where that key is gone, behind its place in the order."""
        last, found, end = self._last, False, ""
        for info in self._start(""):
            end = info.key
            if found or (self._ordered and end > last):
                found = True
                yield info
            found = found or end == last
        if not found and end != self._end:  # what was behind it is deleted, or this listing is cut: ask once more
            self._end = end
            raise TransientError(f"a listing of {self._where} ended before a key that an earlier one had", fix=LATER)
        if not found and not self._ordered:
            raise _GoneError(f"a listing of {self._where} broke off at a key that is gone now", fix=LATER)


class _OverlapError(Exception):
    """The store does not go on where it stopped."""


class _GoneError(TransientError):
    """The place at which to go on is gone."""


_NOTHING = ObjectInfo("", 0, "")
