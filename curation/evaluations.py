"""Evaluations of a snapshot: how good models became that were trained on it, on its pool, on random parts of the pool.

    <root>/evaluations/<000042>-<identity>.json   create-only; the first of equal ones wins

Like a snapshot, an evaluation is never changed, and nothing sweeps it. An *arm* is what models of an evaluation are
trained on; of each, figures by seed. Means and differences have 95 % intervals over seeds (`curation.intervals`): they
count the chance in initial weights, in the order of samples and in the draw of a random part, not in the held-out set.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import islice
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import ImageError, NotFoundError, TarError
from curation.intervals import difference, estimate
from curation.ledger import canonical
from curation.parallel import map_ordered
from curation.store import Store
from curation.tar import read_samples
from curation.units import parse

if TYPE_CHECKING:
    from curation.loader import Shard
    from curation.snapshot import Snapshot

METRICS = ("recall@1", "recall@5", "zero_shot")
CURATED, RAW, RANDOM = ARMS = ("curated", "raw", "random")

Document = dict[str, Any]
Figures = Mapping[int, Mapping[str, float]]  # seed -> metric -> value


def figures(found: Mapping[str, Any]) -> dict[str, float]:
    """The `METRICS` of what `evaluation.evaluate` found, without those that the samples don't allow."""
    retrieval = found.get("retrieval", {})
    values = {
        f"recall@{k}": sum(retrieval[f"{way}_recall@{k}"]["rate"] for way in ("i2t", "t2i")) / 2
        for k in (1, 5)
        if retrieval
    }
    return values | ({"zero_shot": found["zero_shot"]["rate"]} if "zero_shot" in found else {})


def means(runs: Figures) -> dict[str, dict[str, Any]]:
    """Mean and half an interval of each metric over the seeds."""
    return {name: estimate(list(values.values()))._asdict() for name, values in _by_metric(runs).items()}


def differences(ours: Figures, theirs: Figures) -> dict[str, dict[str, Any]]:
    """Ours minus theirs by metric, with interval, and in a word."""
    left, right = _by_metric(ours), _by_metric(theirs)
    found = {name: difference(left[name], right[name]) for name in left if name in right}
    return {name: {**one._asdict(), "word": one.word} for name, one in found.items()}


def by_seed(rows: Iterable[Mapping[str, Any]]) -> Figures:
    """The figures of an arm's models from their documents."""
    return {row["seed"]: {name: row[name] for name in METRICS if name in row} for row in rows}


def compared(left: Sequence[Document], right: Sequence[Document]) -> list[dict[str, Any]]:
    """Evaluations of two snapshots under the same protocol, side by side: right minus left."""
    before, after = _by_protocol(left), _by_protocol(right)
    return [_compared(before[key], after[key]) for key in after if key in before]


def find(store: Store, number: int, identity: str) -> Document | None:
    """The evaluation that snapshot `number` below this root has under this name."""
    try:
        return json.loads(store.get(_key(number, identity)))  # type: ignore[no-any-return]
    except NotFoundError:
        return None


def attach(store: Store, number: int, identity: str, document: Document) -> Document:
    """Put an evaluation beside its snapshot; returns the one that holds, an earlier one if we came second."""
    if store.create(_key(number, identity), canonical(document)):
        return document
    return json.loads(store.get(_key(number, identity)))  # type: ignore[no-any-return]


def attached(snapshot: Snapshot) -> list[Document]:
    """All evaluations of a snapshot, by name."""
    begin = _key(snapshot.number, "").removesuffix(".json")
    keys = sorted(item.key for item in snapshot.store.list("evaluations", etags=False) if item.key.startswith(begin))
    return [json.loads(data) for data in map_ordered(snapshot.store.get, keys)]


def contents(shards: Iterable[Shard], limit: int) -> pa.Array:
    """The content hashes of the first `limit` pictures in shards, as the index and the manifest have them."""
    return pa.array(islice(_contents(shards), limit), pa.string())


def overlap(snapshot: Snapshot, held_out: pa.Array) -> dict[str, int]:
    """How many of these pictures, byte for byte, are among the kept samples, and among all. One pass of two columns."""
    found: dict[str, set[str]] = {"kept": set(), "pool": set()}
    for batch in snapshot.reader(["content_hash", "decision"]):
        same = batch.filter(pc.is_in(batch.column("content_hash"), value_set=held_out))
        found["pool"].update(same.column("content_hash").to_pylist())
        kept = same.filter(pc.equal(same.column("decision"), "kept"))
        found["kept"].update(kept.column("content_hash").to_pylist())
    return {name: len(hashes) for name, hashes in found.items()}


def _contents(shards: Iterable[Shard]) -> Iterator[str]:
    for store, ref, _ in shards:
        try:
            for sample in read_samples(store.blocks(ref.key, ref.size, ref.etag or None), ref.size):
                try:
                    if sample.reason is None:
                        yield sha256(parse(sample)[0]).hexdigest()[:32]
                except ImageError:
                    continue  # no sample that anything is evaluated on
        except TarError:
            continue


def _by_metric(runs: Figures) -> dict[str, dict[int, float]]:
    names = [name for name in METRICS if all(name in values for values in runs.values())]
    return {name: {seed: values[name] for seed, values in sorted(runs.items())} for name in names}


def _by_protocol(documents: Sequence[Document]) -> dict[bytes, list[Document]]:
    found: dict[bytes, list[Document]] = {}
    for document in documents:
        found.setdefault(canonical(document["protocol"]), []).append(document)
    return found


def _compared(left: Sequence[Document], right: Sequence[Document]) -> dict[str, Any]:
    before, after = _curated(left), _curated(right)
    return {
        "protocol": right[0]["protocol"],
        "held_out": right[0]["held_out"],
        "from": means(before),
        "to": means(after),
        "difference": differences(after, before),
    }


def _curated(documents: Sequence[Document]) -> Figures:
    """The snapshot's own models of all of its evaluations: of a seed that is in several, it is the same run."""
    return by_seed(row for document in documents for row in document["arms"][CURATED]["runs"])


def _key(number: int, identity: str) -> str:
    return f"evaluations/{number:06d}-{identity}.json"
