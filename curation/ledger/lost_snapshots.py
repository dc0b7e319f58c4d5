"""Lost snapshots: numbers that were used, but whose documents are gone.

Numbers are dense from 1, and each is used once. Other objects show that a number was used although its document is
gone: a later document, `urls/<number>.txt` (put right after the document), an evaluation, or LATEST. Such a number is
*lost*: nothing is opened, created or deleted in its place until the document is restored or the number is *given up*
with `curate repair --accept-loss`, which lists it under `lost` in `repairs/<id>/lost.json` before it changes LATEST,
and in its record `repairs/<id>.json`. A number that was given up stays empty.

Cost: `lost_numbers` lists `snapshots/`, `urls/`, `evaluations/` and `repairs/` (1,000 keys a request) and reads LATEST
and the record of each repair. Opening a dataset checks one key only (see `Snapshots.latest`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from curation.core.errors import BucketError, LostSnapshotError, NotFoundError
from curation.core.parallel import map_ordered
from curation.ledger.snapshot_keys import hint, numbers_in, numbers_there, snapshot_key, urls_key, urls_number
from curation.storage.store import Store

MOST_LOST = 1_000  # lost numbers in a row; a number further ahead counts as wrong, not as used
REPAIRS = "repairs"
_OF_REPAIR = re.compile(r"repairs/[^/]+(\.json|/lost\.json)")
_OF_EVALUATION = re.compile(r"evaluations/(\d{6,9})-[^/]*\.json")


def _evaluated_number(key: str) -> int:
    match = _OF_EVALUATION.fullmatch(key)
    return int(match[1]) if match else 0


# --- what is lost -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LostNumbers:
    """Consecutive numbers whose documents are gone. `evidence`: a clause for messages that says how we know."""

    numbers: range
    evidence: str


def lost_numbers(out: Store, there: Sequence[int] | None = None) -> list[LostNumbers]:
    """Return the numbers that were used, have no document, and were not given up; in order.

    `there`: the numbers of existing documents, if the caller has listed them.
    """
    there = numbers_there(out) if there is None else there
    newest, claims = max(there, default=0), claimed(out, there)
    if not claims and len(there) == newest:
        return []
    found = list[LostNumbers]()
    for numbers in holes(there, given_up(out), max([newest, *claims])):
        below = numbers.start < newest
        evidence = f"@{newest} exists" if below else next(claims[n] for n in sorted(claims) if n >= numbers[-1])
        found.append(LostNumbers(numbers, evidence))
    if any(out.exists(snapshot_key(item.numbers[0])) for item in found):  # a run created it after the listing
        return lost_numbers(out)
    return found


def claimed(out: Store, there: Sequence[int]) -> dict[int, str]:
    """Return number -> evidence for numbers above all documents that another object refers to.

    Numbers more than `MOST_LOST` ahead of the one below them are omitted: they are wrong, not lost.
    """
    newest = max(there, default=0)
    what = dict.fromkeys(numbers_in(out, "evaluations", _evaluated_number), "an evaluation refers to it")
    what |= {number: f"{urls_key(number)} exists" for number in numbers_in(out, "urls", urls_number)}
    if (latest := hint(out) or 0) > newest:
        what[latest] = f"LATEST names @{latest}"
    found, top = dict[int, str](), newest
    for number in sorted(number for number in what if number > newest):
        if number > top + MOST_LOST:
            break
        found[number], top = what[number], number
    return found


def given_up(out: Store) -> list[range]:
    """Return the numbers that repairs have given up with the user's consent, as sorted ranges without overlap."""
    with suppress(BucketError):
        keys = [item.key for item in out.list(REPAIRS, etags=False) if _OF_REPAIR.fullmatch(item.key)]
        return _joined(numbers for found in map_ordered(lambda key: _given_up(out, key), keys) for numbers in found)
    return []


def _given_up(out: Store, key: str) -> list[range]:
    """Parse `lost` of one record: numbers, and pairs of the first and the last of a range."""
    try:
        found = json.loads(out.get(key))
    except (ValueError, NotFoundError):
        return []
    items = found.get("lost") if isinstance(found, dict) else None
    ranges = list[range]()
    for item in items if isinstance(items, list) else []:
        match item:
            case int() if not isinstance(item, bool):
                ranges.append(range(item, item + 1))
            case [int(first), int(last)]:
                ranges.append(range(first, last + 1))
    return [some for numbers in ranges if (some := range(max(numbers.start, 1), numbers.stop))]


def _joined(ranges: Iterable[range]) -> list[range]:
    found: list[range] = []
    for numbers in sorted(ranges, key=lambda numbers: numbers.start):
        if found and numbers.start <= found[-1].stop:
            found[-1] = range(found[-1].start, max(found[-1].stop, numbers.stop))
        else:
            found.append(numbers)
    return found


def holes(there: Iterable[int], given: Iterable[range], last: int) -> Iterator[range]:
    """Yield the numbers from 1 to `last` that neither exist nor were given up, as ranges."""
    known = _joined([*(range(number, number + 1) for number in there), *given, range(last + 1, last + 2)])
    start = 1
    for numbers in known:
        if start < min(numbers.start, last + 1):
            yield range(start, min(numbers.start, last + 1))
        start = max(start, numbers.stop)


def next_number(number: int, given: Iterable[range]) -> int:
    """Return the first number after this one that was not given up."""
    following = number + 1
    for numbers in given:
        following = numbers.stop if following in numbers else following
    return following


def parents(number: int, given: Sequence[range]) -> tuple[int | None, int | None]:
    """Return the two possible parents of a snapshot: the number before it, and the last one before not given up."""
    before = number - 1
    for numbers in reversed(given):
        before = numbers.start - 1 if before in numbers else before
    return number - 1 or None, before or None


# --- errors -------------------------------------------------------------------------------------------------------


def lost_error(out: Store, number: int, evidence: str) -> LostSnapshotError:
    """Return the error for an access to a lost number, with the ways out. `evidence`: see `LostNumbers`."""
    root, there = out.url.removeprefix("file://"), max(numbers_there(out), default=0)
    fix = "restore it from a backup"
    give_up = f"`curate repair {root} --accept-loss --apply`"
    older = there and number > there
    fix += f", open {root}@{there}, or go on from there: {give_up}" if older else f", or give the number up: {give_up}"
    if not there and evidence.startswith("LATEST"):
        fix += "; or delete LATEST, if it belongs to another dataset"
    newest = f"the newest snapshot that exists is @{there}" if there else "no snapshot exists"
    text = f"the document {snapshot_key(number)} of {root} is gone, though {evidence}; {newest}"
    return LostSnapshotError(text, fix=fix)


def lost_fix(out: Store) -> str:
    """Return the fix for a document from which nothing can be rebuilt."""
    give_up = f"`curate repair {out.url.removeprefix('file://')} --accept-loss --apply`"
    return f"restore it from a backup, because its recipe is lost with it; or give the number up: {give_up}"
