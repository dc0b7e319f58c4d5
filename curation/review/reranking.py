"""Rank the items that are left again, by classifiers that were fine-tuned on the answers.

One ranking: the classifiers of folds that a queue or a command names are fine-tuned on the labels of the answered items
(`fold_tuning`: none trains on a picture that it judges), they judge the pictures of all other items, and the priority
of `doubtful_labels` follows from their distributions by the filter's own SQL. The order (`orders`) has

    answered items, by number      they stay answered, whatever comes
    items with labels but no class ahead, by number      one more answer settles them
    the others, by priority, highest first, ties by uid
    items without a priority, by number      no label, an unknown class, or a picture that can't be decoded

and depends on the queue, its answers, the classifiers and the settings here alone; those are hashed as `made_of`.
Without an answer it is the order of the build. Source: Active label cleaning (2109.00574), section 3: the model is
updated with the labels that were corrected.
Cost: all answers and all pictures of the queue are read once; one image pass an item and run, and the fine-tuning. The
pixels of answered items are held, of at most `MOST_TRAINED` of them, and those of 4 others for each (12 KB at 64 px).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from curation.core import distributions
from curation.core.digest import digest
from curation.core.errors import ImageError, ReasonError, UserError
from curation.core.holdout import content_of
from curation.core.parallel import map_ordered
from curation.core.progress import Tick
from curation.filters import DoubtfulLabels
from curation.models.weights import Weights
from curation.review.documents import PosteriorPriority
from curation.review.orders import ORDER_SCHEMA, Order, create_order, newest_order
from curation.review.samples import SOURCE, picture_of, read_sample
from curation.review.status import states
from curation.scorers.label_values import label_distributions
from curation.shards import images
from curation.shards.images import Pixels
from curation.shards.sample_reader import SampleReader
from curation.storage.store import open_store
from curation.storage.tables import connect

if TYPE_CHECKING:
    import torch

    from curation.models.fold_classifiers import FoldClassifiers
    from curation.review.fold_tuning import Pictures
    from curation.review.queue import Queue

Array = np.ndarray[Any, Any]

MOST_TRAINED = 20_000  # answered pictures that classifiers are fine-tuned on: 1.2 GB at 64 px with those beside them
BATCH = 256  # pictures that are judged at once
THREADS = 8  # samples read and decoded at once
NEXT = 100  # items of which a report counts the changed ones


@dataclass(frozen=True)
class Ranker:
    """What ranks a queue: a priority, and a file of classifiers of folds for the architecture `model`."""

    priority: PosteriorPriority
    model: str
    weights: Weights
    device: torch.device


class _Answered(NamedTuple):
    """The state of a queue: answered items with their labels, started items, and the number of answers in effect."""

    labels: dict[int, str]
    started: list[int]
    answers: int


def ranker_of(
    queue: Queue, device: torch.device, *, weights: Weights | None = None, priority: PosteriorPriority | None = None
) -> Ranker:
    """Return what ranks a queue: as its document says, or as named here.

    Raises `UserError` if neither names classifiers, and `WeightsError` for a file of another kind.
    """
    from curation.models.fold_classifiers import read_fold_rule
    from curation.models.weight_shapes import header_of

    pin = queue.document.reranking
    if weights is None and pin is not None:
        return Ranker(priority or pin.priority, pin.model, Weights(pin.weights, pin.sha256), device)
    if weights is None:
        fix = "name them with --weights and --sha256, or build the queue with --every"
        raise UserError(f"{queue.store.url} names no classifiers that could rank it again", fix=fix)
    metadata = header_of(weights, queue.store.options).metadata
    model = metadata.get("model", "")
    read_fold_rule(metadata, model, weights.url)
    return Ranker(priority or (pin.priority if pin else "active"), model, weights, device)


def rank_again(queue: Queue, ranker: Ranker, tick: Tick = lambda n: None) -> Order:
    """Rank the items that are left by the answers so far; store the order, and return it.

    Returns the newest order if it is made of the same. Raises `UserError` for classifiers without the queue's classes.
    """
    from curation.models.fold_classifiers import shared_fold_classifiers
    from curation.review.fold_tuning import REPLAYED, fine_tuned, settings

    base = shared_fold_classifiers(ranker.model, ranker.weights, ranker.device, queue.store.options)
    if not set(base.classes) & set(queue.document.classes):
        fix = "name classifiers that were trained on the queue's labels"
        raise UserError(f"{ranker.weights.url} knows none of the queue's classes", fix=fix)
    found = _answered(queue)
    made_of = digest({
        "queue": queue.sha256, "weights": ranker.weights.sha256, "priority": ranker.priority, "tuning": settings(),
        "most": MOST_TRAINED, "answered": sorted(found.labels.items()), "started": found.started,
    })  # fmt: skip
    before = newest_order(queue)
    if before is not None and before.document.made_of == made_of:
        return before
    index = {name: number for number, name in enumerate(base.classes)}
    settled = set(found.labels) | set(found.started)
    others = [item for item in range(queue.document.items.rows) if item not in settled]
    with _Pictures(queue, base) as pictures:
        uids = queue.items.column("uid").to_pylist()  # each a hash: the first ones are a random choice
        taught = sorted((item for item, label in found.labels.items() if label in index), key=lambda item: uids[item])
        shown = list(pictures.read(taught[:MOST_TRAINED], tick))
        tuned = base
        if shown:
            targets = np.array([index[found.labels[one.item]] for one in shown], np.int64)
            some = sorted(others, key=lambda item: uids[item])[: REPLAYED * len(shown)]
            replayed = list(pictures.read(some, lambda n: None))
            tuned = fine_tuned(base, _stacked(base, shown), targets, _stacked(base, replayed))
        priorities = _priorities(queue, tuned, ranker.priority, pictures.read(others, tick))
    table = _table(queue.document.items.rows, found, priorities)
    items = table.column("item").to_numpy()
    settled_rows = len(found.labels)
    return create_order(
        queue,
        {
            "made_of": made_of, "answers": found.answers, "settled": settled_rows, "trained": len(shown),
            "priority": ranker.priority, "weights_sha256": ranker.weights.sha256,
            "change": _change(before, items[settled_rows:]),
        },
        table,
    )  # fmt: skip


def _stacked(base: FoldClassifiers, pictures: Sequence[_Picture]) -> Pictures:
    """Return pictures as one array."""
    from curation.review.fold_tuning import Pictures

    size = base.preprocess.size
    pixels = np.stack([one.pixels for one in pictures]) if pictures else np.zeros((0, size, size, 3), np.uint8)
    return Pictures(pixels, [one.content for one in pictures])


def change_lines(order: Order) -> Iterator[str]:
    """Yield lines on what an order changed."""
    document, change = order.document, order.document.change
    yield f"order {document.number}: from {document.answers:,} answers, {document.trained:,} pictures trained on"
    yield (
        f"order {document.number}: {change.entered:,} of the next {change.next:,} items are others than before; "
        f"rank correlation {change.correlation:.3f} over {change.left:,} items left"
    )


def _answered(queue: Queue) -> _Answered:
    labels: dict[int, str] = {}
    started, answers = [], 0
    for state in states(queue):
        answers += state.votes.spent
        if state.winner is not None:
            labels[state.item] = state.winner
        elif state.votes.labels:
            started.append(state.item)
    return _Answered(labels, started, answers)


class _Picture(NamedTuple):
    """An item's picture as the classifiers see it, and its content hash."""

    item: int
    pixels: Pixels
    content: str


class _Pictures:
    """Reads the pictures of items by range, in the order of their places in the shards."""

    def __init__(self, queue: Queue, base: FoldClassifiers) -> None:
        self._queue, self._view, self._limits = queue, base.preprocess, queue.document.decoding
        self._reader = SampleReader(open_store(queue.document.corpus, queue.store.options))
        self._places = queue.items.select(SOURCE)

    def __enter__(self) -> _Pictures:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def read(self, items: Sequence[int], tick: Tick) -> Iterator[_Picture]:
        """Yield the pictures of some items, except those that can't be read or decoded."""
        some = self._places.take(pa.array(items, pa.int64())).append_column("item", pa.array(items, pa.int32()))
        some = some.sort_by([("source_key", "ascending"), ("source_offset", "ascending")])
        rows = (row for batch in some.to_batches(max_chunksize=1000) for row in batch.to_pylist())
        for picture in map_ordered(self._one, rows, THREADS):
            tick(1)
            if picture is not None:
                yield picture

    def _one(self, row: dict[str, Any]) -> _Picture | None:
        try:
            data = picture_of(read_sample(self._reader, row))
            pixels = images.decode(data, self._limits, self._view.size, self._view.mode)
        except (ReasonError, ImageError):
            return None
        return _Picture(row["item"], pixels, content_of(data))


def _priorities(
    queue: Queue, folds: FoldClassifiers, priority: PosteriorPriority, pictures: Iterator[_Picture]
) -> list[tuple[int, float]]:
    """Return items with their priorities, highest first, ties by uid; those that have one."""
    if priority == "disagreement" and folds.rule.runs < 2:
        fix = "train with: curate proxy train --objective classes --folds 5 --runs 3"
        raise UserError("the classifiers have 1 run, and a disagreement needs at least 2", fix=fix)
    parts = [_figures(queue, folds, some) for some in iter(lambda: list(islice(pictures, BATCH)), [])]
    if not parts:
        return []
    with tempfile.TemporaryDirectory() as spill:
        db = connect(spill=Path(spill))
        rows = pa.concat_tables(parts)
        db.register("rows", rows)
        db.execute("CREATE VIEW alive AS SELECT * FROM rows")
        ranking = DoubtfulLabels(by=priority, count=1)
        ranking.prepare(db)
        found: list[tuple[int, float]] = db.sql(
            f"SELECT id, priority::FLOAT FROM ({ranking.priorities()}) ORDER BY priority DESC, uid"
        ).fetchall()
        db.close()
    return found


def _figures(queue: Queue, folds: FoldClassifiers, pictures: list[_Picture]) -> pa.Table:
    """Return the columns that priorities are computed from, as scorers give them, of the items with a usable label."""
    numbers = [picture.item for picture in pictures]
    rows = queue.items.select(["uid", "label_json"]).take(pa.array(numbers, pa.int64())).to_pylist()
    labels, without = label_distributions([json.loads(row["label_json"] or "null") for row in rows], folds.classes)
    runs = folds.runs(np.stack([picture.pixels for picture in pictures]), [picture.content for picture in pictures])
    mean = runs.mean(axis=0)
    figures = {
        "label_error": distributions.cross_entropy(labels, mean),
        "label_margin": distributions.margin(labels, mean),
        "label_ambiguity": distributions.entropy(mean),
        "label_disagreement": distributions.mutual_information(runs),
    }
    good = pa.array([row not in without for row in range(len(rows))])
    columns = {name: pa.array(values.astype(np.float32)) for name, values in figures.items()}
    uids = pa.array([row["uid"] for row in rows], pa.string())
    return pa.table({"id": pa.array(numbers, pa.int64()), "uid": uids, **columns}).filter(good)


def _table(rows: int, found: _Answered, priorities: list[tuple[int, float]]) -> pa.Table:
    """Return the table of an order (`ORDER_SCHEMA`)."""
    head = [*sorted(found.labels), *found.started]
    ranked = [item for item, _ in priorities]
    rest = sorted(set(range(rows)) - set(head) - set(ranked))
    numbers = [None] * len(head) + [priority for _, priority in priorities] + [None] * len(rest)
    items = pa.array([*head, *ranked, *rest], pa.int32())
    return pa.table([items, pa.array(numbers, pa.float32())], schema=ORDER_SCHEMA)


def _change(before: Order | None, left: Array) -> dict[str, Any]:
    """Return what changed among the items left, now in this order: see `OrderChange`."""
    count = len(left)
    if count < 2:
        return {"left": count, "correlation": 0.0, "next": 0, "entered": 0}
    places = np.arange(int(left.max()) + 1)
    if before is not None:
        places = np.empty(len(before.items), np.int64)
        places[before.items] = np.arange(len(before.items))
    ranks = np.empty(count, np.int64)  # of the items left, in the order before: 0 to count - 1
    earlier = np.argsort(places[left], kind="stable")
    ranks[earlier] = np.arange(count)
    gap = ranks - np.arange(count)
    correlation = 1 - 6 * float((gap.astype(np.float64) ** 2).sum()) / (count * (count**2 - 1.0))
    following = min(NEXT, count)
    return {
        "left": count, "correlation": round(correlation, 6), "next": following,
        "entered": int((ranks[:following] >= following).sum()),
    }  # fmt: skip
