"""Plans: the sorted shards of a run, in pages of 10,000, named by their content.

A plan of 1 million shards is 100 pages of about 1 MB; one page at a time is in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.core.errors import LedgerError, NotFoundError
from curation.core.types import ShardRef
from curation.ledger.documents import PlanDocument, PlanPage
from curation.ledger.owners import repair_of
from curation.storage.parquet import from_parquet
from curation.storage.store import Store

PAGE_UNITS = 10_000
PAGE_SCHEMA = pa.schema([("key", pa.string()), ("size", pa.int64()), ("etag", pa.string())])


@dataclass(frozen=True)
class Plan:
    """Sorted shards in pages, with the corpus and the fingerprints of the work. Equal content gives equal ids."""

    store: Store
    id: str
    document: PlanDocument

    @property
    def units(self) -> int:
        """The number of shards."""
        return self.document.units

    @property
    def bytes(self) -> int:
        """The size of all shards."""
        return self.document.bytes

    @property
    def pages(self) -> Sequence[PlanPage]:
        """The pages, in order."""
        return self.document.pages

    def page(self, index: int) -> list[ShardRef]:
        """Return the shards of one page, at most `PAGE_UNITS`. Raises `LedgerError` if it is missing or damaged."""
        columns = (column.to_pylist() for column in self.table(index).columns)
        return [ShardRef(*row) for row in zip(*columns, strict=True)]

    def table(self, index: int) -> pa.Table:
        """Return one page as an Arrow table of key, size and etag. Raises `LedgerError` if it is missing or damaged."""
        page, where = self.pages[index], self.store.location(self.pages[index].key)

        def checked(data: bytes) -> pa.Table:
            table = from_parquet(data, PAGE_SCHEMA.names).cast(PAGE_SCHEMA)
            found = sha256(data).hexdigest() if page.sha256 else rows_sha256(table)
            if found != (page.sha256 or page.name) or table.num_rows != page.units:
                raise LedgerError(f"{where} is damaged: its rows differ from the plan's")
            return table

        try:
            return self.store.get_parsed(page.key, checked)
        except NotFoundError:
            what = f"{where} is gone, though a plan names it"
        except LedgerError as error:
            what = str(error)
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            what = f"{where} is damaged: {str(error).splitlines()[0]}"
        raise LedgerError(what, fix=repair_of(self.store, page.key))

    def same_as(self, other: Plan) -> bool:
        """Whether both plans have the same shards for the same work.

        Earlier versions gave the same plan another id: then the pages are read (1 MB for 10,000 shards), unless
        anything else differs.
        """
        if self.id == other.id:
            return True
        mine, theirs = ({**plan.document.to_json(), "pages": 0} for plan in (self, other))
        if mine != theirs or len(self.pages) != len(other.pages):
            return False
        return all(self._rows(n) == other._rows(n) for n in range(len(self.pages)))

    def _rows(self, index: int) -> str:
        page = self.pages[index]
        return rows_sha256(self.table(index)) if page.sha256 else page.name

    def shards(self) -> Iterator[ShardRef]:
        """Yield all shards in order, with one page in memory at a time. Raises `LedgerError`."""
        for index in range(len(self.pages)):
            yield from self.page(index)


def rows_sha256(table: pa.Table) -> str:
    """Return the sha256 of a page's rows, independent of their Parquet encoding.

    Hashed: the number of rows, then the values of each column in order; strings as their lengths, then their UTF-8
    bytes; lengths and sizes as little-endian int64. Cost: 60 ms for 1 million rows of 60 bytes.
    """
    hashed = sha256(table.num_rows.to_bytes(8, "little"))
    for column in table.select(PAGE_SCHEMA.names).columns:
        if pa.types.is_integer(column.type):
            hashed.update(np.ascontiguousarray(column.to_numpy(), "<i8").data)
            continue
        hashed.update(np.ascontiguousarray(pc.binary_length(column).to_numpy(), "<i8").data)
        for chunk in column.chunks:
            hashed.update(_bytes(chunk))
    return hashed.hexdigest()


def _bytes(strings: pa.Array) -> memoryview:
    """Return the concatenated bytes of an array of strings."""
    _, offsets, data = strings.buffers()
    if not len(strings) or data is None:
        return memoryview(b"")
    starts = np.frombuffer(offsets, "<i4", len(strings) + 1, 4 * strings.offset)
    return memoryview(data)[starts[0] : starts[-1]]
