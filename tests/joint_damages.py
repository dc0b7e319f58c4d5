"""Damages that need several files: each file alone looks sound, so `verify` must compare them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
from damaged_tree import (
    DOCUMENT,
    EVALUATION,
    OTHER_ID,
    Damage,
    Tree,
    column,
    doubled,
    first,
    named_object,
    object_of,
    page_edit,
    record_of,
    set_fields,
    swap,
)


def _twice(path: Path, name: str) -> None:
    """A key twice in one JSON object, with two values."""
    text = path.read_text()
    path.write_text(text[:-1] + f',"{name}":{json.dumps(json.loads(text)[name])}' + "}")


def _copy(path: Path) -> None:
    (path.with_name(f"{OTHER_ID}.json")).write_bytes(path.read_bytes())


def _foreign_record(tree: Tree) -> None:
    """A commit record of another dataset, under its own name; its objects lie there."""
    path = next((tree.root / "eval/units").glob("*.json"))
    (tree.out / "units" / path.name).write_bytes(path.read_bytes())


def _other_case(value: dict[str, Any], name: str) -> None:
    value[name.upper()] = value.pop(name)


def _versions(tree: Tree) -> Path:
    (path,) = (tree.scores / "software").glob("*.json")
    return path


def _edit_software(tree: Tree) -> None:
    tree.edit(tree.out / DOCUMENT, lambda v: next(iter(v["software"].values())).update(torch="9.9.9"))


def _reversed(values: pa.Table) -> pa.Table:
    return values.take(list(reversed(range(values.num_rows))))


def _floats(values: pa.Table) -> pa.Table:
    at = values.schema.get_field_index("value")
    return values.set_column(at, "value", values.column("value").cast(pa.float64()))


def _footer(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def _other_part(tree: Tree) -> Path:
    return tree.out / tree.rows("manifest")[1]["key"]


#: Damages that are planted together: each is found and named beside the others, and one repair repairs all.
TOGETHER: dict[str, dict[str, Damage]] = {
    "documents": {
        "LATEST with a zero before it": Damage(
            lambda t: (t.out / "LATEST").write_text("03"), "LATEST", "as runs write"
        ),
        "an unknown field of the snapshot": Damage(set_fields(x_extra=1), DOCUMENT, "`x_extra`"),
        "versions of the snapshot's software": Damage(_edit_software, DOCUMENT, "`software"),
        "a group of duplicates that no filter found": Damage(
            set_fields(groups=[{"filter": "x", "samples": 2, "stays": "0" * 32, "goes": ["1" * 32]}]),
            DOCUMENT,
            "`groups`",
        ),
        "an unknown field of a commit record": Damage(
            lambda t: t.edit(t.record, lambda v: v.update(x_extra={})), object_of("record"), "`x_extra`"
        ),
        "an unknown field of the plan": Damage(
            lambda t: t.edit(t.plan, lambda v: v.update(x_extra=0)), object_of("plan"), "`x_extra`"
        ),
        "an unknown field of a score record": Damage(
            lambda t: t.edit(t.scored("phash"), lambda v: v.update(x_extra=[])), record_of("phash"), "`x_extra`"
        ),
        "the column of a score record": Damage(
            lambda t: t.edit(t.scored("clip_score"), lambda v: v.update(column="clip")),
            record_of("clip_score"),
            "`column`",
        ),
        "the column of an index record": Damage(
            lambda t: t.edit(t.scored("index"), lambda v: v.update(column="phash")), record_of("index"), "`column`"
        ),
        "software of a score record that is no digest": Damage(
            lambda t: t.edit(t.scored("embedding"), lambda v: v.update(software="x")),
            record_of("embedding"),
            "`software`",
        ),
        "software of a score record that nobody has": Damage(
            lambda t: t.edit(t.scored("image_stats"), lambda v: v.update(software="0" * 16)),
            record_of("image_stats"),
            "`software`",
        ),
        "a file of versions": Damage(
            lambda t: t.edit(_versions(t), lambda v: v.update(torch="0")),
            "scores/software/",
            "match the digest in its name",
        ),
        "a file of versions under another name": Damage(
            lambda t: (t.scores / "software/x.json").write_text("{}"), "software/x.json", "not named like"
        ),
        "a commit record under another name": Damage(
            lambda t: _copy(t.record), f"units/{OTHER_ID}.json", "another unit"
        ),
        "a score record under another name": Damage(
            lambda t: _copy(t.scored("phash", "00002.tar")), f"scores/units/{OTHER_ID}.json", "another unit"
        ),
        "a plan under another name": Damage(lambda t: _copy(t.plan), f"plans/{OTHER_ID}.json", "not the hash"),
        "a commit record of another dataset": Damage(
            _foreign_record, lambda t: next((t.root / "eval/units").glob("*.json")).name, "is missing"
        ),
    },
    "keys that stand twice": {
        "in a commit record": Damage(lambda t: _twice(t.record, "kept"), object_of("record"), "not the JSON"),
        "in the plan": Damage(lambda t: _twice(t.plan, "units"), object_of("plan"), "not JSON"),
        "in a copy of the plan": Damage(lambda t: _copy(t.plan), f"plans/{OTHER_ID}.json", "repeated"),
        "a field in capitals": Damage(
            lambda t: t.edit(t.out / DOCUMENT, lambda v: _other_case(v, "units")), DOCUMENT, "`UNITS`"
        ),
    },
    "tables": {
        "manifest parts exchanged": Damage(lambda t: swap(t.part, _other_part(t)), object_of("part"), "rows"),
        "rows of the manifest's index reversed": Damage(
            lambda t: t.rewrite(t.named("manifest"), _reversed), named_object("manifest"), "row 0"
        ),
        "lines of the urls that end otherwise": Damage(
            lambda t: (t.out / "urls/000003.txt").write_bytes(
                (t.out / "urls/000003.txt").read_bytes().replace(b"\n", b"\r\n")
            ),
            "urls/000003.txt",
            "lines",
        ),
        "an evaluation under another name": Damage(
            lambda t: (t.out / f"evaluations/000003-{'f' * 64}.json").write_bytes((t.out / EVALUATION).read_bytes()),
            f"000003-{'f' * 64}.json",
            "it is a copy",
        ),
        "zeros after the last output shard": Damage(
            lambda t: (t.out / t.rows("shards")[-1]["key"]).open("ab").write(bytes(10240)),
            lambda t: t.rows("shards")[-1]["key"],
            "outside of samples",
        ),
        "an index without the end of its footer": Damage(
            lambda t: _footer(t.named("shards")), named_object("shards"), ""
        ),
        "rows of the plan's page reversed": Damage(page_edit(_reversed), object_of("page"), "row 0"),
    },
    "score tables": {
        "values of another type": Damage(
            lambda t: t.forged(t.table("clip_score"), _floats), lambda t: t.scored("clip_score").stem, "type double"
        ),
        "rows reversed": Damage(
            lambda t: t.forged(t.table("phash"), _reversed), lambda t: t.scored("phash").stem, "not those of the unit"
        ),
        "a row twice": Damage(
            lambda t: t.forged(t.table("image_stats"), doubled), lambda t: t.scored("image_stats").stem, "uids"
        ),
        "a detail in the index, forged": Damage(
            lambda t: t.forged(t.table("index", "00000.tar"), column("detail", first(lambda v: "fine"))),
            lambda t: t.scored("index", "00000.tar").stem,
            "`detail`",
        ),
        "a key twice in an index record": Damage(
            lambda t: _twice(t.scored("index", "90000.tar"), "seen"), record_of("index", "90000.tar"), "not the JSON"
        ),
        "a number that is a float": Damage(
            lambda t: t.edit(t.scored("index", "00002.tar"), lambda v: v.update(seen=float(v["seen"]))),
            record_of("index", "00002.tar"),
            "`seen`",
        ),
        "a key in capitals": Damage(
            lambda t: t.edit(t.scored("phash", "00002.tar"), lambda v: _other_case(v, "etag")),
            record_of("phash", "00002.tar"),
            "`etag`",
        ),
        "rows of the index reversed": Damage(
            lambda t: t.forged(t.table("index"), _reversed), lambda t: t.scored("index").stem, "row 0"
        ),
    },
}
