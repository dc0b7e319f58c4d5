"""Find and sweep data objects that nothing names: what killed workers left, or workers that came second.

Half-written files of killed workers, which only local disks have, go with them.

`data/` is listed, then every commit record and snapshot is read (one small GET each, 32 at a time), both into tables on
local disk; what is neither named nor young is deleted. That is safe only because an object is named within minutes of
being put: `older_than` has to be longer than the slowest worker takes from its data put to its record. A worker that
does again what a killed one did puts the same object anew, so its age is asked for once more before it goes. Cost
beside the GETs: 3 us an object; in memory, what goes.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

from curation import tables
from curation.errors import NotFoundError, UserError
from curation.ledger import Ledger
from curation.parallel import map_ordered
from curation.store import Store

FOLDERS = ("data", "units", "snapshots", "plans", "evaluations", "runs")  # of a ledger, and of what judges it
_OF_A_UNIT = re.compile(r"units/[0-9a-f]{64}\.json|data/[0-9a-f]{64}-[0-9a-f]{16}\.\w+")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Garbage:
    """A data object that no record names."""

    url: str
    bytes: int


def parse_duration(text: str) -> float:
    """`90s`, `10m`, `24h`, `7d` as seconds. Raises `UserError`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if not match:
        raise UserError(f"{text!r} is not a length of time", fix="write for example 90s, 10m, 24h or 7d")
    return float(match[1]) * _SECONDS[match[2]]


def is_ledger(store: Store) -> bool:
    """Whether there are records of units, or their data, by their names: all that a store of scores has."""
    first = (next(iter(store.list(folder, etags=False)), None) for folder in ("units", "data"))
    return any(item is not None and _OF_A_UNIT.fullmatch(item.key) for item in first)


def sweep(ledger: Ledger, *, older_than: float, delete: bool) -> list[Garbage]:
    """The unnamed data objects that are older than `older_than` seconds; deletes them when told to."""
    newest_allowed = time.time() - older_than
    store, swept = ledger.store, list[Garbage]()
    with tables.scratch() as db:
        db.execute("CREATE TABLE there (key VARCHAR, bytes BIGINT, whole BOOLEAN); CREATE TABLE named (key VARCHAR)")
        unfinished = chain.from_iterable(store.unfinished(name) for name in FOLDERS)
        found = chain(zip(store.list("data", etags=False), repeat(True)), zip(unfinished, repeat(False)))
        old = ((item.key, item.size, whole) for item, whole in found if item.modified <= newest_allowed)
        tables.insert_rows(db, "there", old)  # first: whatever is named from now on is found named
        tables.insert_rows(db, "named", ((key,) for keys in _named(ledger) for key in keys))
        unnamed = db.execute("SELECT * FROM there ANTI JOIN named USING (key) ORDER BY key")
        while rows := unnamed.fetchmany(tables.ROWS):
            for key, size, whole in rows:
                if delete:
                    if whole and _put_since(store, key, newest_allowed):
                        continue
                    store.delete(key)
                swept.append(Garbage(store.location(key), size))
    return swept


def _put_since(store: Store, key: str, moment: float) -> bool:
    """Whether an object has been put after a moment, or is gone."""
    try:
        return store.head(key).modified > moment
    except NotFoundError:
        return True


def _named(ledger: Ledger) -> Iterator[list[str]]:
    """The data keys that each record or snapshot names."""

    def read(key: str) -> list[str]:
        try:
            return list(_data_keys(json.loads(ledger.store.get(key))))
        except NotFoundError:  # `curate scores gc` has just taken it out
            return []

    for folder in ("units", "snapshots"):
        yield from map_ordered(read, (item.key for item in ledger.store.list(folder, etags=False)))


def _data_keys(value: Any) -> Iterator[str]:
    """Every `"key": "data/..."` anywhere in a document."""
    if isinstance(value, dict):
        key = value.get("key")
        if isinstance(key, str) and key.startswith("data/"):
            yield key
        for inner in value.values():
            yield from _data_keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _data_keys(inner)
