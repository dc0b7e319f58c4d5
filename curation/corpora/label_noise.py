"""Wrong labels, planted in a labelled corpus: for demos, benches and tests of label cleaning, where the truth is known.

Classes are mixed up that have similar captions, as people do. With t_i, the counts of words in the captions of class i,
the probability that a sample of class i is labelled j is

    C[i, j] = share s(i, j) / sum_{k != i} s(i, k)  for j != i,   C[i, i] = 1 - share
    s(i, j) = <t_i, t_j> / (|t_i| |t_j|)

A class whose captions share no word with the others is mixed up with each equally often. The share is exact: the
round(share N) samples with the smallest hashes of seed and key get a wrong label, drawn by another hash from their row
of C without its diagonal. So the labels are a function of the samples, the share and the seed.
Cost: the corpus is read twice and written once; 0.3 KB of memory a sample. 2,000 samples take 1 s.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from curation.core.errors import ImageError, UserError
from curation.core.words import fold, words
from curation.corpora.relabelled_shards import corpus_samples, put_shard, with_label
from curation.shards import contents
from curation.shards.tar_samples import TarSample
from curation.shards.tar_writer import TarWriter
from curation.storage.parquet import to_parquet
from curation.storage.store import Store

TRUTH = "truth.parquet"  # beside the shards, written last: uid, label (the true one), given
Array = np.ndarray[Any, np.dtype[np.float64]]


class Planted(NamedTuple):
    """A corpus with wrong labels. `changed`: how many are wrong. `confusion`: C, [K, K], a row a true class."""

    samples: int
    changed: int
    classes: list[str]
    confusion: Array


def plant_wrong_labels(
    source: Store, target: Store, *, label: str, share: float, seed: int = 0, limit: int | None = None
) -> Planted:  # fmt: skip
    """Copy the labelled samples of a corpus, or the first `limit` of them, with wrong labels in the field `label`.

    label: the field of the json with the true labels, which stays. The table `TRUTH` has uid, label (true) and given.
    Pictures, captions and keys are those of the source. Raises `UserError` for less than two classes.
    """
    found = [(sample.key or "", label_, caption) for _, sample, label_, caption in _labelled(source, label, limit)]
    keys, truth, captions = ([row[place] for row in found] for place in range(3))
    classes = sorted(set(truth))
    if len(classes) < 2:
        fix = "name the field of the json that holds the labels"
        raise UserError(f"{source.url} has {len(classes)} different labels in `{label}`", fix=fix)
    confusion = caption_confusion(truth, captions, classes, share)
    given = wrong_labels(keys, truth, classes, confusion, share, seed)
    uids: list[str] = []
    shard, file, writer = "", io.BytesIO(), None
    for number, (key, sample, _, _) in enumerate(_labelled(source, label, limit)):
        if key != shard:
            uids += _put(target, shard, file, writer)
            shard, file = key, io.BytesIO()
            writer = TarWriter(file)
        assert writer is not None
        for part in sample.parts:
            data = with_label(part.data, given[number]) if part.extension == "json" else part.data
            writer.add(f"{sample.key}.{part.extension}", data)
    uids += _put(target, shard, file, writer)
    columns = {"uid": uids, "label": truth, "given": given}
    target.put(TRUTH, to_parquet(pa.table({name: pa.array(column, pa.string()) for name, column in columns.items()})))
    changed = sum(before != after for before, after in zip(truth, given, strict=True))
    return Planted(len(truth), changed, classes, confusion)


def caption_confusion(labels: Sequence[str], captions: Sequence[str], classes: Sequence[str], share: float) -> Array:
    """Return C, the confusion matrix of classes by the similarity of their captions; rows sum to 1."""
    if not 0 <= share < 1:
        raise ValueError(f"share is {share}: it is the share of wrong labels, at least 0 and less than 1")
    counts: dict[str, Counter[str]] = {name: Counter() for name in classes}
    for label, caption in zip(labels, captions, strict=True):
        counts[label].update(words(fold(caption)))
    similar = np.array([[_cosine(counts[one], counts[other]) for other in classes] for one in classes])
    np.fill_diagonal(similar, 0.0)
    similar[similar.sum(axis=1) == 0] = 1.0
    np.fill_diagonal(similar, 0.0)
    found: Array = share * similar / similar.sum(axis=1, keepdims=True) + (1 - share) * np.eye(len(classes))
    return found


def wrong_labels(
    keys: Sequence[str], labels: Sequence[str], classes: Sequence[str], confusion: Array, share: float, seed: int
) -> list[str]:
    """Return the labels, round(share N) of which are wrong, drawn from the rows of a confusion matrix."""
    wanted = round(share * len(keys))
    chosen = sorted(range(len(keys)), key=lambda row: _hash(seed, "chosen", keys[row]))[:wanted]
    index = {name: number for number, name in enumerate(classes)}
    found = list(labels)
    for row in chosen:
        weights = confusion[index[labels[row]]].copy()
        weights[index[labels[row]]] = 0.0
        cumulated = np.cumsum(weights)
        place = np.searchsorted(cumulated, _hash(seed, "drawn", keys[row]) * cumulated[-1], side="right")
        found[row] = classes[int(place)]
    return found


def confusion_table(classes: Sequence[str], confusion: Array) -> pa.Table:
    """Return a confusion matrix as the table that simulated annotators read: label, and a column for each class."""
    columns = {name: pa.array(confusion[:, place]) for place, name in enumerate(classes)}
    return pa.table({"label": pa.array(classes, pa.string()), **columns})


def _labelled(source: Store, label: str, limit: int | None) -> Iterator[tuple[str, TarSample, str, str]]:
    """Yield shard, sample, label and caption of the samples with a label, at most `limit`."""
    count = 0
    for key, sample in corpus_samples(source):
        if limit is not None and count >= limit:
            return
        text = _label_and_caption({part.extension: part.data for part in sample.parts}, label)
        if text is not None and sample.key:
            count += 1
            yield key, sample, *text


def _label_and_caption(parts: Mapping[str, bytes], label: str) -> tuple[str, str] | None:
    try:
        fields = contents.metadata(parts["json"])
        value = fields.get(label)
        return (value, contents.caption(parts, fields)) if isinstance(value, str) and value else None
    except (ImageError, KeyError):
        return None


def _put(target: Store, key: str, file: io.BytesIO, writer: TarWriter | None) -> list[str]:
    """Store a shard, and return the uids of its samples."""
    if writer is None:
        return []
    writer.close()
    return list(put_shard(target, key, file.getvalue()).values())


def _cosine(one: Counter[str], other: Counter[str]) -> float:
    product = sum(count * other[word] for word, count in one.items())
    sizes = [sum(count * count for count in counts.values()) for counts in (one, other)]
    return float(product / np.sqrt(float(sizes[0]) * sizes[1])) if product else 0.0


def _hash(seed: int, what: str, key: str) -> float:
    """Return a number in [0, 1) from seed, purpose and key."""
    return (int.from_bytes(sha256(f"{seed}\0{what}\0{key}".encode()).digest()[:8], "big") >> 11) / (1 << 53)
