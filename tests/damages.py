"""Damages that `curate verify` must find and name: how each is planted into the dataset that `finished.make` makes.

"With consistent hashes" is an attacker's damage: whatever names the object by its hash is rewritten to fit, up to the
snapshot's document.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.core.digest import canonical
from curation.core.types import ShardRef
from curation.curating.verification.findings import Finding
from curation.curating.verification.repairs import dry, started
from curation.curating.verification.repairs import finished as written_down
from curation.ledger.ledger import unit_id
from curation.storage.parquet import from_parquet, to_parquet
from curation.storage.store import open_store
from jobs.commands.verify import checks

DOCUMENT = "snapshots/000003.json"


class Tree:
    """A dataset on local disk, to be damaged. `out` and `scores` are its ledgers."""

    def __init__(self, root: Path) -> None:
        self.root, self.out, self.scores = root, root / "out", root / "out" / "scores"

    # --- to find things -------------------------------------------------------------------------------------------

    @property
    def document(self) -> dict[str, Any]:
        return json.loads((self.out / DOCUMENT).read_text())

    def named(self, name: str) -> Path:
        """An object that the document names itself."""
        return self.out / self.document[name]["key"]

    def rows(self, name: str) -> list[dict[str, Any]]:
        return from_parquet(self.named(name).read_bytes()).to_pylist()

    @property
    def shard(self) -> Path:
        return self.out / self.rows("shards")[0]["key"]

    @property
    def part(self) -> Path:
        return self.out / self.rows("manifest")[0]["key"]

    def part_of(self, number: int) -> Path:
        """A part of the manifest that no later snapshot has."""
        parts = []
        for path in sorted((self.out / "snapshots").glob("*.json")):
            index = self.out / json.loads(path.read_text())["manifest"]["key"]
            parts.append({row["key"] for row in from_parquet(index.read_bytes()).to_pylist()})
        return self.out / min(parts[number - 1] - set().union(*parts[number:]))

    @property
    def record(self) -> Path:
        return self.out / "units" / f"{self.rows('manifest')[0]['unit']}.json"

    @property
    def plan(self) -> Path:
        return self.out / "plans" / f"{self.document['plan']}.json"

    @property
    def page(self) -> Path:
        return self.out / json.loads(self.plan.read_text())["pages"][0]["key"]

    def scored(self, column: str, key: str = "00001.tar") -> Path:
        """The record of a score table."""
        page = from_parquet(self.page.read_bytes(), ["key", "size", "etag"]).to_pylist()
        shard = next(ShardRef(**row) for row in page if row["key"] == key)
        return self.scores / "units" / f"{unit_id(shard, self.document['fingerprints'][column])}.json"

    def table(self, column: str, key: str = "00001.tar") -> Path:
        return self.scores / json.loads(self.scored(column, key).read_text())["data"]["key"]

    # --- to damage them -------------------------------------------------------------------------------------------

    def edit(self, path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
        value = json.loads(path.read_text())
        change(value)
        path.write_bytes(canonical(value))

    def change(self, **fields: Any) -> None:
        """Fields of the snapshot's document; `a__b` is `a.b`."""

        def set_(value: dict[str, Any]) -> None:
            for name, new in fields.items():
                into, *path = value, *name.split("__")
                for part in path[:-1]:
                    into = into[part]
                into[path[-1]] = new(into[path[-1]]) if callable(new) else new

        self.edit(self.out / DOCUMENT, set_)

    def rewrite(self, path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
        """A Parquet object, with consistent hashes."""
        self.replace(path, to_parquet(change(from_parquet(path.read_bytes()))))

    def forge(self, path: Path, data: bytes) -> None:
        """An object under the name that fits its bytes, and all that names it, with nothing left of the old one."""
        ledger = self.scores if self.scores in path.parents else self.out
        unit, _, nonce = path.name.split("-")
        other = path.with_name(f"{unit}-{sha256(data).hexdigest()[:16]}-{nonce}")
        path.unlink()
        other.write_bytes(data)
        old, new = (str(one.relative_to(ledger)) for one in (path, other))
        said = {"key": new, "sha256": sha256(data).hexdigest(), "bytes": len(data)}
        for document in [*ledger.glob("units/*.json"), *ledger.glob("snapshots/*.json")]:
            value = json.loads(document.read_text())
            if _say(value, old, said):
                document.write_bytes(canonical(value))
        for index in [self.named(name) for name in ("shards", "manifest")] if ledger == self.out else ():
            table = from_parquet(index.read_bytes()) if index.exists() and index != other else None
            rows = table.to_pylist() if table is not None else []
            if sum(_say(row, old, said) for row in rows):
                self.forge(index, to_parquet(pa.Table.from_pylist(rows, table.schema)))

    def forged(self, path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
        """A Parquet object, changed and forged."""
        self.forge(path, to_parquet(change(from_parquet(path.read_bytes()))))

    def replace(self, path: Path, data: bytes) -> None:
        """An object of either ledger, and all that names it by its hash."""
        ledger = self.scores if self.scores in path.parents else self.out
        key = str(path.relative_to(ledger))
        path.write_bytes(data)
        said = {"sha256": sha256(data).hexdigest(), "bytes": len(data)}
        for document in [*ledger.glob("units/*.json"), *ledger.glob("snapshots/*.json"), *ledger.glob("plans/*.json")]:
            value = json.loads(document.read_text())
            if _say(value, key, said):
                document.write_bytes(canonical(value))
        for index in {self.named(name) for name in ("shards", "manifest")} - {path} if ledger == self.out else ():
            table = from_parquet(index.read_bytes())
            rows = table.to_pylist()
            if sum(_say(row, key, said) for row in rows):
                self.replace(index, to_parquet(pa.Table.from_pylist(rows, table.schema)))


def _say(value: Any, key: str, said: dict[str, Any]) -> bool:
    """Set hash and size wherever an object is named."""
    found = False
    if isinstance(value, dict):
        if value.get("key") == key and "sha256" in value:
            value.update({name: said[name] for name in said if name in value})
            found = True
        return bool(sum(_say(inner, key, said) for inner in value.values())) or found
    return isinstance(value, list) and bool(sum(_say(inner, key, said) for inner in value))


def found(tree: Tree, rescore: float = 0.0, *, apply: bool = False, accept_loss: bool = False) -> list[Finding]:
    """What `curate verify` finds, or what `curate repair --apply` finds and mends."""
    out = open_store(str(tree.out))
    mend = started(out, 3) if apply else dry(out)
    with checks(out, _newest(tree), mend, rescore=rescore, accept_loss=accept_loss, quiet=True) as work:
        findings = list(work.findings())
    if apply:
        written_down(mend, 3, findings, work.lost)
    return findings


def _newest(tree: Tree) -> int:
    return max(int(path.stem) for path in (tree.out / "snapshots").glob("00000?.json"))


def flip(path: Path, at: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[at if at >= 0 else len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def swap(one: Path, other: Path) -> None:
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def column(name: str, change: Callable[[list[Any]], Any]) -> Callable[[pa.Table], pa.Table]:
    """A change of one column's values."""

    def edit(table: pa.Table) -> pa.Table:
        values = table.column(name).to_pylist()
        change(values)
        at = table.schema.get_field_index(name)
        return table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))

    return edit


def first(change: Callable[[Any], Any], *, where: Callable[[Any], bool] = lambda value: value is not None) -> Any:
    """Change the first value that fits."""

    def edit(values: list[Any]) -> None:
        at = next(n for n, value in enumerate(values) if where(value))
        values[at] = change(values[at])

    return edit


@dataclass(frozen=True)
class Damage:
    """`object` and `field` are what one finding must name: a part of where it lies, and of what is said of it. `mends`:
    a repair makes the dataset what it was; else it says why it can't."""

    plant: Callable[[Tree], Any]
    object: Callable[[Tree], str] | str
    field: str = ""
    mends: bool = True
    rescore: float = 0.0


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

    from curation.shards.tar import TarWriter, read_samples

    data = tree.shard.read_bytes()
    file = io.BytesIO()
    writer = TarWriter(file)
    for sample in list(read_samples([data], len(data)))[1:]:
        for part in sample.parts:
            writer.add(f"{sample.key}.{part.extension}", part.data)
    writer.close()
    tree.replace(tree.shard, file.getvalue())


def _of(name: str) -> Callable[[Tree], str]:
    """Where an object lies, before it is damaged."""
    return lambda tree: getattr(tree, name).name


def _named(name: str) -> Callable[[Tree], str]:
    return lambda tree: tree.named(name).name


def _list(name: str) -> Callable[[Tree], str]:
    return lambda tree: tree.document["lists"][name]["key"]


def _scored(column: str, key: str = "00001.tar") -> Callable[[Tree], str]:
    return lambda tree: tree.scored(column, key).name


def _table(column: str, key: str = "00001.tar") -> Callable[[Tree], str]:
    return lambda tree: tree.table(column, key).name


def _dropped(values: pa.Table) -> pa.Table:
    return values.slice(1)


def _doubled(values: pa.Table) -> pa.Table:
    return pa.concat_tables([values, values.slice(0, 1)]).combine_chunks()


def _page_edit(change: Callable[[pa.Table], pa.Table]) -> Callable[[Tree], None]:
    return lambda tree: tree.page.write_bytes(to_parquet(change(from_parquet(tree.page.read_bytes()))))


def _set(**fields: Any) -> Callable[[Tree], None]:
    return lambda tree: tree.change(**fields)


_X = "0" * 64
_EVALUATION = f"evaluations/000003-{'e' * 64}.json"

DAMAGES: dict[str, Damage] = {
    # --- LATEST and the chain of snapshots ---
    "LATEST gone": Damage(lambda t: (t.out / "LATEST").unlink(), "LATEST", "is gone"),
    "LATEST not a number": Damage(lambda t: (t.out / "LATEST").write_text("<html>"), "LATEST", "not a number"),
    "LATEST behind": Damage(lambda t: (t.out / "LATEST").write_text("1"), "LATEST", "names @1"),
    "LATEST of another dataset": Damage(
        lambda t: (t.out / "LATEST").write_text("5"), "snapshots/000005.json", "LATEST names @5", mends=False
    ),
    "LATEST far ahead": Damage(
        lambda t: (t.out / "LATEST").write_text("999999999"), "LATEST", "names @999999999, more than", mends=False
    ),
    "a snapshot far ahead": Damage(
        lambda t: t.edit(_copied(t, 999999999), lambda v: v.update(snapshot=999999999, recipe={})),
        "snapshots/000004.json",
        "@4 to @999999998",
        mends=False,
    ),
    "a snapshot's number is an object": Damage(lambda t: t.change(snapshot={}), DOCUMENT, "`snapshot`"),
    "a list that is a number": Damage(lambda t: t.change(lists={"keep": 3}), DOCUMENT, "`lists.keep`", mends=False),
    "a lone surrogate in the document": Damage(
        lambda t: _add_surrogate(t.out / DOCUMENT), DOCUMENT, "is not the JSON", mends=False
    ),
    "a lone surrogate in a record": Damage(
        lambda t: _add_surrogate(t.record), lambda t: t.record.name, "is not the JSON"
    ),
    "a manifest part that is a number": Damage(
        lambda t: t.edit(t.record, lambda v: v.update(manifest=3)), lambda t: t.record.name, "`manifest`"
    ),
    "latest snapshot deleted": Damage(lambda t: (t.out / DOCUMENT).unlink(), DOCUMENT, "LATEST names @3", mends=False),
    "latest snapshot and LATEST deleted": Damage(
        lambda t: [(t.out / name).unlink() for name in (DOCUMENT, "LATEST")],
        DOCUMENT,
        "urls/000003.txt is there",
        mends=False,
    ),
    "latest snapshot deleted, LATEST set back": Damage(
        lambda t: [(t.out / DOCUMENT).unlink(), (t.out / "LATEST").write_text("2")], DOCUMENT, "is gone", mends=False
    ),
    "a list of shards of no snapshot": Damage(
        lambda t: (t.out / "urls/000009.txt").write_text("x"), "snapshots/000009.json", "urls/000009.txt", mends=False
    ),
    "an evaluation of no snapshot": Damage(
        lambda t: (t.out / _EVALUATION.replace("000003", "000004")).write_bytes((t.out / _EVALUATION).read_bytes()),
        "snapshots/000004.json",
        "an evaluation names it",
        mends=False,
    ),
    "a list of shards far ahead": Damage(
        lambda t: (t.out / "urls/999999.txt").write_text("x"), "urls/999999.txt", "belongs to no snapshot"
    ),
    "a list of shards with another name": Damage(
        lambda t: (t.out / "urls/4.txt").write_text("x"), "urls/4.txt", "not named like"
    ),
    "a hole among snapshots": Damage(
        lambda t: (t.out / "snapshots/000002.json").unlink(), "snapshots/000002.json", "is gone", mends=False
    ),
    "a copy after the latest": Damage(_copy_of_latest, "snapshots/000004.json", "copy of @3"),
    "a copy among snapshots": Damage(
        lambda t: (t.out / "snapshots/000002.json").write_bytes((t.out / "snapshots/000001.json").read_bytes()),
        "snapshots/000002.json",
        "copy of @1",
        mends=False,
    ),
    "a document that is no snapshot": Damage(
        lambda t: (t.out / "snapshots/000003 (1).json").write_text("{}"), "000003 (1).json", "not named like"
    ),
    "a document that is not JSON": Damage(lambda t: cut(t.out / DOCUMENT), DOCUMENT, "not the JSON", mends=False),
    "an empty document": Damage(lambda t: (t.out / DOCUMENT).write_text("{}"), DOCUMENT, "not the JSON", mends=False),
    "an older document's parent": Damage(
        lambda t: t.edit(t.out / "snapshots/000002.json", lambda v: v.update(parent=None)),
        "snapshots/000002.json",
        "`parent`",
    ),
    # --- the snapshot's document ---
    "snapshot": Damage(_set(snapshot=7), DOCUMENT, "`snapshot`"),
    "parent": Damage(_set(parent=1), DOCUMENT, "`parent`"),
    "decision_id": Damage(_set(decision_id=_X), DOCUMENT, "`decision_id`", mends=False),
    "recipe_sha256": Damage(_set(recipe_sha256=_X), DOCUMENT, "`recipe_sha256`", mends=False),
    "score_types": Damage(_set(score_types__phash="int32"), DOCUMENT, "`score_types.phash`"),
    "scores": Damage(_set(scores=lambda v: v[1:]), DOCUMENT, "`scores`"),
    "units.quarantined": Damage(_set(units__quarantined=0), DOCUMENT, "`units.quarantined`"),
    "units.total": Damage(_set(units__total=4), DOCUMENT, "`units.total`"),
    "samples.kept": Damage(_set(samples__kept=lambda n: n + 1), DOCUMENT, "`samples.kept`"),
    "a sample under another reason": Damage(
        _set(samples__filtered=lambda v: {**v, "drop_list": 0, "weights": v["weights"] + 1}),
        DOCUMENT,
        "`samples.filtered.drop_list`",
    ),
    "weights of a model": Damage(_set(weights__clip_score=_X), DOCUMENT, "`weights.clip_score`"),
    "a fingerprint": Damage(_set(fingerprints__phash=_X), DOCUMENT, "`fingerprints.phash`"),
    "against": Damage(_set(against=lambda v: dict.fromkeys(v, 0)), DOCUMENT, "`against"),
    "plan of another snapshot": Damage(_set(plan=_X), f"plans/{_X}.json", "is gone", mends=False),
    "scores_url": Damage(_set(scores_url=lambda v: v + "-2"), DOCUMENT, "`scores_url`"),
    "a filter's threshold": Damage(
        lambda t: t.edit(t.out / DOCUMENT, lambda v: v["recipe"]["filters"][2]["top_fraction"].update(fraction=0.1)),
        DOCUMENT,
        "`recipe",
        mends=False,
    ),
    "an unreadable recipe": Damage(_set(recipe={"corpus": 3}), DOCUMENT, "`recipe`", mends=False),
    "hash of the list of shards": Damage(_set(shards__sha256=_X), DOCUMENT, "`shards.sha256`"),
    "size of the manifest's index": Damage(_set(manifest__bytes=1), DOCUMENT, "`manifest.bytes`"),
    "name of the urls": Damage(_set(urls__key=f"data/urls-{'0' * 16}.txt"), DOCUMENT, "`urls.key`"),
    # --- the plan ---
    "plan gone": Damage(lambda t: t.plan.unlink(), _of("plan"), "is gone"),
    "plan not JSON": Damage(lambda t: cut(t.plan), _of("plan"), "not JSON"),
    "units of the plan": Damage(lambda t: t.edit(t.plan, lambda v: v.update(units=4)), _of("plan"), "`units`"),
    "fingerprints of the plan": Damage(
        lambda t: t.edit(t.plan, lambda v: v["fingerprints"].update(phash=_X)), _of("plan"), "`fingerprints.phash`"
    ),
    "page gone": Damage(lambda t: t.page.unlink(), _of("page"), "is gone"),
    "page flipped": Damage(lambda t: flip(t.page), _of("page"), ""),
    "a shard left out of the page": Damage(_page_edit(_dropped), _of("page"), "rows"),
    "an etag of the page": Damage(_page_edit(column("etag", first(lambda v: "0" * 32))), _of("page"), "`etag`"),
    # --- input shards ---
    "an input shard gone": Damage(
        lambda t: (t.root / "corpus/00001.tar").unlink(), "corpus/00001.tar", "is gone", mends=False
    ),
    "an input shard replaced": Damage(
        lambda t: flip(t.root / "corpus/00001.tar", 600), "corpus/00001.tar", "etag", mends=False
    ),
    # --- score tables ---
    "index flipped": Damage(lambda t: flip(t.table("index")), _table("index"), "index of 00001.tar"),
    "index gone": Damage(lambda t: t.table("index").unlink(), _table("index"), "is gone"),
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
    "record of the index gone": Damage(lambda t: t.scored("index").unlink(), _scored("index"), "is gone"),
    "reason of a whole shard": Damage(
        lambda t: t.edit(t.scored("index", "90001.tar"), lambda v: v.update(reason=None)),
        _scored("index", "90001.tar"),
        "`reason`",
    ),
    "score table gone": Damage(lambda t: t.table("clip_score").unlink(), _table("clip_score"), "is gone"),
    "score table flipped": Damage(lambda t: flip(t.table("embedding")), _table("embedding"), "embedding of 00001.tar"),
    "score table cut": Damage(lambda t: cut(t.table("image_stats")), _table("image_stats"), "image_stats of 00001.tar"),
    "score record gone": Damage(lambda t: t.scored("phash").unlink(), _scored("phash"), "has not been scored"),
    "score record not JSON": Damage(lambda t: cut(t.scored("phash")), _scored("phash"), "not the JSON"),
    "samples of a score record": Damage(
        lambda t: t.edit(t.scored("clip_score"), lambda v: v.update(seen=3)), _scored("clip_score"), "`seen`"
    ),
    "etag of a score record": Damage(
        lambda t: t.edit(t.scored("clip_score"), lambda v: v.update(etag="x")), _scored("clip_score"), "`etag`"
    ),
    "records of two shards exchanged": Damage(
        lambda t: swap(t.scored("clip_score"), t.scored("clip_score", "00002.tar")), _scored("clip_score"), "`key`"
    ),
    "tables of two shards exchanged": Damage(
        lambda t: swap(t.table("phash"), t.table("phash", "00002.tar")), _table("phash"), "not those of its name"
    ),
    "poison of rows that have values": Damage(
        lambda t: t.edit(t.scored("clip_score"), lambda v: v.update(poison={"3": "poison_died"})),
        _scored("clip_score"),
        "`poison.",
    ),
    "poison of structs that have values": Damage(
        lambda t: t.edit(t.scored("image_stats"), lambda v: v.update(poison={"3": "poison_hung"})),
        _scored("image_stats"),
        "`poison.",
    ),
    "poison that names no row": Damage(
        lambda t: t.edit(t.scored("embedding"), lambda v: v.update(poison={"abc": "poison_died", "1": 3})),
        _scored("embedding"),
        "`poison.",
    ),
    "records that name each other's tables": Damage(_other_data, _scored("clip_score"), "`data.key`"),
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
    "record gone": Damage(lambda t: t.record.unlink(), _of("record"), "is gone"),
    "record not JSON": Damage(lambda t: cut(t.record), _of("record"), "not the JSON"),
    "a count of the record": Damage(
        lambda t: t.edit(t.record, lambda v: v["inputs"][0].update(kept=99)), _of("record"), "`inputs[0].kept`"
    ),
    "an input of the record": Damage(
        lambda t: t.edit(t.record, lambda v: v["inputs"][0].update(etag="x")), _of("record"), "`inputs[0].etag`"
    ),
    "a shard's hash in the record": Damage(
        lambda t: t.edit(t.record, lambda v: v["shards"][0].update(sha256=_X)), _of("record"), "`shards[0].sha256`"
    ),
    "rows of the record": Damage(
        lambda t: t.edit(t.record, lambda v: v["manifest"].update(rows=1)), _of("record"), "`manifest.rows`"
    ),
    "output shard gone": Damage(lambda t: t.shard.unlink(), _of("shard"), "is gone"),
    "output shard cut": Damage(lambda t: cut(t.shard), _of("shard"), "tar_"),
    "a header of an output shard": Damage(lambda t: flip(t.shard, 3), _of("shard"), ""),
    "a byte of a member, with consistent hashes": Damage(
        lambda t: t.replace(t.shard, bytes(b ^ (n == 700) for n, b in enumerate(t.shard.read_bytes()))),
        _of("shard"),
        "differ from the input's",
    ),
    "a sample left out of an output shard, with consistent hashes": Damage(_without_sample, _of("shard"), "belongs"),
    "manifest part gone": Damage(lambda t: t.part.unlink(), _of("part"), "is gone"),
    "manifest part flipped": Damage(lambda t: flip(t.part), _of("part"), ""),
    "a weight in the manifest, with consistent hashes": Damage(
        lambda t: t.rewrite(t.part, column("weight", first(lambda v: 9.0, where=bool))), _of("part"), "`weight`"
    ),
    "a score in the manifest, with consistent hashes": Damage(
        lambda t: t.rewrite(t.part, column("clip_score", first(lambda v: v + 1e-3))),
        _of("part"),
        "`clip_score`",
        rescore=1.0,
    ),
    "a decision in the manifest, with consistent hashes": Damage(
        lambda t: t.rewrite(t.part, column("decision", first(lambda v: "kept", where=lambda v: v == "filtered"))),
        _of("part"),
        "`decision`",
    ),
    "a reason in the manifest, with consistent hashes": Damage(
        lambda t: t.rewrite(t.part, column("reason", first(lambda v: "other"))), _of("part"), "`reason`"
    ),
    "an offset in the manifest, with consistent hashes": Damage(
        lambda t: t.rewrite(t.part, column("output_offset", first(lambda v: v + 512))), _of("part"), "`output_offset`"
    ),
    "a uid twice in the manifest, with consistent hashes": Damage(
        lambda t: t.rewrite(t.part, _doubled), _of("part"), "rows"
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
    "list of shards gone": Damage(lambda t: t.named("shards").unlink(), _named("shards"), "is gone"),
    "a shard left out of the list, with consistent hashes": Damage(
        lambda t: t.rewrite(t.named("shards"), _dropped), _named("shards"), "rows"
    ),
    "a shard twice in the list, with consistent hashes": Damage(
        lambda t: t.rewrite(t.named("shards"), _doubled), _named("shards"), "rows"
    ),
    "samples of a shard in the list, with consistent hashes": Damage(
        lambda t: t.rewrite(t.named("shards"), column("samples", first(lambda v: v + 1))), _named("shards"), "`samples`"
    ),
    "index of the manifest gone": Damage(lambda t: t.named("manifest").unlink(), _named("manifest"), "is gone"),
    "name of a unit in the index, with consistent hashes": Damage(
        lambda t: t.rewrite(t.named("manifest"), column("unit", first(lambda v: _X))), _named("manifest"), "`unit`"
    ),
    "urls gone": Damage(lambda t: t.named("urls").unlink(), _named("urls"), "is gone"),
    "a line of the urls, with consistent hashes": Damage(
        lambda t: t.replace(t.named("urls"), b"x" + t.named("urls").read_bytes()), _named("urls"), "bytes differ"
    ),
    "published urls gone": Damage(lambda t: (t.out / "urls/000003.txt").unlink(), "urls/000003.txt", "is gone"),
    "a line of the published urls": Damage(
        lambda t: flip(t.out / "urls/000003.txt", 3), "urls/000003.txt", "its lines"
    ),
    "drop list gone": Damage(lambda t: (t.out / _list("drop")(t)).unlink(), _list("drop"), "is gone"),
    "drop list and its source edited": Damage(
        lambda t: [path.write_text("") for path in (t.out / _list("drop")(t), t.root / "drop.txt")],
        _list("drop"),
        "lists.drop",
        mends=False,
    ),
    "list of weights edited": Damage(lambda t: flip(t.out / _list("weights")(t), 3), _list("weights"), "lists.weights"),
    "matches gone": Damage(lambda t: t.named("matches").unlink(), _named("matches"), "is gone"),
    "a match, with consistent hashes": Damage(
        lambda t: t.rewrite(t.named("matches"), column("value", first(lambda v: v + 1))), _named("matches"), "`value`"
    ),
    # --- evaluations ---
    "mean of an evaluation": Damage(
        lambda t: t.edit(t.out / _EVALUATION, lambda v: v["arms"]["curated"]["mean"]["recall@1"].update(mean=0.9)),
        _EVALUATION,
        "`arms.curated.mean.recall@1.mean`",
    ),
    "an evaluation that is not JSON": Damage(lambda t: cut(t.out / _EVALUATION), _EVALUATION, "can't be read"),
}


def _twice(path: Path, name: str) -> None:
    """A key twice in one JSON object, with two values."""
    text = path.read_text()
    path.write_text(text[:-1] + f',"{name}":{json.dumps(json.loads(text)[name])}' + "}")


def _copy(path: Path) -> None:
    (path.with_name(f"{_X}.json")).write_bytes(path.read_bytes())


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


#: Damages that are planted together: each is found and named beside the others, and one repair mends all.
TOGETHER: dict[str, dict[str, Damage]] = {
    "documents": {
        "LATEST with a zero before it": Damage(lambda t: (t.out / "LATEST").write_text("03"), "LATEST", "as a run"),
        "an unknown field of the snapshot": Damage(_set(x_extra=1), DOCUMENT, "`x_extra`"),
        "versions of the snapshot's software": Damage(_edit_software, DOCUMENT, "`software"),
        "a group of duplicates that no filter found": Damage(
            _set(groups=[{"filter": "x", "samples": 2, "stays": "0" * 32, "goes": ["1" * 32]}]), DOCUMENT, "`groups`"
        ),
        "an unknown field of a commit record": Damage(
            lambda t: t.edit(t.record, lambda v: v.update(x_extra={})), _of("record"), "`x_extra`"
        ),
        "an unknown field of the plan": Damage(
            lambda t: t.edit(t.plan, lambda v: v.update(x_extra=0)), _of("plan"), "`x_extra`"
        ),
        "an unknown field of a score record": Damage(
            lambda t: t.edit(t.scored("phash"), lambda v: v.update(x_extra=[])), _scored("phash"), "`x_extra`"
        ),
        "the column of a score record": Damage(
            lambda t: t.edit(t.scored("clip_score"), lambda v: v.update(column="clip")),
            _scored("clip_score"),
            "`column`",
        ),
        "the column of an index record": Damage(
            lambda t: t.edit(t.scored("index"), lambda v: v.update(column="phash")), _scored("index"), "`column`"
        ),
        "software of a score record that is no digest": Damage(
            lambda t: t.edit(t.scored("embedding"), lambda v: v.update(software="x")),
            _scored("embedding"),
            "`software`",
        ),
        "software of a score record that nobody has": Damage(
            lambda t: t.edit(t.scored("image_stats"), lambda v: v.update(software="0" * 16)),
            _scored("image_stats"),
            "`software`",
        ),
        "a file of versions": Damage(
            lambda t: t.edit(_versions(t), lambda v: v.update(torch="0")), "scores/software/", "not those of its name"
        ),
        "a file of versions under another name": Damage(
            lambda t: (t.scores / "software/x.json").write_text("{}"), "software/x.json", "not named like"
        ),
        "a commit record under another name": Damage(lambda t: _copy(t.record), f"units/{_X}.json", "another unit"),
        "a score record under another name": Damage(
            lambda t: _copy(t.scored("phash", "00002.tar")), f"scores/units/{_X}.json", "another unit"
        ),
        "a plan under another name": Damage(lambda t: _copy(t.plan), f"plans/{_X}.json", "not the hash"),
        "a commit record of another dataset": Damage(
            _foreign_record, lambda t: next((t.root / "eval/units").glob("*.json")).name, "is gone"
        ),
    },
    "keys that stand twice": {
        "in a commit record": Damage(lambda t: _twice(t.record, "kept"), _of("record"), "not the JSON"),
        "in the plan": Damage(lambda t: _twice(t.plan, "units"), _of("plan"), "is not JSON"),
        "in a copy of the plan": Damage(lambda t: _copy(t.plan), f"plans/{_X}.json", "twice"),
        "a field in capitals": Damage(
            lambda t: t.edit(t.out / DOCUMENT, lambda v: _other_case(v, "units")), DOCUMENT, "`UNITS`"
        ),
    },
    "tables": {
        "manifest parts exchanged": Damage(lambda t: swap(t.part, _other_part(t)), _of("part"), "rows"),
        "rows of the manifest's index reversed": Damage(
            lambda t: t.rewrite(t.named("manifest"), _reversed), _named("manifest"), "row 0"
        ),
        "lines of the urls that end otherwise": Damage(
            lambda t: (t.out / "urls/000003.txt").write_bytes(
                (t.out / "urls/000003.txt").read_bytes().replace(b"\n", b"\r\n")
            ),
            "urls/000003.txt",
            "lines",
        ),
        "an evaluation under another name": Damage(
            lambda t: (t.out / f"evaluations/000003-{'f' * 64}.json").write_bytes((t.out / _EVALUATION).read_bytes()),
            f"000003-{'f' * 64}.json",
            "it is a copy",
        ),
        "zeros after the last output shard": Damage(
            lambda t: (t.out / t.rows("shards")[-1]["key"]).open("ab").write(bytes(10240)),
            lambda t: t.rows("shards")[-1]["key"],
            "belong to no sample",
        ),
        "an index without the end of its footer": Damage(lambda t: _footer(t.named("shards")), _named("shards"), ""),
        "rows of the plan's page reversed": Damage(_page_edit(_reversed), _of("page"), "row 0"),
    },
    "score tables": {
        "values of another type": Damage(
            lambda t: t.forged(t.table("clip_score"), _floats), lambda t: t.scored("clip_score").stem, "are double"
        ),
        "rows reversed": Damage(
            lambda t: t.forged(t.table("phash"), _reversed), lambda t: t.scored("phash").stem, "not those of the unit"
        ),
        "a row twice": Damage(
            lambda t: t.forged(t.table("image_stats"), _doubled), lambda t: t.scored("image_stats").stem, "uids"
        ),
        "a detail in the index, forged": Damage(
            lambda t: t.forged(t.table("index", "00000.tar"), column("detail", first(lambda v: "fine"))),
            lambda t: t.scored("index", "00000.tar").stem,
            "`detail`",
        ),
        "a key twice in an index record": Damage(
            lambda t: _twice(t.scored("index", "90000.tar"), "seen"), _scored("index", "90000.tar"), "not the JSON"
        ),
        "a number that is a float": Damage(
            lambda t: t.edit(t.scored("index", "00002.tar"), lambda v: v.update(seen=float(v["seen"]))),
            _scored("index", "00002.tar"),
            "`seen`",
        ),
        "a key in capitals": Damage(
            lambda t: t.edit(t.scored("phash", "00002.tar"), lambda v: _other_case(v, "etag")),
            _scored("phash", "00002.tar"),
            "`etag`",
        ),
        "rows of the index reversed": Damage(
            lambda t: t.forged(t.table("index"), _reversed), lambda t: t.scored("index").stem, "row 0"
        ),
    },
}
