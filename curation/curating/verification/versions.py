"""Versions of software that documents name: each name is a hash of the versions, so that an edit of either shows.

    <scores>/software/<digest>.json     package -> version; a score record holds the digest
    <out>/snapshots/<n>.json            field `software`: digest -> package -> version

A name that has the right versions in one place proves them in the other. Cost: one listing and a small GET a set of
versions, of which a dataset has a few.
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
from curation.curating.verification.repairs import Mender
from curation.storage.store import Store

Versions = Mapping[str, Mapping[str, str]]  # digest -> package -> version

_NAME = re.compile(r"software/([0-9a-f]{16})\.json")
_NOT_KNOWN = "restore it from a backup: no other document has these versions"


def proved(said: Any) -> dict[str, dict[str, str]]:
    """Those entries of a document's `software` whose digest is that of their versions."""
    entries = said.items() if isinstance(said, Mapping) else ()
    return {name: dict(versions) for name, versions in entries if _fits(name, versions)}


def _fits(name: str, versions: Any) -> bool:
    return _is_versions(versions) and software_id(versions) == name


def _is_versions(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(one, str) for one in value.values())


def known_versions(store: Store, document: Any) -> dict[str, dict[str, str]]:
    """All sets of versions that prove themselves: in a store of scores, in a document's `software`, of this process."""
    found = {**of_this_process(), **proved(document)}
    for key, name in _files(store):
        if name and _fits(name, versions := read_object(store, key)):
            found[name] = versions or {}
    return found


def _files(store: Store) -> Iterator[tuple[str, str]]:
    """(key, the digest in it, empty where there is none) of all that lies in the folder."""
    with suppress(BucketError):
        for item in store.list("software", etags=False):
            match = _NAME.fullmatch(item.key)
            yield item.key, match[1] if match else ""


def check_versions(store: Store, known: Versions, mend: Mender) -> Iterator[Finding]:
    """The files of versions in a store of scores."""
    for key, name in sorted(_files(store)):
        where = store.location(key)
        if not name:
            how = "it is moved aside"
            yield Finding("software", where, "is not named like versions of software", how).done(
                mend.take_out(store, key)
            )
        elif not _fits(name, read_object(store, key)):
            yield _written(store, key, "its versions are not those of its name", known.get(name), mend)


def _written(store: Store, key: str, what: str, versions: Mapping[str, str] | None, mend: Mender) -> Finding:
    where = store.location(key)
    if versions is None:
        return Finding("software", where, what, "", _NOT_KNOWN)
    data = json.dumps(versions, sort_keys=True).encode()
    return Finding("software", where, what, "it is written again").done(mend.put(store, key, data))


def check_named(
    store: Store, records: Mapping[str, tuple[int, str]], known: Versions, mend: Mender
) -> Iterator[Finding]:
    """The digests that score records name. `records`: digest -> (how many records name it, the key of one).

    One record alone that names versions that nobody has was edited; where several do, the file of versions is gone.
    """
    there = {name for _, name in _files(store)}
    for name, (count, key) in sorted(records.items()):
        if name in there:
            continue
        if count > 1 or name in known:
            yield _written(store, f"software/{name}.json", "is gone", known.get(name), mend)
            continue
        what, how = "field `software` names versions that are not recorded", "it is set to null: not known"
        record = read_object(store, key) or {}
        done = mend.put(store, key, canonical({**record, "software": None}))
        yield Finding("score_record", store.location(key), what, how).done(done)


def right_software(said: Any, known: Versions) -> dict[str, dict[str, str]] | None:
    """A document's `software` as it should be; None where an entry can't be known."""
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
    """Whether any of these versions has a later Tutelage than this process: its documents may have more fields."""
    ours = _number(software().get("tutelage", ""))
    return any(_number(versions.get("tutelage", "")) > ours for versions in made_by)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d{1,9}", version))
