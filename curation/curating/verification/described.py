"""What a snapshot's document says, against what it should say; and the lists of uids that it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from curation.core.digest import canonical
from curation.core.errors import StoreError, UserError
from curation.curating.verification.chain import place
from curation.curating.verification.differences import hash_of
from curation.curating.verification.findings import Finding, differing, fields_differ
from curation.curating.verification.repairs import Mender
from curation.curating.verification.versions import is_newer
from curation.ledger.documents import SnapshotDocument
from curation.ledger.lost_snapshots import given_up
from curation.ledger.score_tables import INDEX
from curation.ledger.snapshot_keys import snapshot_key, urls_key
from curation.recipes.curation_recipe import Recipe
from curation.storage.store import Store, open_object

OF_THE_RUN = frozenset({"software"})  # what made the snapshot, which another version can't compute
LATER = frozenset({"groups"})  # fields that documents of earlier versions lack
LISTS = ("keep", "drop", "weights")
_UNKNOWN = {"key": "data/unknown.parquet", "sha256": "0" * 64, "bytes": 0}
_READABLE: dict[str, Any] = {
    "parent": None, "decision_id": "unknown", "recipe_sha256": "0" * 64, "weights": {}, "scores": [], "score_types": {},
    "units": {"total": 0, "quarantined": 0}, "samples": {"seen": 0, "kept": 0, "filtered": {}, "quarantined": {}},
    "shards": _UNKNOWN, "manifest": _UNKNOWN, "urls": _UNKNOWN,
    "matches": None, "lists": {}, "against": {},
}  # fmt: skip
# A hash that differs proves that it or what it stands for was edited: it is never made to fit.
CHECKSUMS = ("decision_id", "recipe_sha256")
_FIELDS = SnapshotDocument.model_fields.keys()
_LOST = "restore the document from a backup, or make the next snapshot: `curate run RECIPE`"
_CHECKSUM = f"either they were edited or the recipe and lists were, and no other document tells which: {_LOST}"
_NO_LIST = "restore the document from a backup"
_EDITED = "`decision_id` and `recipe_sha256` both differ, so the recipe was edited: restore the document from a backup"


def check_document(
    out: Store,
    number: int,
    raw: Mapping[str, Any],
    expected: Mapping[str, Any],
    *,
    anchored: bool,
    mend: Mender,
    software: Mapping[str, Mapping[str, str]] | None = None,
) -> Iterator[Finding]:
    """Where the document differs from what is recomputed. `anchored`: the recipe in it is that of the snapshot.
    `software`: what made it, None where that is not known."""
    given = given_up(out) if raw.get("parent") != (number - 1 or None) else []
    expected = {**expected, **place(raw, number, given)}
    if software:
        expected["software"] = software
    left_out = set() if software else OF_THE_RUN | (LATER - raw.keys())
    compared = {name: value for name, value in expected.items() if name not in left_out}
    unknown = [] if is_newer((software or {}).values()) else [one for one in raw if one not in _FIELDS]
    where = out.location(snapshot_key(number))
    if software is None and "software" in raw:
        yield Finding("document", where, "field `software` has versions that are not those of their digest", "", _LOST)
    if not (wrong := [*differing(compared, raw), *unknown]):
        return
    if not anchored:
        yield Finding("document", where, fields_differ(wrong, "what is recomputed"), "", _EDITED)
        return
    if sums := [name for name in wrong if name in CHECKSUMS]:
        yield Finding("document", where, fields_differ(sums, "what is recomputed"), "", _CHECKSUM)
    right = {**{name: value for name, value in raw.items() if name not in unknown}, **compared}
    right |= {name: raw[name] for name in CHECKSUMS if name in raw}
    if rest := [name for name in wrong if name not in sums]:
        done = mend.put(out, snapshot_key(number), canonical(right))
        yield Finding("document", where, fields_differ(rest, "what is recomputed"), "they are set to it").done(done)


def check_scorers(
    out: Store, number: int, recipe: Recipe, stale: frozenset[str], same_software: bool
) -> Iterator[Finding]:
    """Scorers of the recipe that would make other columns than the plan's, though this very software made them."""
    ours = [name for name in recipe.scorers if type(recipe.scorers[name]).__module__.startswith("curation.")]
    wrong = [f"recipe.scorers.{name}" for name in ours if name in stale]
    if wrong and same_software and INDEX not in stale:
        where = out.location(snapshot_key(number))
        yield Finding("document", where, fields_differ(wrong, "what the plan was made for"), "", _LOST)


def check_urls(
    out: Store, number: int, raw: Mapping[str, Any], shards: pa.Table, mend: Mender, *, frozen: str
) -> Iterator[Finding]:
    """The list of shards under a name that other programs find without the document. Earlier versions put none.
    `frozen`: why it may not be written again."""
    key, text = urls_key(number), "".join(f"{name}\n" for name in shards.column("key").to_pylist()).encode()
    there = _read(out, key)
    if there == text or (there is None and "software" not in raw):
        return
    what = "is gone" if there is None else "its lines are not the keys of the snapshot's shards"
    if frozen:
        yield Finding("urls", out.location(key), what, "", frozen)
    else:
        yield Finding("urls", out.location(key), what, "it is written again").done(mend.put(out, key, text))


def check_named(out: Store, raw: Mapping[str, Any]) -> Iterator[Finding]:
    """The objects that the document names itself against their hashes in it: all that can be done where its content
    can't be recomputed."""
    for code, name in (("index", "shards"), ("index", "manifest"), ("urls", "urls"), ("matches", "matches")):
        item = raw.get(name)
        if not isinstance(item, Mapping):
            continue
        key = str(item.get("key", ""))
        there = hash_of(out, key) if key.startswith("data/") else None
        if there is None or there[0] != item.get("sha256"):
            what = "is gone" if there is None else f"its sha256 is not that of field `{name}` of the snapshot"
            yield Finding(code, out.location(key), what, "", "its content can't be recomputed: see the other findings")


def check_lists(
    out: Store, number: int, raw: Mapping[str, Any], recipe: Recipe, mend: Mender
) -> tuple[list[Finding], dict[str, bytes], bool]:
    """(what is wrong with the lists of uids, their texts, whether all are known)."""
    findings, texts, whole = list[Finding](), dict[str, bytes](), True
    named = raw.get("lists")
    for name, item in (named if isinstance(named, Mapping) else {}).items():
        if not isinstance(item, Mapping):
            whole, where = False, out.location(snapshot_key(number))
            findings.append(Finding("document", where, f"field `lists.{name}` is no object", "", _NO_LIST))
            continue
        key, sha = str(item.get("key", "")), item.get("sha256")
        text = _read(out, key)
        if text is not None and sha256(text).hexdigest() == sha:
            texts[name] = text
            continue
        what = "is gone" if text is None else f"its sha256 is not that of field `lists.{name}` of the snapshot"
        again = _today(recipe, name)
        if again is not None and sha256(again).hexdigest() == sha:
            texts[name] = again
            finding = Finding("list", out.location(key), what, "it is copied again from the recipe's URL")
            findings.append(finding.done(mend.put(out, key, again)))
            continue
        whole = False
        why = f"the list that the recipe names as {name}: is another by now: restore one with the sha256 {sha}"
        findings.append(Finding("list", out.location(key), what, "", why))
    return findings, texts, whole


def _today(recipe: Recipe, name: str) -> bytes | None:
    url = getattr(recipe, name) if name in LISTS else None
    if not url:
        return None
    try:
        store, key = open_object(url, recipe.options)
    except UserError:
        return None
    return _read(store, key)


def _read(store: Store, key: str) -> bytes | None:
    try:
        return store.get(key)
    except (StoreError, UserError):
        return None


def openable(raw: Mapping[str, Any], number: int) -> SnapshotDocument:
    """The document with fields that can be read in the place of those that can't. Raises `ValidationError` where the
    pipeline needs one that can't be read."""
    value = {**_READABLE, **raw, "snapshot": number}
    try:
        return SnapshotDocument.model_validate(value)
    except ValidationError as error:
        wrong = {str(item["loc"][0]) for item in error.errors() if item["loc"]}
        return SnapshotDocument.model_validate(
            {**value, **{name: _READABLE[name] for name in wrong & _READABLE.keys()}}
        )
