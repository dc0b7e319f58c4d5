"""Damages that `curate verify` must find and name: how each is planted into the dataset that `finished.make` makes.

"With consistent hashes" is an attacker's damage: whatever names the object by its hash is rewritten to fit, up to the
snapshot's document."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from damaged_tree import (
    DOCUMENT,
    EVALUATION,
    OTHER_ID,
    Damage,
    Tree,
    column,
    cut,
    doubled,
    first,
    flip,
    named_object,
    object_of,
    page_edit,
    record_of,
    set_fields,
    swap,
)

from curation.core.digest import canonical


def _copied(tree: Tree, number: int) -> Path:
    path = tree.out / f"snapshots/{number:06d}.json"
    path.write_bytes((tree.out / DOCUMENT).read_bytes())
    return path


def _add_surrogate(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "x": "\ud800"}))


def _copy_of_latest(tree: Tree) -> None:
    tree.edit(tree.out / DOCUMENT, lambda value: None)
    value = {**tree.document, "snapshot": 4, "parent": 3}
    (tree.out / "snapshots/000004.json").write_bytes(canonical(value))
    (tree.out / "LATEST").write_text("4")


def _other_data(tree: Tree) -> None:
    """Records of two shards name each other's tables."""
    one, other = (json.loads(tree.scored("clip_score", f"0000{n}.tar").read_text())["data"] for n in (1, 2))
    tree.edit(tree.scored("clip_score", "00001.tar"), lambda value: value.update(data=other))
    tree.edit(tree.scored("clip_score", "00002.tar"), lambda value: value.update(data=one))


def _without_sample(tree: Tree) -> None:
    """An output shard without its first sample, with consistent hashes."""
    import io

    from curation.shards.tar_samples import read_samples
    from curation.shards.tar_writer import TarWriter

    data = tree.shard.read_bytes()
    file = io.BytesIO()
    writer = TarWriter(file)
    for sample in list(read_samples([data], len(data)))[1:]:
        for part in sample.parts:
            writer.add(f"{sample.key}.{part.extension}", part.data)
    writer.close()
    tree.replace(tree.shard, file.getvalue())


def _list(name: str) -> Callable[[Tree], str]:
    return lambda tree: tree.document["lists"][name]["key"]


def _table(column: str, key: str = "00001.tar") -> Callable[[Tree], str]:
    return lambda tree: tree.table(column, key).name


def _dropped(values: pa.Table) -> pa.Table:
    return values.slice(1)


DAMAGES: dict[str, Damage] = {
    # --- LATEST and the chain of snapshots ---
    "LATEST gone": Damage(lambda t: (t.out / "LATEST").unlink(), "LATEST", "is missing"),
    "LATEST not a number": Damage(lambda t: (t.out / "LATEST").write_text("<html>"), "LATEST", "not a number"),
    "LATEST behind": Damage(lambda t: (t.out / "LATEST").write_text("1"), "LATEST", "names @1"),
    "LATEST of another dataset": Damage(
        lambda t: (t.out / "LATEST").write_text("5"), "snapshots/000005.json", "LATEST names @5", repairable=False
    ),
    "LATEST far ahead": Damage(
        lambda t: (t.out / "LATEST").write_text("999999999"), "LATEST", "names @999999999, more than", repairable=False
    ),
    "a snapshot far ahead": Damage(
        lambda t: t.edit(_copied(t, 999999999), lambda v: v.update(snapshot=999999999, recipe={})),
        "snapshots/000004.json",
        "@4 to @999999998",
        repairable=False,
    ),
    "a snapshot's number is an object": Damage(lambda t: t.change(snapshot={}), DOCUMENT, "`snapshot`"),
    "a list that is a number": Damage(
        lambda t: t.change(lists={"keep": 3}), DOCUMENT, "`lists.keep`", repairable=False
    ),
    "a lone surrogate in the document": Damage(
        lambda t: _add_surrogate(t.out / DOCUMENT), DOCUMENT, "is not the JSON", repairable=False
    ),
    "a lone surrogate in a record": Damage(
        lambda t: _add_surrogate(t.record), lambda t: t.record.name, "is not the JSON"
    ),
    "a manifest part that is a number": Damage(
        lambda t: t.edit(t.record, lambda v: v.update(manifest=3)), lambda t: t.record.name, "`manifest`"
    ),
    "latest snapshot deleted": Damage(
        lambda t: (t.out / DOCUMENT).unlink(), DOCUMENT, "LATEST names @3", repairable=False
    ),
    "latest snapshot and LATEST deleted": Damage(
        lambda t: [(t.out / name).unlink() for name in (DOCUMENT, "LATEST")],
        DOCUMENT,
        "urls/000003.txt exists",
        repairable=False,
    ),
    "latest snapshot deleted, LATEST set back": Damage(
        lambda t: [(t.out / DOCUMENT).unlink(), (t.out / "LATEST").write_text("2")],
        DOCUMENT,
        "is missing",
        repairable=False,
    ),
    "a list of shards of no snapshot": Damage(
        lambda t: (t.out / "urls/000009.txt").write_text("x"),
        "snapshots/000009.json",
        "urls/000009.txt",
        repairable=False,
    ),
    "an evaluation of no snapshot": Damage(
        lambda t: (t.out / EVALUATION.replace("000003", "000004")).write_bytes((t.out / EVALUATION).read_bytes()),
        "snapshots/000004.json",
        "an evaluation refers to it",
        repairable=False,
    ),
    "a list of shards far ahead": Damage(
        lambda t: (t.out / "urls/999999.txt").write_text("x"), "urls/999999.txt", "belongs to no snapshot"
    ),
    "a list of shards with another name": Damage(
        lambda t: (t.out / "urls/4.txt").write_text("x"), "urls/4.txt", "not named like"
    ),
    "a hole among snapshots": Damage(
        lambda t: (t.out / "snapshots/000002.json").unlink(), "snapshots/000002.json", "is missing", repairable=False
    ),
    "a copy after the latest": Damage(_copy_of_latest, "snapshots/000004.json", "copy of @3"),
    "a copy among snapshots": Damage(
        lambda t: (t.out / "snapshots/000002.json").write_bytes((t.out / "snapshots/000001.json").read_bytes()),
        "snapshots/000002.json",
        "copy of @1",
        repairable=False,
    ),
    "a document that is no snapshot": Damage(
        lambda t: (t.out / "snapshots/000003 (1).json").write_text("{}"), "000003 (1).json", "not named like"
    ),
    "a document that is not JSON": Damage(lambda t: cut(t.out / DOCUMENT), DOCUMENT, "not the JSON", repairable=False),
    "an empty document": Damage(
        lambda t: (t.out / DOCUMENT).write_text("{}"), DOCUMENT, "not the JSON", repairable=False
    ),
    "an older document's parent": Damage(
        lambda t: t.edit(t.out / "snapshots/000002.json", lambda v: v.update(parent=None)),
        "snapshots/000002.json",
        "`parent`",
    ),
    # --- the snapshot's document ---
    "snapshot": Damage(set_fields(snapshot=7), DOCUMENT, "`snapshot`"),
    "parent": Damage(set_fields(parent=1), DOCUMENT, "`parent`"),
    "decision_id": Damage(set_fields(decision_id=OTHER_ID), DOCUMENT, "`decision_id`", repairable=False),
    "recipe_sha256": Damage(set_fields(recipe_sha256=OTHER_ID), DOCUMENT, "`recipe_sha256`", repairable=False),
    "score_types": Damage(set_fields(score_types__phash="int32"), DOCUMENT, "`score_types.phash`"),
    "scores": Damage(set_fields(scores=lambda v: v[1:]), DOCUMENT, "`scores`"),
    "units.quarantined": Damage(set_fields(units__quarantined=0), DOCUMENT, "`units.quarantined`"),
    "units.total": Damage(set_fields(units__total=4), DOCUMENT, "`units.total`"),
    "samples.kept": Damage(set_fields(samples__kept=lambda n: n + 1), DOCUMENT, "`samples.kept`"),
    "a sample under another reason": Damage(
        set_fields(samples__filtered=lambda v: {**v, "drop_list": 0, "weights": v["weights"] + 1}),
        DOCUMENT,
        "`samples.filtered.drop_list`",
    ),
    "weights of a model": Damage(set_fields(weights__clip_score=OTHER_ID), DOCUMENT, "`weights.clip_score`"),
    "a fingerprint": Damage(set_fields(fingerprints__phash=OTHER_ID), DOCUMENT, "`fingerprints.phash`"),
    "against": Damage(set_fields(against=lambda v: dict.fromkeys(v, 0)), DOCUMENT, "`against"),
    "plan of another snapshot": Damage(
        set_fields(plan=OTHER_ID), f"plans/{OTHER_ID}.json", "is missing", repairable=False
    ),
    "scores_url": Damage(set_fields(scores_url=lambda v: v + "-2"), DOCUMENT, "`scores_url`"),
    "a filter's threshold": Damage(
        lambda t: t.edit(t.out / DOCUMENT, lambda v: v["recipe"]["filters"][2]["top_fraction"].update(fraction=0.1)),
        DOCUMENT,
        "`recipe",
        repairable=False,
    ),
    "an unreadable recipe": Damage(set_fields(recipe={"corpus": 3}), DOCUMENT, "`recipe`", repairable=False),
    "hash of the list of shards": Damage(set_fields(shards__sha256=OTHER_ID), DOCUMENT, "`shards.sha256`"),
    "size of the manifest's index": Damage(set_fields(manifest__bytes=1), DOCUMENT, "`manifest.bytes`"),
    "name of the urls": Damage(set_fields(urls__key=f"data/urls-{'0' * 16}.txt"), DOCUMENT, "`urls.key`"),
    # --- the plan ---
    "plan gone": Damage(lambda t: t.plan.unlink(), object_of("plan"), "is missing"),
    "plan not JSON": Damage(lambda t: cut(t.plan), object_of("plan"), "not JSON"),
    "units of the plan": Damage(lambda t: t.edit(t.plan, lambda v: v.update(units=4)), object_of("plan"), "`units`"),
    "fingerprints of the plan": Damage(
        lambda t: t.edit(t.plan, lambda v: v["fingerprints"].update(phash=OTHER_ID)),
        object_of("plan"),
        "`fingerprints.phash`",
    ),
    "page gone": Damage(lambda t: t.page.unlink(), object_of("page"), "is missing"),
    "page flipped": Damage(lambda t: flip(t.page), object_of("page"), ""),
    "a shard left out of the page": Damage(page_edit(_dropped), object_of("page"), "rows"),
    "an etag of the page": Damage(page_edit(column("etag", first(lambda v: "0" * 32))), object_of("page"), "`etag`"),
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
    # --- write units ---
    "record gone": Damage(lambda t: t.record.unlink(), object_of("record"), "is missing"),
    "record not JSON": Damage(lambda t: cut(t.record), object_of("record"), "not the JSON"),
    "a count of the record": Damage(
        lambda t: t.edit(t.record, lambda v: v["inputs"][0].update(kept=99)), object_of("record"), "`inputs[0].kept`"
    ),
    "an input of the record": Damage(
        lambda t: t.edit(t.record, lambda v: v["inputs"][0].update(etag="x")), object_of("record"), "`inputs[0].etag`"
    ),
    "a shard's hash in the record": Damage(
        lambda t: t.edit(t.record, lambda v: v["shards"][0].update(sha256=OTHER_ID)),
        object_of("record"),
        "`shards[0].sha256`",
    ),
    "rows of the record": Damage(
        lambda t: t.edit(t.record, lambda v: v["manifest"].update(rows=1)), object_of("record"), "`manifest.rows`"
    ),
    "output shard gone": Damage(lambda t: t.shard.unlink(), object_of("shard"), "is missing"),
    "output shard cut": Damage(lambda t: cut(t.shard), object_of("shard"), "tar_"),
    "a header of an output shard": Damage(lambda t: flip(t.shard, 3), object_of("shard"), ""),
    "a byte of a member, with consistent hashes": Damage(
        lambda t: t.replace(t.shard, bytes(b ^ (n == 700) for n, b in enumerate(t.shard.read_bytes()))),
        object_of("shard"),
        "differ from the input's",
    ),
    "a sample left out of an output shard, with consistent hashes": Damage(
        _without_sample, object_of("shard"), "in the place of"
    ),
    "manifest part gone": Damage(lambda t: t.part.unlink(), object_of("part"), "is missing"),
    "manifest part flipped": Damage(lambda t: flip(t.part), object_of("part"), ""),
    "a weight in the manifest, with consistent hashes": Damage(
        lambda t: t.rewrite(t.part, column("weight", first(lambda v: 9.0, where=bool))), object_of("part"), "`weight`"
    ),
    "a score in the manifest, with consistent hashes": Damage(
        lambda t: t.rewrite(t.part, column("clip_score", first(lambda v: v + 1e-3))),
        object_of("part"),
        "`clip_score`",
        rescore=1.0,
    ),
    "a decision in the manifest, with consistent hashes": Damage(
        lambda t: t.rewrite(t.part, column("decision", first(lambda v: "kept", where=lambda v: v == "filtered"))),
        object_of("part"),
        "`decision`",
    ),
    "a reason in the manifest, with consistent hashes": Damage(
        lambda t: t.rewrite(t.part, column("reason", first(lambda v: "other"))), object_of("part"), "`reason`"
    ),
    "an offset in the manifest, with consistent hashes": Damage(
        lambda t: t.rewrite(t.part, column("output_offset", first(lambda v: v + 512))),
        object_of("part"),
        "`output_offset`",
    ),
    "a uid twice in the manifest, with consistent hashes": Damage(
        lambda t: t.rewrite(t.part, doubled), object_of("part"), "rows"
    ),
    "a weight in the manifest, forged": Damage(
        lambda t: t.forged(t.part, column("weight", first(lambda v: 9.0, where=bool))),
        lambda t: t.record.stem,
        "`weight`",
    ),
    "a byte of a member, forged": Damage(
        lambda t: t.forge(t.shard, bytes(b ^ (n == 700) for n, b in enumerate(t.shard.read_bytes()))),
        lambda t: t.record.stem,
        "differ from the input's",
    ),
    # --- indexes, urls, lists, matches ---
    "list of shards gone": Damage(lambda t: t.named("shards").unlink(), named_object("shards"), "is missing"),
    "a shard left out of the list, with consistent hashes": Damage(
        lambda t: t.rewrite(t.named("shards"), _dropped), named_object("shards"), "rows"
    ),
    "a shard twice in the list, with consistent hashes": Damage(
        lambda t: t.rewrite(t.named("shards"), doubled), named_object("shards"), "rows"
    ),
    "samples of a shard in the list, with consistent hashes": Damage(
        lambda t: t.rewrite(t.named("shards"), column("samples", first(lambda v: v + 1))),
        named_object("shards"),
        "`samples`",
    ),
    "index of the manifest gone": Damage(
        lambda t: t.named("manifest").unlink(), named_object("manifest"), "is missing"
    ),
    "name of a unit in the index, with consistent hashes": Damage(
        lambda t: t.rewrite(t.named("manifest"), column("unit", first(lambda v: OTHER_ID))),
        named_object("manifest"),
        "`unit`",
    ),
    "urls gone": Damage(lambda t: t.named("urls").unlink(), named_object("urls"), "is missing"),
    "a line of the urls, with consistent hashes": Damage(
        lambda t: t.replace(t.named("urls"), b"x" + t.named("urls").read_bytes()), named_object("urls"), "bytes differ"
    ),
    "published urls gone": Damage(lambda t: (t.out / "urls/000003.txt").unlink(), "urls/000003.txt", "is missing"),
    "a line of the published urls": Damage(
        lambda t: flip(t.out / "urls/000003.txt", 3), "urls/000003.txt", "its lines"
    ),
    "drop list gone": Damage(lambda t: (t.out / _list("drop")(t)).unlink(), _list("drop"), "is missing"),
    "drop list and its source edited": Damage(
        lambda t: [path.write_text("") for path in (t.out / _list("drop")(t), t.root / "drop.txt")],
        _list("drop"),
        "lists.drop",
        repairable=False,
    ),
    "list of weights edited": Damage(lambda t: flip(t.out / _list("weights")(t), 3), _list("weights"), "lists.weights"),
    "matches gone": Damage(lambda t: t.named("matches").unlink(), named_object("matches"), "is missing"),
    "a match, with consistent hashes": Damage(
        lambda t: t.rewrite(t.named("matches"), column("value", first(lambda v: v + 1))),
        named_object("matches"),
        "`value`",
    ),
    # --- evaluations ---
    "mean of an evaluation": Damage(
        lambda t: t.edit(t.out / EVALUATION, lambda v: v["arms"]["curated"]["mean"]["recall@1"].update(mean=0.9)),
        EVALUATION,
        "`arms.curated.mean.recall@1.mean`",
    ),
    "an evaluation that is not JSON": Damage(lambda t: cut(t.out / EVALUATION), EVALUATION, "can't be read"),
}
