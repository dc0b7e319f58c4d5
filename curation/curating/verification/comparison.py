"""A ledger that compares instead of writing: each object that a run would put is compared with the stored one.

The code that creates tables, shards and records runs again, unchanged, with this ledger in place of the real one. So
there is no second implementation of shards or records that could drift from the first. A difference becomes a finding,
and a repair writer that is not dry puts the recomputed object.

Objects are content-addressed: a name contains the first 16 digits of the sha256 of the object's bytes. A damaged object
is rebuilt under its own name if the rebuilt bytes have that hash.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from hashlib import file_digest, sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from curation.core.digest import canonical
from curation.core.errors import NotFoundError
from curation.core.software import software, software_id
from curation.curating.verification.differences import (
    first_difference,
    hash_of,
    named_hash,
    read_object,
    same_bytes,
    table_differs,
)
from curation.curating.verification.findings import Finding, differing, fields_differ
from curation.curating.verification.repairs import RepairWriter
from curation.ledger.documents import DataObject
from curation.ledger.ledger import Ledger
from curation.storage.hashed_file import write_hashed
from curation.storage.parquet import from_parquet
from curation.storage.store import Piece, Store
from curation.storage.tables import local_disk

Named = Mapping[str, Any]  # key, sha256 and bytes of an object, as a document references it
Contested = Callable[[str, bytes, bytes | None, Sequence[Named]], str]  # key, rebuilt bytes, stored bytes, references
OF_A_RUN = frozenset({"column", "software"})  # fields of a score record that may differ between runs
CODES = {"tar": "shard", "parquet": "table", "txt": "text"}


class Comparison(Ledger):
    """A ledger that compares objects and collects findings.

    - `named(unit, suffix)`: for each object of this kind of a unit, in order, the references to it in documents, the
      most trusted first.
    - `what`: code of a finding about a table.
    - `free`: only the unit's record references its objects, so they may get new names.
    - `frozen`: the reason why no object may be rebuilt, or "".
    - `words`: columns of text for people, which another version of the software may word differently.
    - `fixed`: fields of a record that do not follow from the run, with their required values.
    - `newer`: whether a later version created the records, which may have fields that are unknown here.
    - `contested`: returns the reason why a differing object may not be rebuilt from this process's data, or "".
    """

    def __init__(
        self,
        store: Store,
        repairs: RepairWriter,
        named: Callable[[str, str], Sequence[Sequence[Named]]],
        *,
        what: str = "",
        free: bool = False,
        frozen: str = "",
        words: frozenset[str] = frozenset(),
        fixed: Mapping[str, Any] = MappingProxyType({}),
        newer: bool = False,
        contested: Contested | None = None,
    ) -> None:
        super().__init__(store)
        self.words, self.fixed, self.newer, self.contested = words, fixed, newer, contested
        self.repairs, self.named, self.what, self.free, self.frozen = repairs, named, what, free, frozen
        self.findings: list[Finding] = []
        self._places: dict[tuple[str, str], int] = defaultdict(int)

    # --- interface of a ledger ------------------------------------------------------------------------------------

    def find(self, unit: str, *kind: Any) -> Any:
        """Return None for any unit, so that the caller creates it again."""
        return None

    def software_id(self) -> str:
        """Digest of this process's software versions, which a comparison does not record."""
        return software_id(software())

    def put_data(self, unit: str, data: bytes, suffix: str) -> DataObject:
        """Compare recomputed bytes with the stored object."""
        sha = sha256(data).hexdigest()
        candidates = self._candidates(unit, suffix)
        key = self._key(suffix, sha, candidates)
        actual = self._get(key)
        if actual is not None and (same := self._same(data, actual, suffix, key)):
            return same
        if self.contested and key and (why := self.contested(key, data, actual, candidates)):
            self.findings.append(
                Finding(self.what, self.store.location(key), self._what(data, actual, suffix), "", why)
            )
            return _as_named(key, sha, len(data), candidates)
        what = self._what(data, actual, suffix)
        return self._rebuild(unit, key, suffix, sha, len(data), what, candidates, lambda at: self.repairs.put(
            self.store, at, data, aside=suffix != "parquet"))  # fmt: skip

    def put_data_file(self, unit: str, path: Path, suffix: str) -> DataObject:
        """Compare a recomputed file with the stored object. Streams both."""
        with path.open("rb") as file:
            sha = file_digest(file, "sha256").hexdigest()
        size = path.stat().st_size
        candidates = self._candidates(unit, suffix)
        key = self._key(suffix, sha, candidates)
        if (hashed := hash_of(self.store, key) if key else None) == (sha, size):
            return DataObject(key=key, sha256=sha, bytes=size)
        if hashed is None:
            what = "is missing"
        elif suffix == "parquet":
            data, actual = path.read_bytes(), self.store.get(key)
            if same := self._same(data, actual, suffix, key):
                return same
            what = self._what(data, actual, suffix)
        else:
            what = first_difference(self.store, key, path, hashed[1])
        return self._rebuild(unit, key, suffix, sha, size, what, candidates, lambda at: self.repairs.put_file(
            self.store, at, path))  # fmt: skip

    def put_data_pieces(self, unit: str, pieces: Callable[[], Iterable[Piece]], suffix: str) -> DataObject:
        """Compare recomputed pieces with the stored object, byte by byte; of one that differs, make a file."""
        named, place = self.named(unit, suffix), self._places[unit, suffix]
        candidates = named[place] if place < len(named) else ()
        key = str(candidates[0]["key"]) if candidates else ""
        sha, size = same_bytes(self.store, key, pieces()) if key else ("", 0)
        if sha and self._key(suffix, sha, candidates) == key:
            self._places[unit, suffix] += 1
            return DataObject(key=key, sha256=sha, bytes=size)
        with local_disk("an output shard's spool"), tempfile.TemporaryDirectory(prefix="tutelage-") as folder:
            path = Path(folder) / "spool"
            write_hashed(path, pieces())
            return self.put_data_file(unit, path, suffix)

    def commit(self, unit: str, record: Mapping[str, Any], *kind: Any) -> Any:
        """Compare a commit record with the stored one; the name of a score's column may differ between recipes."""
        key = f"units/{unit}.json"
        expected = json.loads(canonical({**record, **self.fixed}))
        found = read_object(self.store, key)
        compared = {name: value for name, value in expected.items() if name not in OF_A_RUN - self.fixed.keys()}
        if found and "poison" in found:
            compared.setdefault("poison", {})  # a record without the field has no poisonous row
        unknown = [name for name in found or () if kind and not self.newer and name not in kind[0].model_fields]
        fields = [*differing(compared, found), *unknown] if found else []
        if not found or fields:
            stored = "is not the JSON of a record" if self.store.exists(key) else "is missing"
            what = fields_differ(fields, "the recomputed values") if fields else stored
            kept = {name: value for name, value in (found or {}).items() if name not in {*compared, *unknown}}
            self.mended(Finding("record", self.store.location(key), what, "it is rebuilt from its objects"),
                        lambda: self.repairs.put(self.store, key, canonical({**expected, **kept})))  # fmt: skip
        return expected if not kind else kind[0].model_validate_json(canonical(expected))

    # --- implementation -------------------------------------------------------------------------------------------

    def mended(self, finding: Finding, put: Callable[[], bool]) -> None:
        """Add a finding, and repair the object unless all objects here are frozen."""
        if self.frozen:
            finding = Finding(finding.code, finding.object, finding.what, "", self.frozen)
        self.findings.append(finding.done(put()) if finding.how else finding)

    def _candidates(self, unit: str, suffix: str) -> Sequence[Named]:
        place = self._places[unit, suffix]
        self._places[unit, suffix] += 1
        named = self.named(unit, suffix)
        return named[place] if place < len(named) else ()

    def _key(self, suffix: str, sha: str, candidates: Sequence[Named]) -> str:
        """The right name for the object among the references in documents; "" for none.

        A name that only a listing has is never used: no document references the object until the repair has put one,
        and until then `curate gc` may delete it.
        """
        keys = [str(item["key"]) for item in candidates]
        if right := next((key for key in keys if named_hash(key) == sha[:16]), None):
            return right
        if suffix == "parquet" and keys and self._get(keys[0]) is not None:
            return keys[0]  # another version of Parquet's writer encodes equal tables as other bytes
        return keys[0] if keys else ""

    def _get(self, key: str) -> bytes | None:
        try:
            return self.store.get(key) if key else None
        except NotFoundError:
            return None

    def _same(self, data: bytes, actual: bytes, suffix: str, key: str) -> DataObject | None:
        """The stored object if its content is right, else None.

        Its bytes are equal to the recomputed ones, or match its name and encode the same rows: another version of
        pyarrow wrote them.
        """
        sha = sha256(actual).hexdigest()
        rewritten = suffix == "parquet" and named_hash(key) == sha[:16]
        if data != actual and (not rewritten or table_differs(from_parquet(data), actual, self.words)):
            return None
        return DataObject(key=key, sha256=sha, bytes=len(actual))

    def _what(self, data: bytes, actual: bytes | None, suffix: str) -> str:
        if actual is None:
            return "is missing"
        if suffix == "parquet":
            return table_differs(from_parquet(data), actual) or "its bytes don't match the hash in its name"
        return f"its {len(actual):,} bytes differ from the {len(data):,} recomputed bytes"

    def _rebuild(
        self,
        unit: str,
        key: str,
        suffix: str,
        sha: str,
        size: int,
        what: str,
        candidates: Sequence[Named],
        put: Callable[[str], bool],
    ) -> DataObject:
        code, fits = CODES.get(suffix, suffix), not key or named_hash(key) == sha[:16]
        code = self.what if suffix == "parquet" and self.what else code
        target = key if key and fits else self._fresh(unit, sha, suffix)
        how, why = "it is rebuilt from its inputs", ""
        if not fits and not self.free:
            how, why = "", (
                f"the rebuilt object has the sha256 {sha[:16]}..., but its name has {named_hash(key)}...: another "
                "version of pyarrow wrote it, or its inputs differ; repair with the software that the snapshot records"
            )  # fmt: skip
        where = self.store.location(key or target)
        self.mended(Finding(code, where, what, how, why), lambda: put(target))
        return DataObject(key=target, sha256=sha, bytes=size) if how else _as_named(key, sha, size, candidates)

    def _fresh(self, unit: str, sha: str, suffix: str) -> str:
        from secrets import token_hex

        return f"data/{unit}-{sha[:16]}-{token_hex(4)}.{suffix}"


def _as_named(key: str, sha: str, size: int, candidates: Sequence[Named]) -> DataObject:
    """An object that stays unchanged, as documents reference it, so that they stay unchanged too."""
    for item in candidates:
        with suppress(ValidationError):
            if item["key"] == key:
                return DataObject(key=key, sha256=item.get("sha256", ""), bytes=item.get("bytes", -1))
    return DataObject(key=key, sha256=sha, bytes=size)
