"""Documents of a ledger that no check of a snapshot reads: of interrupted runs, of older snapshots, of shared scores.

A damaged one stops the next run that comes to the same unit, `curate gc` and `curate scores`. One that no snapshot
needs is moved aside, and a run makes it again. Cost: a GET for each commit record, plan and page.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from functools import partial
from hashlib import sha256

import pyarrow as pa

from curation.documents import PlanDocument, parse, parse_unit_record
from curation.errors import LedgerError, NotFoundError
from curation.ledger import PAGE_SCHEMA, rows_sha256
from curation.owners import owner_of
from curation.parallel import map_ordered
from curation.parquet import from_parquet
from curation.store import Store
from curation.verification.findings import Finding
from curation.verification.repairs import Mender

_NAMES = re.compile(r"units/[0-9a-f]{64}\.json|plans/[0-9a-f]{64}\.json|plans/pages/[0-9a-f]{64}\.parquet")


def check_loose(out: Store, mend: Mender, known: Collection[str]) -> Iterator[Finding]:
    """Damaged documents. `known`: where objects lie that have findings already."""
    for key, what in _damaged(out):
        where = out.location(key)
        if where in known:
            continue
        code = "plan_page" if key.startswith("plans/pages/") else "plan" if key.startswith("plans/") else "record"
        if owner := owner_of(out, key):
            root = out.url.removeprefix("file://")
            yield Finding(code, where, what, "", f"snapshot @{owner} needs it: `curate repair {root}@{owner} --apply`")
            continue
        finding = Finding(code, where, what, "it is moved aside; a run that needs it makes it again")
        yield finding.done(mend.take_out(out, key))


def _damaged(out: Store) -> Iterator[tuple[str, str]]:
    for folder in ("units", "plans"):
        keys = (item.key for item in out.list(folder, etags=False))
        found = map_ordered(partial(_wrong, out), keys)
        yield from ((key, what) for key, what in found if what)


def _wrong(out: Store, key: str) -> tuple[str, str]:
    """(key, what is wrong with the document there, nothing where it is sound)."""
    try:
        if not _NAMES.fullmatch(key):
            return key, "is not named like a document of a ledger"
        data = out.get(key)
        if key.endswith(".parquet"):
            return key, _page(key, data)
        read: Callable[[], object] = partial(parse_unit_record, data, "it", "")
        if key.startswith("plans/"):
            read = partial(parse, data, PlanDocument, "it", "")
        read()
    except NotFoundError:
        return key, ""  # `curate scores gc` has deleted it since the listing
    except LedgerError as error:
        return key, str(error)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        return key, f"can't be read: {str(error).splitlines()[0]}"
    return key, ""


def _page(key: str, data: bytes) -> str:
    """A page is named by the hash of its rows; by that of its bytes, if an earlier version wrote it."""
    named = key.removeprefix("plans/pages/").removesuffix(".parquet")
    rows = rows_sha256(from_parquet(data, PAGE_SCHEMA.names).cast(PAGE_SCHEMA))
    return "" if named in (rows, sha256(data).hexdigest()) else "its rows are not those of its name"
