"""A ledger that puts nothing: each object that a run would put is compared with the one that is there.

The code that makes tables, shards and records runs again, unchanged, and hands its objects to this ledger in the place
of the real one. So nothing here knows how a shard or a record is made, and no second implementation can drift from the
first. Where an object differs it becomes a finding, and a mender that is not dry puts the right one.

Objects are content-addressed: a name holds the first 16 digits of the sha256 of what it named when it was put. A
damaged object is rebuilt under its own name, if what is rebuilt has that hash.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from hashlib import file_digest, sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from curation.core.digest import canonical
from curation.core.errors import NotFoundError
from curation.core.software import software, software_id
from curation.curating.verification.differences import first_difference, hash_of, named_hash, read_object, table_differs
from curation.curating.verification.findings import Finding, differing, fields_differ
from curation.curating.verification.repairs import Mender
from curation.ledger.documents import DataObject
from curation.ledger.ledger import Ledger
from curation.storage.parquet import from_parquet
from curation.storage.store import Store

Named = Mapping[str, Any]  # key, sha256, bytes of an object, as a document has it
Contested = Callable[[str, bytes, bytes | None, Sequence[Named]], str]  # key, rebuilt bytes, those there, documents'
OF_A_RUN = frozenset({"column", "software"})  # fields of a score record in which equal units may differ
CODES = {"tar": "shard", "parquet": "table", "txt": "text"}


class Comparison(Ledger):
    """`named(unit, suffix)`: for each object of this kind that is put for a unit, in order, those that documents name
    for it, the most trusted first. `free`: nothing outside the unit's record names its objects, so they may get new
    names. `frozen`: why nothing may be rebuilt, where that is so. `words`: columns of tables for people, which another
    version of the software may word otherwise. `fixed`: fields of a record that do not follow from the run and must
    have these values. `newer`: a later version made the records, whose fields may not all be known here. `contested`:
    why an object that differs may not be rebuilt from what this process has of it, empty where it may."""

    def __init__(
        self,
        store: Store,
        mend: Mender,
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
        self.mend, self.named, self.what, self.free, self.frozen = mend, named, what, free, frozen
        self.findings: list[Finding] = []
        self._places: dict[tuple[str, str], int] = defaultdict(int)

    # --- what a ledger is asked for -------------------------------------------------------------------------------

    def find(self, unit: str, *kind: Any) -> Any:
        """None: whoever makes units makes this one again."""
        return None

    def software_id(self) -> str:
        """That of this process, which nothing records here."""
        return software_id(software())

    def put_data(self, unit: str, data: bytes, suffix: str) -> DataObject:
        """Compare bytes with the object that is named for them."""
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
        return self._rebuild(unit, key, suffix, sha, len(data), what, candidates, lambda at: self.mend.put(
            self.store, at, data, aside=suffix != "parquet"))  # fmt: skip

    def put_data_file(self, unit: str, path: Path, suffix: str) -> DataObject:
        """Compare a file with the object that is named for it. Streams both."""
        with path.open("rb") as file:
            sha = file_digest(file, "sha256").hexdigest()
        size = path.stat().st_size
        candidates = self._candidates(unit, suffix)
        key = self._key(suffix, sha, candidates)
        if (hashed := hash_of(self.store, key) if key else None) == (sha, size):
            return DataObject(key=key, sha256=sha, bytes=size)
        if hashed is None:
            what = "is gone"
        elif suffix == "parquet":
            data, actual = path.read_bytes(), self.store.get(key)
            if same := self._same(data, actual, suffix, key):
                return same
            what = self._what(data, actual, suffix)
        else:
            what = first_difference(self.store, key, path, hashed[1])
        return self._rebuild(unit, key, suffix, sha, size, what, candidates, lambda at: self.mend.put_file(
            self.store, at, path))  # fmt: skip

    def commit(self, unit: str, record: Mapping[str, Any], *kind: Any) -> Any:
        """Compare a commit record with the one that is there. Columns of scores are called as each recipe likes."""
        key = f"units/{unit}.json"
        expected = json.loads(canonical({**record, **self.fixed}))
        found = read_object(self.store, key)
        compared = {name: value for name, value in expected.items() if name not in OF_A_RUN - self.fixed.keys()}
        if found and "poison" in found:
            compared.setdefault("poison", {})  # a record without it says that no row is
        unknown = [name for name in found or () if kind and not self.newer and name not in kind[0].model_fields]
        fields = [*differing(compared, found), *unknown] if found else []
        if not found or fields:
            there = "is not the JSON of a record" if self.store.exists(key) else "is gone"
            what = fields_differ(fields, "what is recomputed") if fields else there
            kept = {name: value for name, value in (found or {}).items() if name not in {*compared, *unknown}}
            self.mended(Finding("record", self.store.location(key), what, "it is rebuilt from what it names"),
                        lambda: self.mend.put(self.store, key, canonical({**expected, **kept})))  # fmt: skip
        return expected if not kind else kind[0].model_validate_json(canonical(expected))

    # --- how ------------------------------------------------------------------------------------------------------

    def mended(self, finding: Finding, put: Callable[[], bool]) -> None:
        """Note a finding, and mend it unless everything here is frozen."""
        if self.frozen:
            finding = Finding(finding.code, finding.object, finding.what, "", self.frozen)
        self.findings.append(finding.done(put()) if finding.how else finding)

    def _candidates(self, unit: str, suffix: str) -> Sequence[Named]:
        place = self._places[unit, suffix]
        self._places[unit, suffix] += 1
        named = self.named(unit, suffix)
        return named[place] if place < len(named) else ()

    def _key(self, suffix: str, sha: str, candidates: Sequence[Named]) -> str:
        """The name that the object should have, of those that documents have for it; "" for none.

        Names that only a listing of the store has are never used: nothing names such an object until the repair has put
        the document, and until then `curate gc` may delete it.
        """
        keys = [str(item["key"]) for item in candidates]
        if right := next((key for key in keys if named_hash(key) == sha[:16]), None):
            return right
        if suffix == "parquet" and keys and self._get(keys[0]) is not None:
            return keys[0]  # equal tables have other bytes in another version of Parquet's writer
        return keys[0] if keys else ""

    def _get(self, key: str) -> bytes | None:
        try:
            return self.store.get(key) if key else None
        except NotFoundError:
            return None

    def _same(self, data: bytes, actual: bytes, suffix: str, key: str) -> DataObject | None:
        """The object that is there, if it holds what it should: the same bytes, or a table's rows in the bytes of its
        name, which another version of pyarrow wrote."""
        sha = sha256(actual).hexdigest()
        rewritten = suffix == "parquet" and named_hash(key) == sha[:16]
        if data != actual and (not rewritten or table_differs(from_parquet(data), actual, self.words)):
            return None
        return DataObject(key=key, sha256=sha, bytes=len(actual))

    def _what(self, data: bytes, actual: bytes | None, suffix: str) -> str:
        if actual is None:
            return "is gone"
        if suffix == "parquet":
            return table_differs(from_parquet(data), actual) or "its bytes are not those of its name"
        return f"its {len(actual):,} bytes differ from the {len(data):,} that are recomputed"

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
                f"what is rebuilt has the sha256 {sha[:16]}..., not the {named_hash(key)}... of its name: another "
                "version of pyarrow wrote it, or its inputs differ; repair with the software that the snapshot names"
            )  # fmt: skip
        where = self.store.location(key or target)
        self.mended(Finding(code, where, what, how, why), lambda: put(target))
        return DataObject(key=target, sha256=sha, bytes=size) if how else _as_named(key, sha, size, candidates)

    def _fresh(self, unit: str, sha: str, suffix: str) -> str:
        from secrets import token_hex

        return f"data/{unit}-{sha[:16]}-{token_hex(4)}.{suffix}"


def _as_named(key: str, sha: str, size: int, candidates: Sequence[Named]) -> DataObject:
    """An object that is left as it is, as documents name it, so that they are left as they are, too."""
    for item in candidates:
        with suppress(ValidationError):
            if item["key"] == key:
                return DataObject(key=key, sha256=item.get("sha256", ""), bytes=item.get("bytes", -1))
    return DataObject(key=key, sha256=sha, bytes=size)
