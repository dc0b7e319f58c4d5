"""Evaluations of a snapshot: results of models trained on it, on its pool, and on random parts of the pool.

    <root>/evaluations/<000042>-<identity>.json   create-only; the first of equal ones wins

Like a snapshot, an evaluation never changes and garbage collection keeps it. An *arm* is a set on which models of an
evaluation are trained; it has results by seed. Means and differences have 95 % intervals over seeds
(`curation.core.intervals`): they cover initial weights, the order of samples and the draw of a random part, and not the
choice of the held-out set. The differences of one evaluation (metrics x arms), and of one comparison of two snapshots
(metrics x protocols), are corrected together for multiple comparisons. A document records the correction in
`intervals`; a document of an earlier version has none, and its intervals are computed again when it is printed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby, product
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from curation.core.digest import canonical
from curation.core.errors import ImageError, LedgerError, NotFoundError, TarError
from curation.core.holdout import content_of, group_of_name, is_held_out
from curation.core.intervals import CORRECTION, LEVEL, difference, estimate
from curation.core.parallel import map_ordered
from curation.core.types import uid
from curation.dataset.random_subset import USABLE, source_store
from curation.ledger.documents import read_json
from curation.ledger.documents.learning import Evaluation
from curation.shards.contents import metadata, parse
from curation.shards.sample_reader import SampleReader
from curation.shards.tar_samples import TarSample, read_samples
from curation.storage.store import Store

if TYPE_CHECKING:
    from curation.dataset.loader import ListedShard
    from curation.dataset.snapshot import Snapshot

METRICS = ("recall@1", "recall@5", "zero_shot")
CURATED, RAW, RANDOM = ARMS = ("curated", "raw", "random")

REBUILD_FIX = "delete it and run `curate evaluate` again: cached models are not trained again"

Document = dict[str, Any]
Figures = Mapping[int, Mapping[str, float]]  # seed -> metric -> value
Key = TypeVar("Key", str, bytes)  # of what is compared: an arm, a protocol


def figures(found: Mapping[str, Any]) -> dict[str, float]:
    """Extract the `METRICS` from a result of `retrieval.evaluate`, without those that it does not have."""
    retrieval = found.get("retrieval", {})
    values = {
        f"recall@{k}": sum(retrieval[f"{way}_recall@{k}"]["rate"] for way in ("i2t", "t2i")) / 2
        for k in (1, 5)
        if retrieval
    }
    return values | ({"zero_shot": found["zero_shot"]["rate"]} if "zero_shot" in found else {})


def means(runs: Figures) -> dict[str, dict[str, Any]]:
    """Mean over the seeds of each metric, and half the width of its interval."""
    return {name: estimate(list(values.values()))._asdict() for name, values in _by_metric(runs).items()}


def minus(runs: Mapping[str, Figures]) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Compute the curated arm minus each other arm by metric, and the correction of the intervals (see `judge`)."""
    return judge({arm: (runs[CURATED], theirs) for arm, theirs in runs.items() if arm != CURATED})


def judge(pairs: Mapping[Key, tuple[Figures, Figures]]) -> tuple[dict[Key, dict[str, Any]], dict[str, Any]]:
    """Compute the first minus the second arm of each pair by metric, with interval and verdict in a word.

    All differences are corrected together for multiple comparisons. Returns them by key and metric, and the correction:
    its name, the level, and the number of comparisons.
    """
    metrics = {key: {name: (ours, theirs) for name, ours, theirs in _shared(*pair)} for key, pair in pairs.items()}
    comparisons = sum(map(len, metrics.values()))

    def as_json(ours: Mapping[int, float], theirs: Mapping[int, float]) -> dict[str, Any]:
        one = difference(ours, theirs, comparisons)
        return {**one._asdict(), "word": one.word}

    found = {key: {name: as_json(*both) for name, both in by_name.items()} for key, by_name in metrics.items()}
    return found, {"correction": CORRECTION, "level": LEVEL, "comparisons": comparisons}


def _shared(ours: Figures, theirs: Figures) -> Iterator[tuple[str, dict[int, float], dict[int, float]]]:
    """Yield (metric, values by seed of one, of the other) for the metrics that both have."""
    left, right = _by_metric(ours), _by_metric(theirs)
    yield from ((name, left[name], right[name]) for name in left if name in right)


def by_seed(rows: Iterable[Mapping[str, Any]]) -> Figures:
    """Results of an arm's models by seed and metric, from the rows of their documents."""
    return {row["seed"]: {name: row[name] for name in METRICS if name in row} for row in rows}


def compared(left: Sequence[Document], right: Sequence[Document]) -> list[dict[str, Any]]:
    """Compare the evaluations of two snapshots that have the same protocol: right minus left, one entry a protocol."""
    before, after = _by_protocol(left), _by_protocol(right)
    keys = [key for key in after if key in before]
    sides = [_sides(before[key], after[key]) for key in keys]
    differences, intervals = judge({key: (to, from_) for key, (from_, to) in zip(keys, sides, strict=True)})
    return [
        _compared(before[key], after[key], *both, differences[key]) | {"intervals": intervals}
        for key, both in zip(keys, sides, strict=True)
    ]


def protocol_differences(left: Sequence[Document], right: Sequence[Document]) -> list[str]:
    """Names of the fields in which the two most similar protocols of two snapshots differ.

    Empty when a snapshot has no evaluation, and when both have one with the same protocol.
    """
    if not left or not right or compared(left, right):
        return []
    pairs = product((one["protocol"] for one in left), (one["protocol"] for one in right))
    return min((_differing(one, other) for one, other in pairs), key=len)


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    names = sorted(one.keys() | other.keys())
    found = list[str]()
    for name in names:
        was, is_ = one.get(name), other.get(name)
        if isinstance(was, dict) and isinstance(is_, dict):
            found += _differing(was, is_)
        elif was != is_:
            found.append(name)
    return found


def find(store: Store, number: int, identity: str) -> Document | None:
    """Read the evaluation `identity` of snapshot `number`; None when there is none. Raises `LedgerError` if damaged."""
    try:
        return _read(store, _key(number, identity))
    except NotFoundError:
        return None


def attach(store: Store, number: int, identity: str, document: Document) -> Document:
    """Create an evaluation of snapshot `number`; return the committed one, which is an earlier one if it exists."""
    body = canonical(document)
    if store.create(_key(number, identity), body):
        mine: Document = json.loads(body)  # exactly as a later read returns it, including the order of keys
        return mine
    return _read(store, _key(number, identity))


def attached(snapshot: Snapshot) -> list[Document]:
    """Read all evaluations of a snapshot, ordered by identity. Raises `LedgerError` for a damaged one."""
    begin = _key(snapshot.number, "").removesuffix(".json")
    keys = sorted(item.key for item in snapshot.store.list("evaluations", etags=False) if item.key.startswith(begin))
    return list(map_ordered(partial(_read, snapshot.store), keys))


def _read(store: Store, key: str) -> Document:
    """Read the evaluation at `key`. Raises `LedgerError` for a damaged one."""
    number = key.removeprefix("evaluations/").partition("-")[0].lstrip("0")
    fix = f"`curate repair {store.url.removeprefix('file://')}@{number} --apply` moves it aside"
    found = read_json(store, key, Evaluation, fix)
    if CURATED not in found["arms"]:
        raise LedgerError(f"{store.location(key)} is damaged: field `arms.{CURATED}` is missing or invalid", fix=fix)
    return found


def content_hashes(shards: Iterable[ListedShard], uids: Collection[str]) -> pa.Array:
    """Compute the content hashes of the images of the samples `uids`, equal to those in the index and the manifest.

    Reads shards until all samples are found.
    """
    left, found = set(uids), list[str]()
    for shard in shards:
        if not left:
            break
        for name, content in _contents(shard):
            if name in left:
                left.remove(name)
                found.append(content)
    return pa.array(found, pa.string())


def overlap(snapshot: Snapshot, held_out: pa.Array) -> dict[str, int]:
    """Count the images with the content hashes `held_out` among the kept samples (`kept`) and among all (`pool`).

    Cost: one pass over two columns of the manifest.
    """
    found: dict[str, set[str]] = {"kept": set(), "pool": set()}
    for batch in snapshot.reader(["content_hash", "decision"]):
        same = batch.filter(pc.is_in(batch.column("content_hash"), value_set=held_out))
        found["pool"].update(same.column("content_hash").to_pylist())
        kept = same.filter(pc.equal(same.column("decision"), "kept"))
        found["kept"].update(kept.column("content_hash").to_pylist())
    return {name: len(hashes) for name, hashes in found.items()}


def leaks(snapshot: Snapshot, held_out: pa.Array, share: float, *, pool: bool) -> dict[str, int]:
    """Count the images with the content hashes `held_out` that models are trained on although names are held out.

    Such an image has the same bytes as a held-out one under another name, or under none. `share`: the held-out share of
    names. Counts the kept samples (`kept`) and, with `pool`, those of the pool. Reads the samples with these bytes from
    the shards that models read, image by image until one sample of the image is a leak.
    """
    hashes = {"hashes": held_out.unique().drop_null().to_pylist()}
    found = {}
    for name, (places, columns) in ({"kept": _KEPT} | ({"pool": _POOL} if pool else {})).items():
        query = f"""SELECT * FROM ({places}) WHERE content_hash IN (SELECT unnest($hashes::VARCHAR[]))
            ORDER BY content_hash, uid"""
        rows = snapshot.manifest.query(query, columns, hashes).to_pylist()
        store = snapshot.store if name == "kept" else source_store(snapshot)
        same = [list(some) for _, some in groupby(rows, itemgetter("content_hash"))]
        same.sort(key=lambda some: str(some[0]["key"]))  # so that samples of one shard are read together
        with SampleReader(store) as reader:
            found[name] = sum(map_ordered(partial(_any_trained_on, reader, share), same))
    return found


_KEPT = (
    """SELECT content_hash, uid, output_shard AS key, '' AS etag, output_offset AS start,
    lead(output_offset) OVER (PARTITION BY output_shard ORDER BY output_offset) - output_offset AS length
    FROM manifest WHERE decision = 'kept'""",
    ["content_hash", "uid", "decision", "output_shard", "output_offset"],
)
_POOL = (
    f"""SELECT content_hash, uid, source_key AS key, source_etag AS etag, source_offset AS start,
    source_length AS length FROM manifest WHERE {USABLE}""",
    ["content_hash", "uid", "decision", "reason", "source_key", "source_etag", "source_offset", "source_length"],
)


def _any_trained_on(reader: SampleReader, share: float, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether at least one of the samples at these positions is not held out."""
    for row in rows:
        length = row["length"] or reader.store.size(row["key"]) - row["start"]  # last sample of an output shard
        sample = reader.read(row["key"], row["etag"], row["start"], length)
        if not _is_held_out(sample, row["content_hash"], share):
            return True
    return False


def _contents(shard: ListedShard) -> Iterator[tuple[str, str]]:
    """Yield the uid of each sample of a shard, as `loader.SampleStream` returns it, and the hash of its image."""
    from curation.dataset.loader import uid_of

    store, ref = shard.store, shard.ref
    try:
        for sample in read_samples(store.blocks(ref.key, ref.size, ref.etag or None), ref.size):
            if sample.reason is not None:
                continue
            try:
                image, _, found = parse(sample, shard.caption)
            except ImageError:
                continue  # such a sample is never evaluated
            yield uid_of(found) or uid(ref.key, ref.etag, sample.start), content_of(image)
    except TarError:
        return


def _is_held_out(sample: TarSample, content: str, share: float) -> bool:
    """Whether `loader.SampleStream` holds a sample out of training."""
    found = next((metadata(part.data) for part in sample.parts if part.extension == "json"), {})
    return is_held_out(group_of_name(str(found.get("name") or "")) or content, share)


def _by_metric(runs: Figures) -> dict[str, dict[int, float]]:
    names = [name for name in METRICS if all(name in values for values in runs.values())]
    return {name: {seed: values[name] for seed, values in sorted(runs.items())} for name in names}


def _by_protocol(documents: Sequence[Document]) -> dict[bytes, list[Document]]:
    found: dict[bytes, list[Document]] = {}
    for document in documents:
        found.setdefault(canonical(document["protocol"]), []).append(document)
    return found


def _sides(left: Sequence[Document], right: Sequence[Document]) -> tuple[Figures, Figures]:
    """Results of the seeds that both have, or of all seeds when fewer than two are in both, as for `difference`."""
    before, after = _curated(left), _curated(right)
    if len(both := before.keys() & after.keys()) > 1:
        before, after = ({seed: runs[seed] for seed in sorted(both)} for runs in (before, after))
    return before, after


def _compared(
    left: Sequence[Document], right: Sequence[Document], before: Figures, after: Figures, difference: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "protocol": right[0]["protocol"],
        "held_out": right[0]["held_out"],
        "overlap": {"from": left[0]["overlap"], "to": right[0]["overlap"]},
        "seeds": {"from": sorted(before), "to": sorted(after)},
        "from": means(before),
        "to": means(after),
        "difference": difference,
    }


def _curated(documents: Sequence[Document]) -> Figures:
    """Results of the curated arm over all evaluations; a seed that is in several has the same run in each."""
    return by_seed(row for document in documents for row in document["arms"][CURATED]["runs"])


def _key(number: int, identity: str) -> str:
    return f"evaluations/{number:06d}-{identity}.json"
