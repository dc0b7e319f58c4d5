"""Checks of a snapshot's document, its indexes, its published list of shards, and its lists of uids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from curation.core.digest import canonical
from curation.core.errors import StoreError, UserError
from curation.curating.pipeline import list_urls
from curation.curating.verification.chain import place
from curation.curating.verification.differences import hash_of
from curation.curating.verification.findings import Finding, differing, fields_differ
from curation.curating.verification.repairs import RepairWriter
from curation.curating.verification.versions import is_newer
from curation.ledger.documents import SnapshotDocument
from curation.ledger.lost_snapshots import given_up
from curation.ledger.score_tables import INDEX
from curation.ledger.snapshot_keys import snapshot_key, urls_key
from curation.recipes.curation_recipe import Recipe
from curation.storage.store import Store, open_object

OF_THE_RUN = frozenset({"software"})  # describes the run that created the snapshot, so it can't be recomputed
LATER = frozenset({"groups"})  # fields that documents of earlier versions don't have
_UNKNOWN = {"key": "data/unknown.parquet", "sha256": "0" * 64, "bytes": 0}
_READABLE: dict[str, Any] = {
    "parent": None, "decision_id": "unknown", "recipe_sha256": "0" * 64, "weights": {}, "scores": [], "score_types": {},
    "units": {"total": 0, "quarantined": 0}, "samples": {"seen": 0, "kept": 0, "filtered": {}, "quarantined": {}},
    "shards": _UNKNOWN, "manifest": _UNKNOWN, "urls": _UNKNOWN,
    "matches": None, "lists": {}, "against": {}, "stale_edits": None,
}  # fmt: skip
# A differing hash proves that it or its content was edited, so a repair never overwrites it.
CHECKSUMS = ("decision_id", "recipe_sha256")
_FIELDS = SnapshotDocument.model_fields.keys()
_LOST = "restore the document from a backup, or create the next snapshot: `curate run RECIPE`"
_CHECKSUM = f"either the fields or the recipe and lists were edited, and no other document shows which: {_LOST}"
_NO_LIST = "restore the document from a backup"
_EDITED = "`decision_id` and `recipe_sha256` both differ, so the recipe was edited: restore the document from a backup"


def check_document(
    out: Store,
    number: int,
    raw: Mapping[str, Any],
    expected: Mapping[str, Any],
    *,
    anchored: bool,
    repairs: RepairWriter,
    software: Mapping[str, Mapping[str, str]] | None = None,
) -> Iterator[Finding]:
    """Yield the differences between a snapshot's document and the recomputed one.

    `raw`: the stored document. `anchored`: whether its recipe is proved to be the one that created the snapshot.
    `software`: the versions that created it, None where unknown.
    """
    given = given_up(out) if raw.get("parent") != (number - 1 or None) else []
    expected = {**expected, **place(raw, number, given)}
    if software:
        expected["software"] = software
    left_out = set() if software else OF_THE_RUN | (LATER - raw.keys())
    compared = {name: value for name, value in expected.items() if name not in left_out}
    unknown = [] if is_newer((software or {}).values()) else [one for one in raw if one not in _FIELDS]
    where = out.location(snapshot_key(number))
    if software is None and "software" in raw:
        yield Finding("document", where, "field `software` has versions that don't match their digest", "", _LOST)
    if not (wrong := [*differing(compared, raw), *unknown]):
        return
    if not anchored:
        yield Finding("document", where, fields_differ(wrong, "the recomputed values"), "", _EDITED)
        return
    if sums := [name for name in wrong if name in CHECKSUMS]:
        yield Finding("document", where, fields_differ(sums, "the recomputed values"), "", _CHECKSUM)
    right = {**{name: value for name, value in raw.items() if name not in unknown}, **compared}
    right |= {name: raw[name] for name in CHECKSUMS if name in raw}
    if rest := [name for name in wrong if name not in sums]:
        done = repairs.put(out, snapshot_key(number), canonical(right))
        what = fields_differ(rest, "the recomputed values")
        yield Finding("document", where, what, "the recomputed values replace them").done(done)


def check_scorers(
    out: Store, number: int, recipe: Recipe, stale: frozenset[str], same_software: bool
) -> Iterator[Finding]:
    """Yield a finding for scorers of the recipe whose columns differ from the plan's under the same software."""
    ours = [name for name in recipe.scorers if type(recipe.scorers[name]).__module__.startswith("curation.")]
    wrong = [f"recipe.scorers.{name}" for name in ours if name in stale]
    if wrong and same_software and INDEX not in stale:
        where = out.location(snapshot_key(number))
        yield Finding("document", where, fields_differ(wrong, "the scorers of the plan"), "", _LOST)


def check_urls(
    out: Store, number: int, raw: Mapping[str, Any], shards: pa.Table, repairs: RepairWriter, *, frozen: str
) -> Iterator[Finding]:
    """Yield a finding for the published list of shards, whose name other programs know without the document.

    Earlier versions did not publish it. `frozen`: the reason why it may not be rewritten, or "".
    """
    key, text = urls_key(number), "".join(f"{name}\n" for name in shards.column("key").to_pylist()).encode()
    there = _read(out, key)
    if there == text or (there is None and "software" not in raw):
        return
    what = "is missing" if there is None else "its lines are not the keys of the snapshot's shards"
    if frozen:
        yield Finding("urls", out.location(key), what, "", frozen)
    else:
        yield Finding("urls", out.location(key), what, "it is rewritten").done(repairs.put(out, key, text))


def check_named(out: Store, raw: Mapping[str, Any]) -> Iterator[Finding]:
    """Compare the objects that the document references with their hashes in it, where they can't be recomputed."""
    for code, name in (("index", "shards"), ("index", "manifest"), ("urls", "urls"), ("matches", "matches")):
        item = raw.get(name)
        if not isinstance(item, Mapping):
            continue
        key = str(item.get("key", ""))
        there = hash_of(out, key) if key.startswith("data/") else None
        if there is None or there[0] != item.get("sha256"):
            what = "is missing" if there is None else f"its sha256 differs from field `{name}` of the snapshot"
            yield Finding(code, out.location(key), what, "", "its content can't be recomputed: see the other findings")


def check_lists(
    out: Store, number: int, raw: Mapping[str, Any], recipe: Recipe, repairs: RepairWriter
) -> tuple[list[Finding], dict[str, bytes], bool]:
    """Check the lists of uids against their hashes; return (findings, texts by name, whether all are known)."""
    findings, texts, whole = list[Finding](), dict[str, bytes](), True
    named = raw.get("lists")
    for name, item in (named if isinstance(named, Mapping) else {}).items():
        if not isinstance(item, Mapping):
            whole, where = False, out.location(snapshot_key(number))
            findings.append(Finding("document", where, f"field `lists.{name}` is not an object", "", _NO_LIST))
            continue
        key, sha = str(item.get("key", "")), item.get("sha256")
        text = _read(out, key)
        if text is not None and sha256(text).hexdigest() == sha:
            texts[name] = text
            continue
        what = "is missing" if text is None else f"its sha256 differs from field `lists.{name}` of the snapshot"
        again = _at_url(recipe, name)
        if again is not None and sha256(again).hexdigest() == sha:
            texts[name] = again
            finding = Finding("list", out.location(key), what, "it is copied again from the recipe's URL")
            findings.append(finding.done(repairs.put(out, key, again)))
            continue
        whole = False
        why = f"the list at the recipe's `{name}:` has changed since: restore one with the sha256 {sha}"
        findings.append(Finding("list", out.location(key), what, "", why))
    return findings, texts, whole


def _at_url(recipe: Recipe, name: str) -> bytes | None:
    """The list that is now at the recipe's URL, None when it can't be read."""
    if not (url := list_urls(recipe).get(name)):
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
    """Parse the document with defaults for fields that are missing or invalid.

    Raises `ValidationError` for such a field that the pipeline needs.
    """
    value = {**_READABLE, **raw, "snapshot": number}
    try:
        return SnapshotDocument.model_validate(value)
    except ValidationError as error:
        wrong = {str(item["loc"][0]) for item in error.errors() if item["loc"]}
        return SnapshotDocument.model_validate(
            {**value, **{name: _READABLE[name] for name in wrong & _READABLE.keys()}}
        )
