"""Damages of input shards and of score tables with their records."""

from __future__ import annotations

import json
from collections.abc import Callable

import pyarrow as pa
from damaged_tree import (
    Damage,
    Tree,
    column,
    cut,
    first,
    flip,
    record_of,
    swap,
)


def _other_data(tree: Tree) -> None:
    """Records of two shards name each other's tables."""
    one, other = (json.loads(tree.scored("clip_score", f"0000{n}.tar").read_text())["data"] for n in (1, 2))
    tree.edit(tree.scored("clip_score", "00001.tar"), lambda value: value.update(data=other))
    tree.edit(tree.scored("clip_score", "00002.tar"), lambda value: value.update(data=one))


def _table(column: str, key: str = "00001.tar") -> Callable[[Tree], str]:
    return lambda tree: tree.table(column, key).name


def _dropped(values: pa.Table) -> pa.Table:
    return values.slice(1)


SCORE_DAMAGES: dict[str, Damage] = {
    # --- input shards ---
    "an input shard gone": Damage(
        lambda t: (t.root / "corpus/00001.tar").unlink(), "corpus/00001.tar", "is missing", repairable=False
    ),
    "an input shard replaced": Damage(
        lambda t: flip(t.root / "corpus/00001.tar", 600), "corpus/00001.tar", "etag", repairable=False
    ),
    # --- score tables ---
    "index flipped": Damage(lambda t: flip(t.table("index")), _table("index"), "index of 00001.tar"),
    "index gone": Damage(lambda t: t.table("index").unlink(), _table("index"), "is missing"),
    "caption in the index, with consistent hashes": Damage(
        lambda t: t.rewrite(t.table("index"), column("caption", first(lambda v: "a dog"))), _table("index"), "`caption`"
    ),
    "content hash in the index, with consistent hashes": Damage(
        lambda t: t.rewrite(t.table("index"), column("content_hash", first(lambda v: "0" * 32))),
        _table("index"),
        "`content_hash`",
    ),
    "reason in the index, with consistent hashes": Damage(
        lambda t: t.rewrite(t.table("index"), column("reason", first(lambda v: None))), _table("index"), "`reason`"
    ),
    "a row left out of the index, with consistent hashes": Damage(
        lambda t: t.rewrite(t.table("index"), _dropped), _table("index"), "rows"
    ),
    "record of the index gone": Damage(lambda t: t.scored("index").unlink(), record_of("index"), "is missing"),
    "reason of a whole shard": Damage(
        lambda t: t.edit(t.scored("index", "90001.tar"), lambda v: v.update(reason=None)),
        record_of("index", "90001.tar"),
        "`reason`",
    ),
    "score table gone": Damage(lambda t: t.table("clip_score").unlink(), _table("clip_score"), "is missing"),
    "score table flipped": Damage(lambda t: flip(t.table("embedding")), _table("embedding"), "embedding of 00001.tar"),
    "score table cut": Damage(lambda t: cut(t.table("image_stats")), _table("image_stats"), "image_stats of 00001.tar"),
    "score record gone": Damage(lambda t: t.scored("phash").unlink(), record_of("phash"), "has not been scored"),
    "score record not JSON": Damage(lambda t: cut(t.scored("phash")), record_of("phash"), "not the JSON"),
    "samples of a score record": Damage(
        lambda t: t.edit(t.scored("clip_score"), lambda v: v.update(seen=3)), record_of("clip_score"), "`seen`"
    ),
    "etag of a score record": Damage(
        lambda t: t.edit(t.scored("clip_score"), lambda v: v.update(etag="x")), record_of("clip_score"), "`etag`"
    ),
    "records of two shards exchanged": Damage(
        lambda t: swap(t.scored("clip_score"), t.scored("clip_score", "00002.tar")), record_of("clip_score"), "`key`"
    ),
    "tables of two shards exchanged": Damage(
        lambda t: swap(t.table("phash"), t.table("phash", "00002.tar")), _table("phash"), "match the hash in its name"
    ),
    "poison of rows that have values": Damage(
        lambda t: t.edit(t.scored("clip_score"), lambda v: v.update(poison={"3": "poison_died"})),
        record_of("clip_score"),
        "`poison.",
    ),
    "poison of structs that have values": Damage(
        lambda t: t.edit(t.scored("image_stats"), lambda v: v.update(poison={"3": "poison_hung"})),
        record_of("image_stats"),
        "`poison.",
    ),
    "poison that names no row": Damage(
        lambda t: t.edit(t.scored("embedding"), lambda v: v.update(poison={"abc": "poison_died", "1": 3})),
        record_of("embedding"),
        "`poison.",
    ),
    "records that name each other's tables": Damage(_other_data, record_of("clip_score"), "`data.key`"),
    "a score, forged": Damage(
        lambda t: t.forged(t.table("clip_score"), column("value", first(lambda v: v + 1e-3))),
        lambda t: t.scored("clip_score").stem,
        "values differ from the model's",
        rescore=1.0,
    ),
    "a vector, forged": Damage(
        lambda t: t.forged(t.table("embedding"), column("value", first(lambda v: v[::-1]))),
        lambda t: t.scored("embedding").stem,
        "values differ from the model's",
        rescore=1.0,
    ),
    "a hash of a picture, forged": Damage(
        lambda t: t.forged(t.table("phash"), column("value", first(lambda v: v ^ 1))),
        lambda t: t.scored("phash").stem,
        "values differ from the model's",
        rescore=1.0,
    ),
    "a caption in the index, forged": Damage(
        lambda t: t.forged(t.table("index"), column("caption", first(lambda v: "a dog"))),
        lambda t: t.scored("index").stem,
        "`caption`",
    ),
}
