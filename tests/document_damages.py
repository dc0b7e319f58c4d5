"""Damages of the documents of a dataset: `LATEST`, the chain of snapshots, a snapshot's document, plans."""

from __future__ import annotations

import json
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
    first,
    flip,
    object_of,
    page_edit,
    set_fields,
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


def _dropped(values: pa.Table) -> pa.Table:
    return values.slice(1)


DOCUMENT_DAMAGES: dict[str, Damage] = {
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
}
