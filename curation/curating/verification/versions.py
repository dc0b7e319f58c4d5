"""Checks of the software versions that documents reference by a digest of them, so that an edit of either is detected.

    <scores>/software/<digest>.json     package -> version; a score record contains the digest
    <out>/snapshots/<n>.json            field `software`: digest -> package -> version

Versions that match their digest in one place prove it in the other. Cost: one listing, and a small GET for each set of
versions, of which a dataset has a few. Covered by `tests/jobs/test_joint_damages.py` and `test_damages.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from curation.core.digest import canonical
from curation.core.errors import BucketError
from curation.core.software import of_this_process, software, software_id
from curation.curating.verification.differences import read_object
from curation.curating.verification.findings import Finding
from curation.curating.verification.repairs import RepairWriter
from curation.storage.store import Store

Versions = Mapping[str, Mapping[str, str]]  # digest -> package -> version

_NAME = re.compile(r"software/([0-9a-f]{16})\.json")
_NOT_KNOWN = "restore it from a backup, because no other document has these versions"


def proved(said: Any) -> dict[str, dict[str, str]]:
    """The entries of a document's `software` whose digest matches their versions."""
    entries = said.items() if isinstance(said, Mapping) else ()
    return {name: dict(versions) for name, versions in entries if _fits(name, versions)}


def _fits(name: str, versions: Any) -> bool:
    return _is_versions(versions) and software_id(versions) == name


def _is_versions(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(one, str) for one in value.values())


def known_versions(store: Store, document: Any) -> dict[str, dict[str, str]]:
    """All sets of versions that match their digest: in a score store, in a document's `software`, of this process."""
    found = {**of_this_process(), **proved(document)}
    for key, name in _files(store):
        if name and _fits(name, versions := read_object(store, key)):
            found[name] = versions or {}
    return found


def _files(store: Store) -> Iterator[tuple[str, str]]:
    """Yield (key, digest in the key or "") of all objects in the folder `software/`."""
    with suppress(BucketError):
        for item in store.list("software", etags=False):
            match = _NAME.fullmatch(item.key)
            yield item.key, match[1] if match else ""


def check_versions(store: Store, known: Versions, repairs: RepairWriter) -> Iterator[Finding]:
    """Yield findings for the files of versions in a score store."""
    for key, name in sorted(_files(store)):
        where = store.location(key)
        if not name:
            how = "it is moved aside"
            yield Finding("software", where, "is not named like versions of software", how).done(
                repairs.take_out(store, key)
            )
        elif not _fits(name, read_object(store, key)):
            yield _rewritten(store, key, "its versions don't match the digest in its name", known.get(name), repairs)


def _rewritten(store: Store, key: str, what: str, versions: Mapping[str, str] | None, repairs: RepairWriter) -> Finding:
    where = store.location(key)
    if versions is None:
        return Finding("software", where, what, "", _NOT_KNOWN)
    data = json.dumps(versions, sort_keys=True).encode()
    return Finding("software", where, what, "it is rewritten").done(repairs.put(store, key, data))


def check_named(
    store: Store, records: Mapping[str, tuple[int, str]], known: Versions, repairs: RepairWriter
) -> Iterator[Finding]:
    """Yield findings for digests that score records reference without a file of versions.

    `records`: digest -> (number of records with it, the key of one). A single record with unknown versions was edited;
    where several have the same digest, the file of versions is missing.
    """
    there = {name for _, name in _files(store)}
    for name, (count, key) in sorted(records.items()):
        if name in there:
            continue
        if count > 1 or name in known:
            yield _rewritten(store, f"software/{name}.json", "is missing", known.get(name), repairs)
            continue
        what, how = "field `software` references versions that are not recorded", "it is set to null (unknown)"
        record = read_object(store, key) or {}
        done = repairs.put(store, key, canonical({**record, "software": None}))
        yield Finding("score_record", store.location(key), what, how).done(done)


def right_software(said: Any, known: Versions) -> dict[str, dict[str, str]] | None:
    """The right `software` of a document; None where an entry is unknown."""
    right: dict[str, dict[str, str]] = {}
    for name, versions in said.items() if isinstance(said, Mapping) else ():
        if _fits(name, versions) or name in known:
            right[name] = dict(known.get(name, versions))
        elif _is_versions(versions) and software_id(versions) in known:
            right[software_id(versions)] = dict(versions)
        else:
            return None
    return right or None


def is_newer(made_by: Iterable[Mapping[str, str]]) -> bool:
    """Whether any of these versions is of a later Tutelage than this process, whose documents may have more fields."""
    ours = _number(software().get("tutelage", ""))
    return any(_number(versions.get("tutelage", "")) > ours for versions in made_by)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d{1,9}", version))
