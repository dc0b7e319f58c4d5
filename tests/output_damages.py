"""Damages of the output: records, shards, manifest parts, indexes, lists, evaluations."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
from damaged_tree import (
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
)


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


def _dropped(values: pa.Table) -> pa.Table:
    return values.slice(1)


OUTPUT_DAMAGES: dict[str, Damage] = {
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
