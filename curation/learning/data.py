"""What a run of online selection reads: candidates, held-out samples, and a reference's scores of them.

Memory: the samples, 12 kB each at 64 px and 150 kB at 224 px; at most the recipe's `memory`, once a node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from curation import checkpoint
from curation.corpus import open_corpus
from curation.errors import EmptyCorpusError, UserError
from curation.examples import Examples, gather, gather_some
from curation.learners.classification import classes_of, known_rows, labelled
from curation.learning.recipe import Classification, LearnRecipe
from curation.ledger import digest
from curation.loader import Part, SampleStream, Shard, latest_of, open_shards, split_label
from curation.models import preprocess_for
from curation.policy import Policy
from curation.snapshot import Snapshot, open_snapshot
from curation.store import StoreOptions, open_store
from curation.weights import ALIKE, SampleWeights

MAX_EVALUATED = 4000  # held-out samples that are looked at

Progress = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True)
class Listing:
    """What there is to read, pinned before anything is read."""

    urls: tuple[str, ...]  # of a snapshot with its number
    shards: tuple[list[Shard], ...]  # of each URL
    weights: tuple[SampleWeights, ...]  # of each URL
    trusted: list[Shard] | None = None  # for a reference that learns beside the learner
    evaluation: list[Shard] | None = None  # that is held out, where it isn't a part of the candidates' shards
    policy: str | None = None  # of a replay: the sha256 of what is replayed

    @property
    def sha256(self) -> str:
        """Of what decides the weights, by content, so that a copied corpus has the same."""
        told = _told(self.shards if self.trusted is None else (*self.shards, self.trusted))
        told += [[some.sha256 for some in self.weights]] if any(self.weights) else []
        return digest([*told, self.policy] if self.policy is not None else told)

    @property
    def candidates_sha256(self) -> str:
        """Of the shards that candidates come from, by content."""
        return digest(_told(self.shards))

    @property
    def held_out_sha256(self) -> str:
        """Of the shards that held-out samples come from, by content."""
        return digest(_told(self.shards if self.evaluation is None else (self.evaluation,)))


def _told(parts: Sequence[Sequence[Shard]]) -> list[Any]:
    return [[list(shard.ref) for shard in some] for some in parts]


@dataclass(frozen=True)
class Data:
    """All that a run reads, once. A classifier's samples are those whose label is one of `classes`."""

    pool: Examples  # the candidates
    held_out: Examples
    fields: Mapping[str, list[str]]  # of every candidate: by which the metrics tell them apart
    urls: tuple[str, ...]
    sha256: str  # of the listing
    candidates_sha256: str
    held_out_sha256: str
    skipped: Mapping[str, int]
    classes: list[str]  # of a classifier; of another learner none
    trusted: Examples | None  # for a reference that learns beside the learner
    weights: Tensor | None = None  # of the candidates, float64 [N], each by its own snapshot's mean; None: all alike


def listed(recipe: LearnRecipe) -> Listing:
    """The shards of each of the recipe's data."""
    urls = tuple(pinned(url, recipe.options) for url in recipe.data)
    train = recipe.reference.train if recipe.reference is not None else None
    trusted = None if train is None else open_shards(pinned(train, recipe.options), recipe.options)
    shards = tuple(open_shards(url, recipe.options) for url in urls)
    weights = tuple(weights_of(url, recipe.options) if recipe.weighted else ALIKE for url in urls)
    held_out = recipe.evaluation
    evaluation = None if held_out is None else open_shards(pinned(held_out, recipe.options), recipe.options)
    policy = None if recipe.replay is None else policy_of(recipe.replay, recipe.options).sha256(recipe.learner.steps)
    return Listing(urls, shards, weights, trusted, evaluation, policy)


def policy_of(run: str, options: StoreOptions) -> Policy:
    """The data policy of a run, for a replay. Raises `UserError` where there is none."""
    return Policy(open_store(f"{run.rstrip('/')}/policy", options))


def pinned(url: str, options: StoreOptions) -> str:
    """`URL@7` for a snapshot, whose latest may become another while it is read; everything else as it is."""
    found = snapshot_of(url, options)
    return url if found is None else f"{found.store.url.removeprefix('file://').rstrip('/')}@{found.number}"


def snapshot_of(url: str, options: StoreOptions) -> Snapshot | None:
    """The snapshot that a URL (`URL`, `URL@7`, `URL@latest`) speaks of; None where it is a bare corpus."""
    corpus = open_corpus(latest_of(url, options), options)
    return None if corpus.snapshot is None else open_snapshot(corpus.root, corpus.snapshot, options)


def weights_of(url: str, options: StoreOptions | None) -> SampleWeights:
    """What the samples at a URL weigh: all alike, but in a snapshot whose manifest says otherwise."""
    snapshot = snapshot_of(url, options or StoreOptions())
    return ALIKE if snapshot is None else snapshot.weights()


def read(recipe: LearnRecipe, listing: Listing, progress: Progress) -> Data:
    """Everything into memory. A run that goes on keeps the classes that it began with."""
    if recipe.evaluation is None and not recipe.holdout:
        raise UserError("there is nothing to evaluate on", fix="holdout: 0.05, or evaluation: URL")
    pool, weights, fields, skipped = _candidates(recipe, listing, progress)
    budget = recipe.memory - pool.pixels.nbytes
    trusted = None if listing.trusted is None else _trusted(recipe, listing.trusted, budget, progress)
    classes = _classes(recipe, pool)
    if classes:
        rows = known_rows(pool, classes)
        if len(rows) < len(pool):
            skipped["no_class"] += len(pool) - len(rows)
            pool, fields = pool.take(rows), {name: [values[row] for row in rows] for name, values in fields.items()}
            weights = None if weights is None else weights[rows]
        trusted = None if trusted is None else labelled(trusted, classes)[0]
        if trusted is not None and len(trusted) < recipe.learner.batch:
            text = f"the reference's data has {len(trusted)} samples of these classes, and a batch takes"
            raise EmptyCorpusError(f"{text} {recipe.learner.batch}", fix="name more data, or a smaller learner batch")
    if len(pool) < max(2, recipe.learner.batch):
        reasons = ", ".join(f"{reason} {n}" for reason, n in skipped.items()) or "none"
        text = f"{', '.join(listing.urls)} has {len(pool)} samples to train on (skipped: {reasons})"
        raise EmptyCorpusError(f"{text}, and a batch takes {recipe.learner.batch}", fix="a smaller batch, or more data")
    held_out = _held_out(recipe, listing, progress)
    return Data(
        pool, held_out, fields, listing.urls, listing.sha256, listing.candidates_sha256, listing.held_out_sha256,
        dict(skipped), classes, trusted, weights,
    )  # fmt: skip


def _candidates(
    recipe: LearnRecipe, listing: Listing, progress: Progress
) -> tuple[Examples, Tensor | None, dict[str, list[str]], Counter[str]]:
    """The pool, what its samples weigh, their fields, and what was skipped by reason."""
    part: Part = "train" if recipe.holdout else "all"
    parts: list[Examples] = []
    weights: list[Tensor] = []
    fields: dict[str, list[str]] = {name: [] for name in (*recipe.by, *(["data"] if len(listing.urls) > 1 else []))}
    skipped: Counter[str] = Counter()
    budget = recipe.memory
    for url, some, weighs in zip(listing.urls, listing.shards, listing.weights, strict=True):
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
        weights.append(weighs.of(found.uids))
    return Examples.joined(parts), torch.cat(weights) if any(listing.weights) else None, fields, skipped


def _classes(recipe: LearnRecipe, pool: Examples) -> list[str]:
    """The classes of a classifier, in the order of its logits: as it began, whatever today's labels are."""
    if not isinstance(recipe.learner, Classification):
        return []
    begun = checkpoint.latest_facts(open_store(recipe.output, recipe.options))
    if begun is not None and begun.get("identity") == recipe.identity:
        return list(begun["classes"])
    return classes_of(pool.labels, recipe.learner.least)


def _trusted(recipe: LearnRecipe, shards: list[Shard], budget: int, progress: Progress) -> Examples:
    with progress("Reading the reference's data", None) as advance:
        found = gather(stream_of(shards, recipe, "all"), budget=budget, advance=advance)
    url = recipe.reference.train if recipe.reference is not None else None
    if found is None:
        raise UserError(f"{url} does not fit into memory beside the candidates", fix="a larger `memory:`")
    if len(found) < recipe.learner.batch:
        text = f"{url} has {len(found)} samples for the reference, and a batch takes {recipe.learner.batch}"
        raise EmptyCorpusError(text, fix="name more data, or a smaller learner batch")
    return relabelled(found, [split_label(label)[0] for label in found.labels])


def column_losses(recipe: LearnRecipe, column: str, urls: tuple[str, ...], uids: list[str]) -> tuple[Tensor, str]:
    """Minus the score that the snapshots' manifests hold of each sample, float32 `[N]`, and the score's fingerprint.

    Costs no forward pass here.
    """
    found: dict[str, float] = {}
    fingerprints: set[str] = set()
    for url in urls:
        snapshot = snapshot_of(url, recipe.options)
        if snapshot is None:
            text = f"{url} is no snapshot, so it has no score {column}"
            raise UserError(text, fix="curate it first, or give the reference as `weights:`")
        schema = snapshot.reader().schema
        if column not in schema.names:
            text = f"the manifest of {url} has no column {column}"
            raise UserError(text, fix=f"it has: {', '.join(schema.names)}")
        kind = schema.field(column).type
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
            text = f"the column {column} of {url} is {kind}, no number that could stand for a loss"
            raise UserError(text, fix="name the column of a scorer, such as clip_score")
        found.update(_column(snapshot, column))
        fingerprints.add(str(snapshot.document["fingerprints"].get(column, column)))
    missing = [uid for uid in uids if not isfinite(found.get(uid, nan))]
    if missing:
        raise UserError(f"sample {missing[0]} has no score {column}", fix="score the snapshot with that scorer")
    if len(fingerprints) > 1:
        raise UserError(f"{column} is another score in each of {', '.join(urls)}", fix="score them with one model")
    return torch.tensor([-found[uid] for uid in uids], dtype=torch.float32), fingerprints.pop()


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
    places = listing.shards if listing.evaluation is None else (listing.evaluation,)
    whole = not recipe.holdout or (recipe.evaluation is not None and isinstance(recipe.learner, Classification))
    part: Part = "all" if whole else "held_out"
    shards = [shard for some in places for shard in some]
    with progress("Reading the held-out part", None) as advance:
        found = gather_some(shards, lambda some: stream_of(some, recipe, part), MAX_EVALUATED, advance)
    if len(found) < 2:
        raise UserError("there are too few held-out samples to evaluate on", fix="a larger holdout:")
    return relabelled(found, [split_label(label)[0] for label in found.labels])
