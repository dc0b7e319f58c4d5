"""Documents of a ledger that no check of a snapshot reads: of interrupted runs, of older snapshots, of shared scores.

A damaged one stops the next run that comes to the same unit, `curate gc` and `curate scores`. One that no snapshot
needs is moved aside, and a run makes it again. Cost: a GET for each commit record, plan and page.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from functools import partial
from hashlib import sha256

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.core.digest import digest
from curation.core.errors import BucketError, LedgerError, NotFoundError
from curation.core.parallel import map_ordered
from curation.core.types import ShardRef
from curation.curating.verification.findings import Finding
from curation.curating.verification.repairs import Mender
from curation.ledger.documents import PlanDocument, ScoreRecord, WriteRecord, parse, parse_unit_record
from curation.ledger.ledger import unit_id
from curation.ledger.owners import owner_of
from curation.ledger.plans import PAGE_SCHEMA, rows_sha256
from curation.storage.parquet import from_parquet
from curation.storage.store import Store

Checked = npt.NDArray[np.uint64]
_NOTHING: Checked = np.array([], np.uint64)
_GONE = "which is gone"
_NAMES = re.compile(r"units/[0-9a-f]{64}\.json|plans/[0-9a-f]{64}\.json|plans/pages/[0-9a-f]{64}\.parquet")


def check_loose(
    out: Store, mend: Mender, known: Collection[str], checked: Checked | None = None, numbers: range = range(0)
) -> Iterator[Finding]:
    """Damaged documents. `known`: where objects lie that have findings already. `checked`: of records that need no
    other look, the first 64 bits of their names, sorted. `numbers`: of the snapshots
    that were checked."""
    for key, what in _damaged(out, known, checked):
        where = out.location(key)
        if where in known:
            continue
        code = "plan_page" if key.startswith("plans/pages/") else "plan" if key.startswith("plans/") else "record"
        owner = owner_of(out, key)
        if owner and what.endswith(_GONE):
            continue  # the check of that snapshot finds the object itself
        if owner and owner in numbers and not mend.id:  # what it is made from is damaged, too, and is mended first
            yield Finding(code, where, what, "it is rebuilt from its inputs")
            continue
        if owner:
            root = out.url.removeprefix("file://")
            yield Finding(code, where, what, "", f"snapshot @{owner} needs it: `curate repair {root}@{owner} --apply`")
            continue
        finding = Finding(code, where, what, "it is moved aside; a run that needs it makes it again")
        yield finding.done(mend.take_out(out, key))


def _damaged(out: Store, known: Collection[str], checked: Checked | None) -> Iterator[tuple[str, str]]:
    for folder in ("units", "plans"):
        with suppress(BucketError):  # of a folder on local disk that nobody has made yet
            keys = (item.key for item in out.list(folder, etags=False))
            there = partial(_is_there, out, known, _data(out) if folder == "units" else _NOTHING)
            found = map_ordered(partial(_wrong, out, there), (key for key in keys if not _is_in(checked, key)))
            yield from ((key, what) for key, what in found if what)


def _data(out: Store) -> Checked:
    """64 bits of the hash of every data object's name, sorted: 8 bytes each, and a LIST request for 1,000."""
    names = array("Q")
    with suppress(BucketError):
        names.extend(_bits(item.key) for item in out.list("data", etags=False))
    return np.sort(np.frombuffer(names, np.uint64))


def _is_there(out: Store, known: Collection[str], listed: Checked, key: str) -> bool:
    """Whether a data object is there, or has a finding of its own; one that was put since the listing is asked for."""
    return _has(listed, _bits(key)) or out.exists(key) or out.location(key) in known


def _bits(key: str) -> int:
    return int.from_bytes(sha256(key.encode()).digest()[:8], "big")


def _has(names: Checked, bits: int) -> bool:
    place = int(np.searchsorted(names, np.uint64(bits)))
    return place < len(names) and int(names[place]) == bits


def _is_in(checked: Checked | None, key: str) -> bool:
    """Whether a record was checked elsewhere."""
    if checked is None or not key.startswith("units/") or not _NAMES.fullmatch(key):
        return False
    return _has(checked, int(key.removeprefix("units/")[:16], 16))


def _wrong(out: Store, there: Callable[[str], bool], key: str) -> tuple[str, str]:
    """(key, what is wrong with the document there, nothing where it is sound)."""
    try:
        if not _NAMES.fullmatch(key):
            return key, "is not named like a document of a ledger"
        data = out.get(key)
        if key.endswith(".parquet"):
            return key, _page(key, data)
        name = key.rpartition("/")[2].removesuffix(".json")
        if key.startswith("plans/"):
            return key, _plan(name, parse(data, PlanDocument, "it", ""))
        return key, _record(name, parse_unit_record(data, "it", ""), there)
    except NotFoundError:
        return key, ""  # `curate scores gc` has deleted it since the listing
    except LedgerError as error:
        return key, str(error)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        return key, f"can't be read: {str(error).splitlines()[0]}"


def _plan(name: str, plan: PlanDocument) -> str:
    """A plan is named by the hash of all that it says."""
    return (
        "" if digest(plan.to_json()) == name else "its name is not the hash of what it holds: it is a copy, or edited"
    )


def _record(name: str, record: ScoreRecord | WriteRecord, there: Callable[[str], bool]) -> str:
    """A score record is named by its shard and fingerprint; the objects that a record names begin with its name. A run
    believes the record of a unit, so one whose objects are gone would get into the next snapshot."""
    keys = [record.data.key] if isinstance(record, ScoreRecord) else [item.key for item in record.shards]
    keys += [record.manifest.key] if isinstance(record, WriteRecord) else []
    if isinstance(record, ScoreRecord):
        shard = ShardRef(record.key, record.size, record.etag)
        if unit_id(shard, record.fingerprint) != name:
            return "it is the record of another unit: its name does not follow from its key, size, etag and fingerprint"
    other = next((key for key in keys if not key.startswith(f"data/{name}-")), None)
    if other is not None:
        return f"it is the record of another unit: it names {other}"
    gone = next((key for key in keys if not there(key)), None)
    return "" if gone is None else f"it names {gone}, {_GONE}"


def _page(key: str, data: bytes) -> str:
    """A page is named by the hash of its rows; by that of its bytes, if an earlier version wrote it."""
    named = key.removeprefix("plans/pages/").removesuffix(".parquet")
    rows = rows_sha256(from_parquet(data, PAGE_SCHEMA.names).cast(PAGE_SCHEMA))
    return "" if named in (rows, sha256(data).hexdigest()) else "its rows are not those of its name"
