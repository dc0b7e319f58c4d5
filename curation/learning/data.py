"""What a run of online selection reads: candidates, held-out samples, and a reference's scores of them.

Memory: the samples, 12 kB each at 64 px and 150 kB at 224 px; at most the recipe's `memory`, once a node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from curation.corpus import open_corpus
from curation.errors import EmptyCorpusError, UserError
from curation.examples import Examples, gather
from curation.learning.recipe import Classification, LearnRecipe
from curation.ledger import digest
from curation.loader import Part, SampleStream, Shard, open_shards, split_label
from curation.models import preprocess_for
from curation.snapshot import Snapshot, open_snapshot
from curation.store import StoreOptions, open_store

MAX_EVALUATED = 4000  # held-out samples that are looked at

Progress = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True)
class Listing:
    """What there is to read, pinned before anything is read."""

    urls: tuple[str, ...]  # of a snapshot with its number
    shards: tuple[list[Shard], ...]  # of each URL

    @property
    def sha256(self) -> str:
        """By content, so that a copied corpus has the same."""
        return digest([[list(shard.ref) for shard in some] for some in self.shards])


@dataclass(frozen=True)
class Data:
    """Candidates, held-out samples, and by which fields the metrics tell candidates apart."""

    pool: Examples
    held_out: Examples
    fields: Mapping[str, list[str]]  # of every candidate
    urls: tuple[str, ...]
    sha256: str  # of the listing
    skipped: Mapping[str, int]


def listed(recipe: LearnRecipe) -> Listing:
    """The shards of each of the recipe's data."""
    urls = tuple(pinned(url, recipe.options) for url in recipe.data)
    return Listing(urls, tuple(open_shards(url, recipe.options) for url in urls))


def pinned(url: str, options: StoreOptions) -> str:
    """`URL@7` for a snapshot, whose latest may become another while it is read; everything else as it is."""
    found = snapshot_of(url, options)
    return url if found is None else f"{found.store.url.removeprefix('file://').rstrip('/')}@{found.number}"


def snapshot_of(url: str, options: StoreOptions) -> Snapshot | None:
    """The snapshot that a URL (`URL`, `URL@7`, `URL@latest`) speaks of; None where it is a bare corpus."""
    plain = "@" not in url and not any(sign in url for sign in "*{") and not url.endswith(".tar")
    if plain and open_store(url, options).exists("LATEST"):
        url = f"{url.rstrip('/')}@latest"
    corpus = open_corpus(url, options)
    return None if corpus.snapshot is None else open_snapshot(corpus.root, corpus.snapshot, options)


def read(recipe: LearnRecipe, listing: Listing, progress: Progress) -> Data:
    """Candidates and held-out samples into memory."""
    part: Part = "train" if recipe.holdout else "all"
    parts: list[Examples] = []
    fields: dict[str, list[str]] = {name: [] for name in (*recipe.by, *(["data"] if len(listing.urls) > 1 else []))}
    skipped: Counter[str] = Counter()
    budget = recipe.memory
    for url, some in zip(listing.urls, listing.shards, strict=True):
        stream = stream_of(some, recipe, part)
        with progress(f"Reading {url}", None) as advance:
            found = gather(stream, budget=budget, advance=advance)
        if found is None:
            text = f"{', '.join(listing.urls)} does not fit into {recipe.memory:,} bytes of memory at {stream.size} px"
            raise UserError(text, fix="a larger `memory:`, fewer shards, or a smaller snapshot")
        budget -= found.pixels.nbytes
        skipped += stream.skipped
        values = [split_label(label) for label in found.labels]
        for place, name in enumerate(recipe.by):
            fields[name] += _field(recipe, url, name, found.uids, [value[1 + place] for value in values])
        if "data" in fields:
            fields["data"] += [url] * len(found)
        parts.append(relabelled(found, [value[0] for value in values]))
    pool = Examples.joined(parts)
    if len(pool) < 2:
        reasons = ", ".join(f"{reason} {n}" for reason, n in skipped.items()) or "none"
        raise EmptyCorpusError(f"{', '.join(listing.urls)} has {len(pool)} samples to train on (skipped: {reasons})")
    return Data(pool, _held_out(recipe, listing, progress), fields, listing.urls, listing.sha256, dict(skipped))


def trusted(recipe: LearnRecipe, url: str) -> Examples:
    """The data on which a reference is trained beside the learner."""
    found = gather(stream_of(open_shards(url, recipe.options), recipe, "all"))
    if found is None or not len(found):
        raise UserError(f"{url} has no samples for the reference, or too many", fix="name other data")
    return relabelled(found, [split_label(label)[0] for label in found.labels])


def column_losses(recipe: LearnRecipe, column: str, urls: tuple[str, ...], uids: list[str]) -> Tensor:
    """float32 `[N]`: minus the score that the snapshots' manifests hold of each sample. Costs no forward pass."""
    found: dict[str, float] = {}
    for url in urls:
        snapshot = snapshot_of(url, recipe.options)
        if snapshot is None:
            text = f"{url} is no snapshot, so it has no score {column}"
            raise UserError(text, fix="curate it first, or give the reference as `weights:`")
        if column not in (names := snapshot.reader().schema.names):
            text = f"the manifest of {url} has no column {column}"
            raise UserError(text, fix=f"it has: {', '.join(names)}")
        found.update(_column(snapshot, column))
    missing = [uid for uid in uids if uid not in found]
    if missing:
        raise UserError(f"sample {missing[0]} has no score {column}", fix="score the snapshot with that scorer")
    return torch.tensor([-found[uid] for uid in uids], dtype=torch.float32)


def _column(snapshot: Snapshot, name: str) -> dict[str, Any]:
    """The values of a manifest's column that are not null, by uid."""
    found: dict[str, Any] = {}
    for batch in snapshot.reader(["uid", name]):
        uids, values = (item.to_pylist() for item in batch.columns)
        found.update((uid, value) for uid, value in zip(uids, values, strict=True) if value is not None)
    return found


def _field(recipe: LearnRecipe, url: str, name: str, uids: list[str], values: list[str]) -> list[str]:
    """A field by which the metrics tell candidates apart: of their json (`values`), or else of their manifest."""
    if any(values):
        return values
    snapshot = snapshot_of(url, recipe.options)
    if snapshot is None or name not in snapshot.reader().schema.names:
        return values
    known = _column(snapshot, name)
    return [str(known.get(uid, "")) for uid in uids]


def stream_of(shards: list[Shard], recipe: LearnRecipe, part: Part) -> SampleStream:
    """Samples as the learner wants them, in their order."""
    view = preprocess_for(recipe.learner.model)
    label, group = "name", "name"
    if isinstance(recipe.learner, Classification):
        label, group = recipe.learner.label, ""  # by name, a held-out sample could be of a class that nobody has seen
    return SampleStream(
        shards, size=view.size, mode=view.mode, shuffle=0, part=part, holdout=recipe.holdout, label=(label, *recipe.by),
        group=group,
    )  # fmt: skip


def relabelled(examples: Examples, labels: list[str]) -> Examples:
    """The same samples under other labels."""
    return Examples(examples.pixels, examples.captions, examples.uids, labels)


def _held_out(recipe: LearnRecipe, listing: Listing, progress: Progress) -> Examples:
    if recipe.evaluation is None and not recipe.holdout:
        raise UserError("there is nothing to evaluate on", fix="holdout: 0.05, or evaluation: URL")
    places = listing.shards if recipe.evaluation is None else (open_shards(recipe.evaluation, recipe.options),)
    whole = not recipe.holdout or (recipe.evaluation is not None and isinstance(recipe.learner, Classification))
    part: Part = "all" if whole else "held_out"
    stream = stream_of([shard for some in places for shard in some], recipe, part)
    with progress("Reading the held-out part", None) as advance:
        found = gather(stream, limit=MAX_EVALUATED, advance=advance)
    if found is None or len(found) < 2:
        raise UserError("there are too few held-out samples to evaluate on", fix="a larger holdout:")
    return relabelled(found, [split_label(label)[0] for label in found.labels])
