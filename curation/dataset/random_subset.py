"""What a snapshot is judged against: the samples of its source corpus, all of them or a random part of a given size.

A random part is a seed and a bound: a sample belongs to it if the hash of its uid is not above the bound. So it needs
no list of its members, is the same everywhere, and is read from the source shards where they lie. Its size is exact:
the bound is a member's own hash, found in two passes over three columns of the manifest that keep 65,536 counts.
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

# What a model could be trained on, whatever the filters say: all that can be read and decoded.
USABLE = "(decision <> 'quarantined' OR reason = 'score_not_finite')"
_COLUMNS = ("uid", "decision", "reason")
_TOLD = 1024  # samples at a time, to whoever shows how far it is
_HEAD = 4  # hexadecimal digits of the hashes that are counted


class Subset(NamedTuple):
    """The samples whose hash with this seed is not above `bound`, 64 hexadecimal digits."""

    seed: int
    bound: str

    def holds(self, uid: str) -> bool:
        """Whether the sample with this uid belongs to it."""
        return sha256(f"{self.seed} {uid}".encode()).hexdigest() <= self.bound


def source_store(snapshot: Snapshot) -> Store:
    """Where the shards lie that a snapshot was made from."""
    plan = Ledger(snapshot.store).open_plan(snapshot.document["plan"])
    return open_store(plan.document["corpus"]["root"], snapshot.store.options)


def source_shards(snapshot: Snapshot) -> list[ListedShard]:
    """The shards that a snapshot was made from, as its plan pins them, without those that hold no usable sample.

    A shard whose archive is broken is quarantined whole, so it is left out.
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
    """How many samples of a snapshot's source corpus a model could be trained on."""
    query = f"SELECT count(*) AS n FROM manifest WHERE {USABLE}"
    return int(snapshot.manifest.query(query, ["decision", "reason"]).column("n")[0].as_py())


def random_subset(snapshot: Snapshot, samples: int, seed: int) -> Subset:
    """Exactly `samples` of the usable samples of a snapshot's source corpus. Raises `UserError` when it has fewer."""
    hashes = f"(SELECT sha256('{int(seed)} ' || uid) AS hash FROM manifest WHERE {USABLE})"
    counts = f"SELECT left(hash, {_HEAD}) AS head, count(*) AS n FROM {hashes} GROUP BY head ORDER BY head"
    before = 0
    for row in snapshot.manifest.query(counts, _COLUMNS).to_pylist():
        if before + row["n"] >= samples > 0:
            break
        before += row["n"]
    else:
        text = f"{samples:,} samples can't be drawn from the {before:,} of {snapshot.store.url}@{snapshot.number}"
        raise UserError(text, fix="a snapshot that keeps some samples")
    within = f"SELECT hash FROM {hashes} WHERE left(hash, {_HEAD}) = $head ORDER BY hash LIMIT 1 OFFSET $before"
    last = snapshot.manifest.query(within, _COLUMNS, {"head": row["head"], "before": samples - before - 1})
    return Subset(seed, last.column("hash")[0].as_py())


class TrainingParts(NamedTuple):
    """What models are trained on: so many samples of the snapshot, so many of its source corpus, and, by seed, of that
    corpus a random part of the snapshot's size (None: all of it)."""

    kept: int
    pool: int
    random: Mapping[int, Subset | None]


def parts(snapshot: Snapshot, seeds: Iterable[int]) -> TrainingParts:
    """Of all samples."""
    kept, pool = int(snapshot.document["samples"]["kept"]), usable(snapshot)
    draws = {seed: random_subset(snapshot, kept, seed) if 0 < kept < pool else None for seed in seeds}
    return TrainingParts(kept, pool, draws)


def parts_without(
    snapshot: Snapshot, share: float, seeds: Iterable[int], advance: Callable[[int], None] = lambda samples: None
) -> TrainingParts:
    """Of the samples whose names are not of the held-out `share`, so that a random part is as large as what is trained
    on of the snapshot. Reads the headers of the snapshot's shards and of its sources', for only they have the names;
    uids on local disk."""
    from curation.dataset.loader import SampleStream

    def places(shards: Sequence[ListedShard]) -> Iterator[str]:
        count = 0
        for place in SampleStream(shards, size=1, shuffle=0, part="train", holdout=share).places():
            count += 1
            if count % _TOLD == 0:
                advance(_TOLD)
            yield place
        advance(count % _TOLD)

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
