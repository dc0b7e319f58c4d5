"""What a run of online selection reads: candidates, with a reference's scores of them, and held-out samples.

Candidates are read shard by shard, by whoever draws from them (`curation.learning.blocks`); of the manifests of
snapshots, the part that tells of that shard.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import lru_cache
from math import isfinite, nan
from typing import Any

import numpy as np
import torch

from curation.core.digest import digest
from curation.core.errors import EmptyCorpusError, UserError
from curation.core.holdout import HOLDOUT_RULE
from curation.dataset.examples import gather, gather_some
from curation.dataset.loader import ListedShard, Part, SampleStream, split_label
from curation.dataset.open_shards import open_shards
from curation.dataset.sample_weights import ALIKE, SampleWeights
from curation.dataset.snapshot import Snapshot
from curation.learning.columns import check_column, scorer_in, sign_of
from curation.learning.overlap_check import RunData, expect_apart, expect_unseen
from curation.learning.seen import BY_NAME, BY_PICTURE, HeldOutPart, HoldoutSplit, expect_not_seen, models_of
from curation.learning.sources import pinned, snapshot_of, weights_of
from curation.ledger.ledger import Ledger
from curation.models import preprocess_for
from curation.models.batches import Examples
from curation.models.retrieval import EVALUATION_VERSION, MAX_EVALUATED
from curation.recipes.learning_recipe import LearnRecipe
from curation.selection import checkpoint
from curation.selection.policy import Policy
from curation.selection.pool import Block
from curation.storage.store import StoreOptions, open_store

_OWN = "output: a folder of its own"

Progress = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True)
class PinnedInput:
    """What there is to read, pinned before anything is read."""

    urls: tuple[str, ...]  # of a snapshot with its number
    shards: tuple[list[ListedShard], ...]  # of each URL
    weights: tuple[SampleWeights, ...]  # of each URL
    trusted: list[ListedShard] | None = None  # for a reference that learns beside the learner
    evaluation: list[ListedShard] | None = None  # that is held out, where it isn't a part of the candidates' shards
    policy: str | None = None  # of a replay: the sha256 of what is replayed
    holdout: bool = False  # whether a part of the shards is held out

    @property
    def sha256(self) -> str:
        """Of what decides the weights, by content, so that a copied corpus has the same."""
        told = _told(self.shards if self.trusted is None else (*self.shards, self.trusted))
        told += [[some.sha256 for some in self.weights]] if any(self.weights) else []
        told += [{"holdout_rule": HOLDOUT_RULE}] if self.holdout else []
        return digest([*told, self.policy] if self.policy is not None else told)

    @property
    def candidates_sha256(self) -> str:
        """Of the shards that candidates come from, by content."""
        return digest(_told(self.shards))

    @property
    def held_out_sha256(self) -> str:
        """Of the shards that held-out samples come from, by content, and of how samples are chosen and judged."""
        told = _told(self.shards if self.evaluation is None else (self.evaluation,))
        return digest([*told, MAX_EVALUATED, EVALUATION_VERSION])


def _told(parts: Sequence[Sequence[ListedShard]]) -> list[Any]:
    return [[list(shard.ref.content) for shard in some] for some in parts]


@dataclass(frozen=True)
class Candidates:
    """What is drawn from, and how a shard of it is read. It travels to whoever reads."""

    recipe: LearnRecipe
    urls: tuple[str, ...]
    shards: tuple[tuple[int, ListedShard], ...]  # each with the place of its URL
    means: tuple[float | None, ...]  # of each URL's weights; None where all are alike
    classes: tuple[str, ...]  # of a classifier; of another learner none
    sha256: str  # of the shards, by content

    def read(self, ordinal: int, advance: Callable[[int], None] = lambda samples: None) -> tuple[Block, Counter[str]]:
        """What can be used of one shard, and how many samples can't, by reason. A classifier's samples are those whose
        label is one of the classes."""
        return self.read_shard(*self.shards[ordinal], advance)

    def read_shard(
        self, place: int, shard: ListedShard, advance: Callable[[int], None] = lambda samples: None
    ) -> tuple[Block, Counter[str]]:
        """The same, of a shard of the URL at this place."""
        recipe = self.recipe
        stream = stream_of([shard], recipe, "train" if recipe.holdout else "all")
        examples = gather(stream, budget=recipe.memory, advance=advance)
        if examples is None:
            text = f"{shard.store.location(shard.ref.key)} does not fit into {recipe.memory:,} bytes of memory at"
            raise UserError(f"{text} {stream.size} px", fix="a larger `memory:`, or smaller shards")
        skipped, told = stream.skipped, [split_label(label) for label in examples.labels]
        examples = relabelled(examples, [values[0] for values in told])
        rows = recipe.learner.usable_rows(examples, self.classes)
        if len(rows) < len(examples):
            skipped["no_class"] += len(examples) - len(rows)
            examples, told = examples.take(list(rows)), [told[row] for row in rows]
        targets = recipe.learner.targets(examples, self.classes)
        url = self.urls[place]
        fields = {name: [values[1 + number] for values in told] for number, name in enumerate(recipe.by)}
        column = recipe.reference.column if recipe.reference is not None and self.looked_at("reference") else None
        mean, missing = self.means[place], [name for name, values in fields.items() if not any(values)]
        wanted = [*missing, *([column] if column else []), *(["weight"] if mean else [])]
        known = self._from_manifest(url, shard, wanted)
        uids = examples.uids
        fields |= {name: [str(known[name].get(uid, "")) for uid in uids] for name in missing if name in known}
        if len(self.urls) > 1:
            fields["data"] = [url] * len(uids)
        weights, losses = None, None
        if mean:
            each = [known["weight"].get(uid, 1.0) for uid in uids]
            weights = torch.tensor(each, dtype=torch.float64) / mean
        if column:
            without = [uid for uid in uids if not isfinite(known[column].get(uid, nan))]
            if without:
                raise UserError(f"sample {without[0]} has no score {column}", fix="score the snapshot with that scorer")
            sign = sign_of(recipe, column, url)
            losses = torch.tensor([sign * known[column][uid] for uid in uids], dtype=torch.float32)
        return Block(examples.pixels, targets, np.array(uids, "S"), weights, losses, fields), skipped

    def _from_manifest(self, url: str, shard: ListedShard, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Values of manifest columns, by name and uid, of the samples of one output shard: of that part which tells of
        it. Names that the manifest doesn't have are left out, and so are all where the shard is of no snapshot."""
        snapshot = _snapshot_of(url, self.recipe.options, self.sha256) if names else None
        if snapshot is None:
            return {}
        wanted = [name for name in names if name in snapshot.reader().schema.names]
        table = snapshot.part_of(shard.ref.key, ["uid", *wanted])
        uids = table.column("uid").to_pylist()
        columns = {name: zip(uids, table.column(name).to_pylist(), strict=True) for name in wanted}
        return {name: {uid: value for uid, value in column if value is not None} for name, column in columns.items()}

    def names(self) -> list[str]:
        """By which shards are known again in another run: key, size and etag."""
        return [" ".join(map(str, shard.ref)) for _, shard in self.shards]

    def looked_at(self, role: str) -> bool:
        """Whether the selector looks at a role."""
        return role in self.recipe.selection.selector.roles()


@dataclass(frozen=True)
class Data:
    """All that a run reads but the candidates themselves: what every process of it is given."""

    candidates: Candidates
    held_out: Examples
    sha256: str  # of the listing
    held_out_sha256: str
    trusted: Examples | None  # for a reference that learns beside the learner
    unchecked: tuple[str, ...] = ()  # of which models nobody knows whether they have seen what the run is judged on

    @property
    def urls(self) -> tuple[str, ...]:
        return self.candidates.urls

    @property
    def classes(self) -> list[str]:
        return list(self.candidates.classes)


def listed(recipe: LearnRecipe) -> PinnedInput:
    """The shards of each of the recipe's data. Raises `UserError` for an output that is none."""
    urls = tuple(pinned(url, recipe.options) for url in recipe.data)
    train = recipe.reference.train if recipe.reference is not None else None
    trusted = None if train is None else open_shards(pinned(train, recipe.options), recipe.options)
    shards = tuple(open_shards(url, recipe.options) for url in urls)
    out = open_store(recipe.output, recipe.options)
    if Ledger(out).latest():
        raise UserError(f"{recipe.output} holds snapshots", fix=_OWN)
    for url, some in zip(urls, shards, strict=True):
        snapshot = snapshot_of(url, recipe.options)
        if snapshot is not None and out.location("").startswith(snapshot.store.location("")):
            raise UserError(f"{recipe.output} lies within the dataset {url}", fix=_OWN)
        if any(shard.store.location(shard.ref.key).startswith(out.location("")) for shard in some):
            raise UserError(f"{recipe.output} holds shards of {url}", fix=_OWN)
    weights = tuple(weights_of(url, recipe.options) if recipe.weighted else ALIKE for url in urls)
    held_out = recipe.evaluation
    evaluation = None if held_out is None else open_shards(pinned(held_out, recipe.options), recipe.options)
    policy = None if recipe.replay is None else policy_of(recipe.replay, recipe.options).sha256(recipe.learner.steps)
    return PinnedInput(urls, shards, weights, trusted, evaluation, policy, bool(recipe.holdout))


def _expect_reference(recipe: LearnRecipe) -> None:
    """Raise `WeightsError` where the header of the reference's weights does not fit its model."""
    weights = recipe.reference_weights()
    if weights is not None and recipe.reference is not None:
        recipe.learner.check_reference(recipe.reference.model, weights, recipe.options)


def policy_of(run: str, options: StoreOptions) -> Policy:
    """The data policy of a run, for a replay. Raises `UserError` where there is none."""
    return Policy(open_store(f"{run.rstrip('/')}/policy", options))


def read(recipe: LearnRecipe, listing: PinnedInput, progress: Progress) -> Data:
    """Everything but the candidates into memory. A run that goes on keeps the classes that it began with. Raises
    `UserError` for data that overlap, or are what the run is judged on, and `WeightsError` for a reference of another
    architecture, before any sample is read."""
    _expect_reference(recipe)
    if recipe.evaluation is None and not recipe.holdout:
        raise UserError("there is nothing to evaluate on", fix="holdout: 0.05, or evaluation: URL")
    sources = [_source(recipe, url, shards) for url, shards in zip(listing.urls, listing.shards, strict=True)]
    expect_apart(sources)
    if recipe.evaluation is not None and listing.evaluation is not None and _judged_on_all(recipe):
        train = recipe.reference.train if recipe.reference is not None else None
        trusted_too = [] if train is None else [_source(recipe, train, listing.trusted or [])]
        expect_unseen(_source(recipe, recipe.evaluation, listing.evaluation), [*sources, *trusted_too])
    unchecked = _expect_not_seen(recipe, listing, sources)
    classes = _classes(recipe, listing, progress)
    trusted = None if listing.trusted is None else _trusted(recipe, listing.trusted, progress)
    if classes and trusted is not None:
        trusted = trusted.take(list(recipe.learner.usable_rows(trusted, classes)))
        if len(trusted) < recipe.learner.batch:
            text = f"the reference's data has {len(trusted)} samples of these classes, and a batch takes"
            raise EmptyCorpusError(f"{text} {recipe.learner.batch}", fix="name more data, or a smaller learner batch")
    shards = tuple((place, shard) for place, some in enumerate(listing.shards) for shard in some)
    means = tuple(weights.mean if weights else None for weights in listing.weights)
    candidates = Candidates(recipe, listing.urls, shards, means, tuple(classes), listing.candidates_sha256)
    if recipe.reference is not None and recipe.reference.column is not None and candidates.looked_at("reference"):
        check_column(recipe, recipe.reference.column, listing.urls)
    return Data(
        candidates, _held_out(recipe, listing, progress), listing.sha256, listing.held_out_sha256, trusted, unchecked,
    )  # fmt: skip


def _expect_not_seen(recipe: LearnRecipe, listing: PinnedInput, sources: Sequence[RunData]) -> tuple[str, ...]:
    """Raises `UserError` where the reference, or the model behind its column, was trained on what the run is judged on;
    returns a line for each of which nobody knows."""
    if recipe.reference is None or "reference" not in recipe.selection.selector.roles():
        return ()
    weights = recipe.reference_weights()
    models = dict.fromkeys([] if weights is None else [weights])
    for source in sources:
        found = (
            None
            if recipe.reference.column is None or source.snapshot is None
            else (scorer_in(source.snapshot, recipe.reference.column))
        )
        models |= dict.fromkeys(() if found is None else models_of(found[1]))
    if listing.evaluation is not None and recipe.evaluation is not None:
        sources = [_source(recipe, recipe.evaluation, listing.evaluation)]
    split = split_of(recipe)
    judged = HeldOutPart(sources, replace(split, share=0.0) if _judged_on_all(recipe) else split)
    return tuple(expect_not_seen(list(models), judged, recipe.options))


def split_of(recipe: LearnRecipe) -> HoldoutSplit:
    """What a run doesn't train on."""
    return HoldoutSplit(recipe.holdout, recipe.learner.holdout_unit)


def _source(recipe: LearnRecipe, url: str, shards: list[ListedShard]) -> RunData:
    return RunData(url, shards, snapshot_of(url, recipe.options))


def _judged_on_all(recipe: LearnRecipe) -> bool:
    """Whether all of what is held out is looked at, rather than such samples as no run with this holdout trains on."""
    return not recipe.holdout or (recipe.evaluation is not None and recipe.learner.holdout_unit == BY_PICTURE)


def _classes(recipe: LearnRecipe, listing: PinnedInput, progress: Progress) -> list[str]:
    """The classes of a classifier, in the order of its logits: as it began, whatever today's labels are."""
    if recipe.learner.label_field is None:
        return []
    begun = checkpoint.latest_facts(open_store(recipe.output, recipe.options))
    if begun is not None and begun.get("identity") == recipe.identity:
        return list(begun["classes"])
    part: Part = "train" if recipe.holdout else "all"
    stream = stream_of([shard for some in listing.shards for shard in some], recipe, part)
    counts: Counter[str] = Counter()
    with progress("Reading the labels", None) as advance:
        for label in stream.read_labels():
            counts[split_label(label)[0]] += 1
            advance(1)
    return recipe.learner.classes(counts)


def _trusted(recipe: LearnRecipe, shards: list[ListedShard], progress: Progress) -> Examples:
    with progress("Reading the reference's data", None) as advance:
        part: Part = "train" if recipe.holdout else "all"  # what is held out, the reference shall not know either
        found = gather(stream_of(shards, recipe, part), budget=recipe.memory, advance=advance)
    url = recipe.reference.train if recipe.reference is not None else None
    if found is None:
        raise UserError(f"{url} does not fit into {recipe.memory:,} bytes of memory", fix="a larger `memory:`")
    if len(found) < recipe.learner.batch:
        text = f"{url} has {len(found)} samples for the reference, and a batch takes {recipe.learner.batch}"
        raise EmptyCorpusError(text, fix="name more data, or a smaller learner batch")
    return relabelled(found, [split_label(label)[0] for label in found.labels])


@lru_cache(maxsize=8)
def _snapshot_of(url: str, options: StoreOptions, sha256: str) -> Snapshot | None:
    """Of a URL with its number, which is immutable: another one made there in its place has other shards."""
    return snapshot_of(url, options)


def stream_of(shards: list[ListedShard], recipe: LearnRecipe, part: Part) -> SampleStream:
    """Samples as the learner wants them, in their order."""
    view = preprocess_for(recipe.learner.model)
    label = recipe.learner.label_field or "name"
    group = "name" if recipe.learner.holdout_unit == BY_NAME else ""
    return SampleStream(
        shards, size=view.size, mode=view.mode, shuffle=0, part=part, holdout=recipe.holdout, label=(label, *recipe.by),
        group=group,
    )  # fmt: skip


def relabelled(examples: Examples, labels: list[str]) -> Examples:
    """The same samples under other labels."""
    return Examples(examples.pixels, examples.captions, examples.uids, labels)


def _held_out(recipe: LearnRecipe, listing: PinnedInput, progress: Progress) -> Examples:
    places = listing.shards if listing.evaluation is None else (listing.evaluation,)
    part: Part = "all" if _judged_on_all(recipe) else "held_out"
    shards = [shard for some in places for shard in some]
    with progress("Reading the held-out part", None) as advance:
        found, _ = gather_some(shards, lambda some: stream_of(some, recipe, part), MAX_EVALUATED, advance)
    if len(found) < 2:
        text = f"of {recipe.evaluation or ', '.join(listing.urls)}, {len(found)} samples are held out that can be used"
        raise UserError(f"{text}; it takes 2", fix="a larger holdout:, or evaluation: URL, another dataset")
    return relabelled(found, [split_label(label)[0] for label in found.labels])
