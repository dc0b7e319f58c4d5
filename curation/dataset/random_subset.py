"""Baselines of a snapshot: its source corpus, whole or as a random subset of a given size.

A random subset is a seed and a bound: it contains the samples whose uid's hash is not above the bound. It needs no list
of members, is the same on every machine, and is read from the source shards. Its size is exact: the bound is the hash
of a member, found in two passes over three columns of the manifest with 65,536 counts in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from curation.core.errors import UserError
from curation.ledger.ledger import Ledger
from curation.storage import tables
from curation.storage.store import open_store

if TYPE_CHECKING:
    from curation.dataset.loader import ListedShard
    from curation.dataset.snapshot import Snapshot
    from curation.storage.store import Store

# SQL condition of the samples that a model could be trained on whatever the filters: readable and decodable ones of the
# source corpus. Of a sample that an edit added, `source_key` is a URL.
USABLE = """((decision <> 'quarantined' OR reason = 'score_not_finite')
    AND NOT regexp_matches(source_key, '^(/|[a-z][a-z0-9+.-]*://)'))"""
_COLUMNS = ("uid", "decision", "reason", "source_key")
_PROGRESS = 1024  # samples between two progress reports
_HEAD = 4  # leading hexadecimal digits by which hashes are counted


class Subset(NamedTuple):
    """Samples whose hash with `seed` is not above `bound` (64 hexadecimal digits)."""

    seed: int
    bound: str

    def holds(self, uid: str) -> bool:
        """Whether the sample with this uid is in the subset."""
        return sha256(f"{self.seed} {uid}".encode()).hexdigest() <= self.bound


def source_store(snapshot: Snapshot) -> Store:
    """Open the store of the shards from which a snapshot was created."""
    plan = Ledger(snapshot.store).open_plan(snapshot.document["plan"])
    return open_store(plan.document["corpus"]["root"], snapshot.store.options)


def source_shards(snapshot: Snapshot) -> list[ListedShard]:
    """List the source shards of a snapshot as its plan pins them, without those that have no usable sample.

    A shard with a broken archive is quarantined whole and is left out.
    """
    from curation.dataset.loader import ListedShard

    plan, store = Ledger(snapshot.store).open_plan(snapshot.document["plan"]), source_store(snapshot)
    rows = snapshot.manifest.query(
        f"SELECT source_key, count(*) AS n FROM manifest GROUP BY source_key HAVING bool_or{USABLE}",
        ["source_key", "decision", "reason"],
    )
    counts = dict(zip(*(rows.column(name).to_pylist() for name in ("source_key", "n")), strict=True))
    return [
        ListedShard(store, ref, counts[ref.key], snapshot.caption, snapshot.limits)
        for ref in plan.shards()
        if ref.key in counts
    ]


def usable(snapshot: Snapshot) -> int:
    """Count the samples of a snapshot's source corpus that a model could be trained on."""
    query = f"SELECT count(*) AS n FROM manifest WHERE {USABLE}"
    return int(snapshot.manifest.query(query, ["decision", "reason", "source_key"]).column("n")[0].as_py())


def random_subset(snapshot: Snapshot, samples: int, seed: int) -> Subset:
    """Draw exactly `samples` of the usable samples of a snapshot's source corpus.

    Raises `UserError` when it has fewer, and for 0 samples.
    """
    hashes = f"(SELECT sha256('{int(seed)} ' || uid) AS hash FROM manifest WHERE {USABLE})"
    counts = f"SELECT left(hash, {_HEAD}) AS head, count(*) AS n FROM {hashes} GROUP BY head ORDER BY head"
    before = 0
    for row in snapshot.manifest.query(counts, _COLUMNS).to_pylist():
        if before + row["n"] >= samples > 0:
            break
        before += row["n"]
    else:
        text = f"{samples:,} samples can't be drawn from the {before:,} of {snapshot.store.url}@{snapshot.number}"
        raise UserError(text, fix="choose a snapshot that keeps at least one sample")
    within = f"SELECT hash FROM {hashes} WHERE left(hash, {_HEAD}) = $head ORDER BY hash LIMIT 1 OFFSET $before"
    last = snapshot.manifest.query(within, _COLUMNS, {"head": row["head"], "before": samples - before - 1})
    return Subset(seed, last.column("hash")[0].as_py())


class TrainingParts(NamedTuple):
    """Sizes of the training sets of an evaluation, and its random subsets.

    `kept`: samples of the snapshot; `pool`: samples of its source corpus; `random`: by seed, a random subset of the
    corpus with the snapshot's size (None: the whole corpus).
    """

    kept: int
    pool: int
    random: Mapping[int, Subset | None]


def parts(snapshot: Snapshot, seeds: Iterable[int]) -> TrainingParts:
    """Compute the training parts over all samples, with one random subset for each seed."""
    kept, pool = int(snapshot.document["samples"]["kept"]), usable(snapshot)
    draws = {seed: random_subset(snapshot, kept, seed) if 0 < kept < pool else None for seed in seeds}
    return TrainingParts(kept, pool, draws)


def parts_without(
    snapshot: Snapshot, share: float, seeds: Iterable[int], advance: Callable[[int], None] = lambda samples: None
) -> TrainingParts:
    """Compute the training parts over the samples whose names are not in the held-out `share`.

    A random subset is then as large as the trained part of the snapshot. Names are only in the shards, so this reads
    the headers of the snapshot's shards and of its source shards; uids are sorted on local disk. `advance` is called
    with the number of samples read since its last call.
    """
    from curation.dataset.loader import SampleStream

    def places(shards: Sequence[ListedShard]) -> Iterator[str]:
        count = 0
        for place in SampleStream(shards, size=1, shuffle=0, part="train", holdout=share).places():
            count += 1
            if count % _PROGRESS == 0:
                advance(_PROGRESS)
            yield place
        advance(count % _PROGRESS)

    kept = sum(1 for _ in places(snapshot.loader_shards()))
    with tables.scratch() as db:
        db.execute("CREATE TABLE place (uid VARCHAR)")
        tables.insert_rows(db, "place", ((place,) for place in places(source_shards(snapshot))))
        db.register("manifest", snapshot.reader(_COLUMNS))
        db.execute(f"CREATE TABLE pool AS FROM place SEMI JOIN (SELECT uid FROM manifest WHERE {USABLE}) USING (uid)")
        ((pool,),) = db.execute("SELECT count(*) FROM pool").fetchall()
        query = "SELECT sha256($seed || ' ' || uid) AS hash FROM pool ORDER BY hash LIMIT 1 OFFSET $before"
        draws: dict[int, Subset | None] = dict.fromkeys(seeds)
        for seed in draws if 0 < kept < pool else ():
            ((bound,),) = db.execute(query, {"seed": str(seed), "before": kept - 1}).fetchall()
            draws[seed] = Subset(seed, bound)
    return TrainingParts(kept, pool, draws)
