"""The numbers of snapshots: which are there, which are lost, and which were given up.

Numbers are dense from 1, and a number is used once. That it was used, though its document is gone, shows by what else
has it: a later document, `urls/<number>.txt`, which is put right after the document, an evaluation, and LATEST. Such a
number is lost: nothing is opened, made or deleted in its place, until the document is restored or the number given up
with `curate repair --accept-loss`, which lists it under `lost` in `repairs/<id>/lost.json` before it changes LATEST,
and in its record `repairs/<id>.json`. It stays empty then.

Cost: `lost_numbers` lists `snapshots/`, `urls/`, `evaluations/` and `repairs/` (1,000 keys a request) and reads LATEST
and the record of each repair. Opening a dataset asks for one name only (see `Ledger.latest`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from curation.core.errors import BucketError, LostSnapshotError, NotFoundError
from curation.core.parallel import map_ordered
from curation.ledger.documents import strict_json
from curation.storage.store import Store

MOST_LOST = 1_000  # in a row; of a name that is further ahead, the number is wrong
LAST = 10**9 - 1  # the largest number
REPAIRS = "repairs"
HINT = re.compile(rb"0|[1-9][0-9]{0,8}")  # LATEST: a number without zeros before it, signs or white space
_OF_DOCUMENT = re.compile(r"snapshots/(\d{6,9})\.json")
_OF_URLS = re.compile(r"urls/(\d{6,9})\.txt")
_OF_REPAIR = re.compile(r"repairs/[^/]+(\.json|/lost\.json)")
_OF_EVALUATION = re.compile(r"evaluations/(\d{6,9})-[^/]*\.json")


def snapshot_key(number: int) -> str:
    return f"snapshots/{number:06d}.json"


def urls_key(number: int) -> str:
    return f"urls/{number:06d}.txt"


def snapshot_number(key: str) -> int:
    """The number in the key of a snapshot's document; 0 for any other key."""
    match = _OF_DOCUMENT.fullmatch(key)
    return int(match[1]) if match and snapshot_key(int(match[1])) == key else 0


def urls_number(key: str) -> int:
    """The number in the key of a list of shards; 0 for any other key."""
    match = _OF_URLS.fullmatch(key)
    return int(match[1]) if match and urls_key(int(match[1])) == key else 0


def _evaluated_number(key: str) -> int:
    match = _OF_EVALUATION.fullmatch(key)
    return int(match[1]) if match else 0


# --- what is there ------------------------------------------------------------------------------------------------


def numbers_there(out: Store) -> list[int]:
    """The numbers of all snapshots whose documents are there, damaged ones too; sorted."""
    return sorted(_numbers(out, "snapshots", snapshot_number))


def read_raw(out: Store, number: int) -> dict[str, Any] | None:
    """The JSON of a snapshot's document as it is there, right or wrong; None for one that is gone or is no object."""
    try:
        return raw_object(out.get(snapshot_key(number)))
    except NotFoundError:
        return None


def raw_object(data: bytes) -> dict[str, Any] | None:
    """A JSON object that is not empty, read as strictly as by the readers of documents; None for anything else."""
    try:
        found = strict_json(data)
    except ValueError:
        return None
    return found if isinstance(found, dict) and found else None


def hint(out: Store) -> int | None:
    """The number that LATEST names; None where it is gone or is no number."""
    try:
        text = out.get("LATEST")
    except NotFoundError:
        return None
    return int(text) if HINT.fullmatch(text) else None


def _numbers(out: Store, folder: str, number_of: Callable[[str], int]) -> set[int]:
    with suppress(BucketError):  # of a folder on local disk that nobody has made yet
        return {number for item in out.list(folder, etags=False) if (number := number_of(item.key))}
    return set()


# --- what is lost -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LostNumbers:
    """Numbers in a row whose documents are gone. `evidence`: what shows that they were used."""

    numbers: range
    evidence: str


def lost_numbers(out: Store, there: Sequence[int] | None = None) -> list[LostNumbers]:
    """The numbers that were used, have no document, and were not given up; in order."""
    there = numbers_there(out) if there is None else there
    newest, claims = max(there, default=0), claimed(out, there)
    if not claims and len(there) == newest:
        return []
    found = list[LostNumbers]()
    for numbers in holes(there, given_up(out), max([newest, *claims])):
        below = numbers.start < newest
        evidence = f"@{newest} is there" if below else next(claims[n] for n in sorted(claims) if n >= numbers[-1])
        found.append(LostNumbers(numbers, evidence))
    if any(out.exists(snapshot_key(item.numbers[0])) for item in found):  # a run has made it since the listing
        return lost_numbers(out)
    return found


def claimed(out: Store, there: Sequence[int]) -> dict[int, str]:
    """Numbers above those of all documents that something else names, with what it is. Numbers that are more than
    `MOST_LOST` ahead of all below them are left out: they are wrong, and not lost."""
    newest = max(there, default=0)
    what = dict.fromkeys(_numbers(out, "evaluations", _evaluated_number), "an evaluation names it")
    what |= {number: f"{urls_key(number)} is there" for number in _numbers(out, "urls", urls_number)}
    if (latest := hint(out) or 0) > newest:
        what[latest] = f"LATEST names @{latest}"
    found, top = dict[int, str](), newest
    for number in sorted(number for number in what if number > newest):
        if number > top + MOST_LOST:
            break
        found[number], top = what[number], number
    return found


def given_up(out: Store) -> list[range]:
    """The numbers that repairs have given up with the user's consent, as sorted ranges that do not overlap."""
    with suppress(BucketError):
        keys = [item.key for item in out.list(REPAIRS, etags=False) if _OF_REPAIR.fullmatch(item.key)]
        return _joined(numbers for found in map_ordered(lambda key: _given_up(out, key), keys) for numbers in found)
    return []


def _given_up(out: Store, key: str) -> list[range]:
    """`lost` of one record: numbers, and pairs of the first and the last one of many."""
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
    """The numbers from 1 to `last` that are neither there nor given up, as ranges."""
    known = _joined([*(range(number, number + 1) for number in there), *given, range(last + 1, last + 2)])
    start = 1
    for numbers in known:
        if start < min(numbers.start, last + 1):
            yield range(start, min(numbers.start, last + 1))
        start = max(start, numbers.stop)


def next_number(number: int, given: Iterable[range]) -> int:
    """The first number after this one that was not given up."""
    following = number + 1
    for numbers in given:
        following = numbers.stop if following in numbers else following
    return following


def parents(number: int, given: Sequence[range]) -> tuple[int | None, int | None]:
    """What the parent of a snapshot can be: the number before it, or the last one before it that was not given up."""
    before = number - 1
    for numbers in reversed(given):
        before = numbers.start - 1 if before in numbers else before
    return number - 1 or None, before or None


# --- what an error says -------------------------------------------------------------------------------------------


def lost_error(out: Store, number: int, evidence: str) -> LostSnapshotError:
    """The error of who comes to a number that is lost."""
    root, there = out.url.removeprefix("file://"), max(numbers_there(out), default=0)
    fix = "restore it from a backup"
    give_up = f"`curate repair {root} --accept-loss --apply`"
    older = there and number > there
    fix += f", open {root}@{there}, or go on from there: {give_up}" if older else f", or give the number up: {give_up}"
    if not there and evidence.startswith("LATEST"):
        fix += "; or delete LATEST, if it belongs to another dataset"
    newest = f"the newest that is there is @{there}" if there else "none is there"
    text = f"the document {snapshot_key(number)} of {root} is gone, though {evidence}; {newest}"
    return LostSnapshotError(text, fix=fix)


def lost_fix(out: Store) -> str:
    """What to do about a document that nothing can be rebuilt from."""
    give_up = f"`curate repair {out.url.removeprefix('file://')} --accept-loss --apply`"
    return f"its recipe is lost with it: restore it from a backup, or give the number up: {give_up}"
