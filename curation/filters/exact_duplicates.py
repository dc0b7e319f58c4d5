"""Samples whose image bytes are equal, of which one is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from curation.filters.sorted_values import fits_in_memory, read_sorted, repeated_values
from curation.storage.tables import insert

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True, kw_only=True)
class ExactDuplicates:
    """Keep one of the samples with equal image bytes (`of: image`), or with equal image bytes and caption (`of: pair`).

    The sample with the highest `prefer` score is kept (ties: smaller uid); without `prefer`, the first in source order,
    which is the order of the shards' keys: data added later displaces no sample if its keys sort after the others. To
    keep earlier samples whatever the keys are, put a `decontaminate` against the dataset itself before this filter.
    Cost: 0.2 us of CPU a sample. Repeated hashes of 64 bits select the candidates, whose values are then compared;
    beyond 33 million samples out of core.
    Example: exact_duplicates: {prefer: clip_score}
    """

    of: Literal["image", "pair"] = "image"
    prefer: str | None = None

    def columns(self) -> Sequence[str]:
        return (*self._key, *((self.prefer,) if self.prefer else ()))

    def prepare(self, db: duckdb.DuckDBPyConnection) -> None:
        """Create the table of the 64-bit hashes, `bits`, that more than one sample has."""
        make = f"CREATE OR REPLACE TEMP TABLE {self._table}"
        bits = f"SELECT {_hash(*self._key)} AS bits FROM alive WHERE {self._present}"
        if fits_in_memory(db):
            db.execute(f"{make} (bits UBIGINT)")
            insert(db, self._table, pa.table({"bits": repeated_values(read_sorted(db, bits))}))
        else:
            db.execute(f"{make} AS {bits} GROUP BY 1 HAVING count(*) > 1")

    def copies(self) -> str:
        """SQL of `id, detail, stays`: each dropped sample, and the kept sample that it duplicates."""
        order = f'"{self.prefer}" DESC, uid' if self.prefer else "id"
        return f"""
            SELECT id, '' AS detail, stays FROM (
                SELECT id, first_value(id) OVER (PARTITION BY {", ".join(self._key)} ORDER BY {order}) AS stays
                FROM alive SEMI JOIN {self._table} AS again ON {_hash(*self._key)} = again.bits AND {self._present}
            ) WHERE id <> stays"""

    def drops(self) -> str:
        return f"SELECT id, detail FROM ({self.copies()})"

    @property
    def _key(self) -> tuple[str, ...]:
        return ("content_hash", "caption") if self.of == "pair" else ("content_hash",)

    @property
    def _present(self) -> str:
        return " AND ".join(f"{column} IS NOT NULL" for column in self._key)

    @property
    def _table(self) -> str:
        return f"exact_{self.of}"


def _hash(*columns: str) -> str:
    """SQL of a hash of 64 bits; among a billion samples a few different values share one."""
    return f"hash({', '.join(columns)})"
