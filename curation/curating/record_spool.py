"""The commit records of all units of a plan on local disk, so that a run asks the store for each of them once.

A line of about 500 bytes for each unit and column: 2.5 GB for a million shards and five columns. A step that reads
records adds them; the steps after it iterate over the spool, one unit's records in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from curation.core.digest import canonical
from curation.ledger.documents import ScoreRecord
from curation.ledger.score_tables import Records
from curation.storage.tables import local_disk


class RecordSpool:
    """Records in the order of the plan's units. Delete the file with `close`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")

    def add(self, records: Iterable[ScoreRecord]) -> None:
        """Append the records of the next unit; none for a unit that has no tables."""
        with local_disk("the records of score tables"):
            self._file.write(b"\t".join(canonical(record.to_json()) for record in records) + b"\n")

    def __iter__(self) -> Iterator[list[ScoreRecord]]:
        self._file.flush()
        with self._path.open("rb") as file:
            for line in file:
                yield [ScoreRecord.model_validate_json(text) for text in line.rstrip(b"\n").split(b"\t") if text]

    def by_fingerprint(self) -> Iterator[Records]:
        """Yield the records of each unit, by the fingerprints of their columns."""
        return ({record.fingerprint: record for record in records} for records in self)

    def clear(self) -> None:
        """Delete the records, before another pass over the plan."""
        self._file.seek(0)
        self._file.truncate()

    def close(self) -> None:
        """Delete the file."""
        self._file.close()
        self._path.unlink(missing_ok=True)
