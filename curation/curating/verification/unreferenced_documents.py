"""Checks of documents that the check of one snapshot does not read.

These are documents of interrupted runs, of other snapshots, and of shared scores. A damaged one stops `curate gc`,
`curate scores` and the next run that reads it. A repair moves it aside unless a snapshot needs it, and a run creates it
again. Cost: a GET for each commit record, plan and page. Covered by `tests/jobs/test_damages.py`.
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
from curation.curating.verification.repairs import RepairWriter
from curation.ledger.documents import PlanDocument, ScoreRecord, WriteRecord, parse, parse_unit_record
from curation.ledger.ledger import unit_id
from curation.ledger.owners import owner_of
from curation.ledger.plans import PAGE_SCHEMA, rows_sha256
from curation.storage.parquet import from_parquet
from curation.storage.store import Store

Checked = npt.NDArray[np.uint64]
_NOTHING: Checked = np.array([], np.uint64)
_MISSING = "which is missing"
_NAMES = re.compile(r"units/[0-9a-f]{64}\.json|plans/[0-9a-f]{64}\.json|plans/pages/[0-9a-f]{64}\.parquet")


def check_loose(
    out: Store, repairs: RepairWriter, known: Collection[str], checked: Checked | None = None, numbers: range = range(0)
) -> Iterator[Finding]:
    """Yield findings for damaged documents below a root.

    `known`: locations of objects that have findings already. `checked`: sorted uint64 with the first 64 bits of the
    names of records that were checked elsewhere. `numbers`: numbers of the snapshots that were checked.
    """
    for key, what in _damaged(out, known, checked):
        where = out.location(key)
        if where in known:
            continue
        code = "plan_page" if key.startswith("plans/pages/") else "plan" if key.startswith("plans/") else "record"
        owner = owner_of(out, key)
        if owner and what.endswith(_MISSING):
            continue  # the check of that snapshot reports the missing object
        if owner and owner in numbers and not repairs.id:  # its inputs are damaged too and are repaired first
            yield Finding(code, where, what, "it is rebuilt from its inputs")
            continue
        if owner:
            root = out.url.removeprefix("file://")
            yield Finding(code, where, what, "", f"snapshot @{owner} needs it: `curate repair {root}@{owner} --apply`")
            continue
        finding = Finding(code, where, what, "it is moved aside; a run that needs it creates it again")
        yield finding.done(repairs.take_out(out, key))


def _damaged(out: Store, known: Collection[str], checked: Checked | None) -> Iterator[tuple[str, str]]:
    for folder in ("units", "plans"):
        with suppress(BucketError):  # a folder that does not exist yet on local disk
            keys = (item.key for item in out.list(folder, etags=False))
            exists = partial(_exists, out, known, _data(out) if folder == "units" else _NOTHING)
            found = map_ordered(partial(_damage, out, exists), (key for key in keys if not _is_in(checked, key)))
            yield from ((key, what) for key, what in found if what)


def _data(out: Store) -> Checked:
    """Sorted 64-bit hashes of the names of all data objects: 8 bytes each, and one LIST request for 1,000."""
    names = array("Q")
    with suppress(BucketError):
        names.extend(_bits(item.key) for item in out.list("data", etags=False))
    return np.sort(np.frombuffer(names, np.uint64))


def _exists(out: Store, known: Collection[str], listed: Checked, key: str) -> bool:
    """Whether a data object exists or has its own finding; a HEAD finds one that was put after the listing."""
    return _has(listed, _bits(key)) or out.exists(key) or out.location(key) in known


def _bits(key: str) -> int:
    return int.from_bytes(sha256(key.encode()).digest()[:8], "big")


def _has(names: Checked, bits: int) -> bool:
    place = int(np.searchsorted(names, np.uint64(bits)))
    return place < len(names) and int(names[place]) == bits


def _is_in(checked: Checked | None, key: str) -> bool:
    """Whether the record at `key` was checked elsewhere."""
    if checked is None or not key.startswith("units/") or not _NAMES.fullmatch(key):
        return False
    return _has(checked, int(key.removeprefix("units/")[:16], 16))


def _damage(out: Store, exists: Callable[[str], bool], key: str) -> tuple[str, str]:
    """(key, damage of the document at the key, or "" where it is sound)."""
    try:
        if not _NAMES.fullmatch(key):
            return key, "is not named like a document of a ledger"
        data = out.get(key)
        if key.endswith(".parquet"):
            return key, _page(key, data)
        name = key.rpartition("/")[2].removesuffix(".json")
        if key.startswith("plans/"):
            return key, _plan(name, parse(data, PlanDocument, "it", ""))
        return key, _record(name, parse_unit_record(data, "it", ""), exists)
    except NotFoundError:
        return key, ""  # `curate scores gc` deleted it after the listing
    except LedgerError as error:
        return key, str(error)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        return key, f"can't be read: {str(error).splitlines()[0]}"


def _plan(name: str, plan: PlanDocument) -> str:
    """Damage of a plan: its name must be the hash of its content."""
    return "" if digest(plan.to_json()) == name else "its name is not the hash of its content: it is a copy, or edited"


def _record(name: str, record: ScoreRecord | WriteRecord, exists: Callable[[str], bool]) -> str:
    """Damage of a commit record.

    The name of a score record follows from its shard and fingerprint, and the names of a record's objects begin with
    its name. A run trusts a unit's record, so a record with missing objects would get into the next snapshot.
    """
    keys = [record.data.key] if isinstance(record, ScoreRecord) else [item.key for item in record.shards]
    keys += [record.manifest.key] if isinstance(record, WriteRecord) else []
    if isinstance(record, ScoreRecord):
        shard = ShardRef(record.key, record.size, record.etag)
        if unit_id(shard, record.fingerprint) != name:
            return "it is the record of another unit: its name does not follow from its key, size, etag and fingerprint"
    other = next((key for key in keys if not key.startswith(f"data/{name}-")), None)
    if other is not None:
        return f"it is the record of another unit: it references {other}"
    missing = next((key for key in keys if not exists(key)), None)
    return "" if missing is None else f"it references {missing}, {_MISSING}"


def _page(key: str, data: bytes) -> str:
    """Damage of a plan page: its name must be the hash of its rows, or of its bytes if an earlier version wrote it."""
    named = key.removeprefix("plans/pages/").removesuffix(".parquet")
    rows = rows_sha256(from_parquet(data, PAGE_SCHEMA.names).cast(PAGE_SCHEMA))
    return "" if named in (rows, sha256(data).hexdigest()) else "its rows don't match the hash in its name"
