"""No sample is trained on twice by accident: what a run draws from is several times data, never the same data twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from curation.errors import UserError
from curation.ledger import Ledger
from curation.loader import Shard
from curation.manifest import Streams
from curation.snapshot import Snapshot
from curation.subset import source_store

_FIX = "name one of them; weights of a snapshot make samples come more often on purpose"


def expect_apart(
    urls: Sequence[str], shards: Sequence[Sequence[Shard]], snapshots: Mapping[str, Snapshot | None]
) -> None:
    """Raises `UserError` where a shard is in two of the data, a snapshot was made from shards of another of them, or
    two snapshots of one corpus keep the same samples. `snapshots`: of the URLs that are any.

    Cost: a string a shard; of two snapshots of one corpus, a pass over two columns of their manifests.
    """
    listed: dict[str, str] = {}
    for url, some in zip(urls, shards, strict=True):
        for shard in some:
            where = shard.store.location(shard.ref.key)
            if where in listed:
                raise UserError(f"{where} is in {listed[where]} and in {url}", fix=_FIX)
            listed[where] = url
    made = {url: snapshot for url in urls if len(urls) > 1 and (snapshot := snapshots[url]) is not None}
    for url, snapshot in made.items():
        store = source_store(snapshot)
        for ref in Ledger(snapshot.store).open_plan(snapshot.document["plan"]).shards():
            other = listed.get(store.location(ref.key))
            if other is not None:
                raise UserError(f"{url} was made from shards of {other}", fix=_FIX)
    for (url, one), (other, two) in combinations(made.items(), 2):
        if source_store(one).url == source_store(two).url and (count := _shared(one, two)):
            raise UserError(f"{url} and {other} keep {count:,} same samples", fix=_FIX)


def _shared(one: Snapshot, other: Snapshot) -> int:
    import duckdb

    with Streams() as streams, duckdb.connect() as db:
        for name, snapshot in (("a", one), ("b", other)):
            db.register(name, streams.of(snapshot.reader(["uid", "decision"])))
        kept = ("(SELECT uid FROM a WHERE decision = 'kept')", "(SELECT uid FROM b WHERE decision = 'kept')")
        ((count,),) = db.execute(f"SELECT count(*) FROM {kept[0]} SEMI JOIN {kept[1]} USING (uid)").fetchall()
    return int(count)
