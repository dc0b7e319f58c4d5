"""The trust of a repair: it never replaces an intact value by an edited one.

| what                                | trusted because                                                               |
|-------------------------------------|-------------------------------------------------------------------------------|
| input shards                        | their etags are pinned by the plan, whose name is a hash of its rows          |
| uids, sizes, captions, reasons, ... | recomputed from the input shards                                              |
| details of reasons                  | recomputed on the software that worded them; else table and manifest agree     |
| scores                              | table and manifest agree; where they don't, `--rescore` recomputes them       |
| decisions, weights                  | recomputed; a unit's name is a hash over its decisions                        |
| output shards, manifest, indexes    | recomputed, to the byte                                                       |
| the recipe                          | its two hashes (`recipe_sha256`, `decision_id`), which no repair makes to fit |
| versions of software                | each digest is a hash of its versions                                         |

`UNSEEN` is what nothing contradicts: it follows from no input, and no second object has it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from damaged_tree import DOCUMENT, Tree, column, first, found

from curation.core.digest import digest
from curation.storage.parquet import from_parquet

pytestmark = pytest.mark.slow


def _exchanged(values: list[Any]) -> None:
    """Two scores change places: the same decisions, the same sum."""
    rows = [n for n, value in enumerate(values) if value is not None]
    values[rows[0]], values[rows[1]] = values[rows[1]], values[rows[0]]


def _score(tree: Tree) -> None:
    tree.forged(tree.table("image_stats", "00000.tar"), _in_struct)


def _in_struct(table: Any) -> Any:
    def edit(values: list[dict[str, Any]]) -> None:
        value = next(one for one in values if one and one["sharpness"] is not None)
        value["sharpness"] += 1e-3

    return column("value", edit)(table)


def _hashes(tree: Tree) -> None:
    tree.forged(tree.table("phash", "00000.tar"), column("value", _exchanged))


def _objects(tree: Tree) -> dict[Path, bytes]:
    """The objects that must not change: all but score tables."""
    folders = ("data", "units", "snapshots", "urls")
    return {path: path.read_bytes() for name in folders for path in (tree.out / name).iterdir()}


SCORES: dict[str, Callable[[Tree], None]] = {"a score in its table": _score, "scores exchanged": _hashes}


@pytest.mark.parametrize("name", SCORES)
def test_an_edited_score_table_does_not_get_into_the_manifest(name: str, tree: Tree) -> None:
    """The plain repair refuses in one line that says how to decide; the models decide for the manifest."""
    before = _objects(tree)
    SCORES[name](tree)
    (refused,) = found(tree, apply=True)
    assert refused.code == "manifest_part" and "no checksum tells which is right" in refused.why
    assert "--rescore 1.0 --apply" in refused.why and "\n" not in refused.why and _objects(tree) == before
    (mended,) = found(tree, 1.0, apply=True)
    assert mended.code == "score_value" and _objects(tree) == before
    assert found(tree, 1.0) == []


def test_an_edited_score_of_the_manifest_is_mended_by_the_models(tree: Tree) -> None:
    before = from_parquet(tree.part.read_bytes())
    tree.forged(tree.part, column("clip_score", _exchanged))
    (refused,) = found(tree, apply=True)
    assert refused.code == "manifest_part" and refused.why
    assert all(item.mended for item in found(tree, 1.0, apply=True))
    assert from_parquet(tree.part.read_bytes()).equals(before) and found(tree) == []


def test_a_manifest_that_is_gone_is_not_rebuilt_from_an_edited_table(tree: Tree) -> None:
    """The hash in its name says that the table gives another one; also where an object of the table's content lies
    there under a name that no document has."""
    part, before = tree.part, tree.part.read_bytes()
    _score(tree)
    part.unlink()
    assert [item.code for item in found(tree, apply=True) if item.why] == ["manifest_part"] and not part.exists()
    found(tree, 1.0, apply=True)
    assert part.read_bytes() == before and found(tree, 1.0) == []


def test_details_are_those_of_the_input_shards(tree: Tree) -> None:
    """An edited table is put right and the manifest left; an edited manifest is put right."""
    before = _objects(tree)
    tree.forged(tree.table("index", "00000.tar"), column("detail", first(lambda value: "fine")))
    assert {item.code for item in found(tree, apply=True)} == {"score_table", "score_record"}
    assert _objects(tree) == before and found(tree) == []
    part = from_parquet(tree.part.read_bytes())
    tree.forged(tree.part, column("detail", first(lambda value: "fine")))
    assert all(item.mended for item in found(tree, apply=True))
    assert from_parquet(tree.part.read_bytes()).equals(part) and found(tree) == []


def test_details_in_words_of_another_version_stay(tree: Tree) -> None:
    """They can't be recomputed here: a difference is not settled, and neither is overwritten."""
    tree.edit(tree.scored("index", "00000.tar"), lambda value: value.update(software=None))
    tree.forged(tree.table("index", "00000.tar"), column("detail", first(lambda value: "worded otherwise")))
    before = _objects(tree)
    (refused,) = found(tree, apply=True)
    assert refused.code == "manifest_part" and "another version" in refused.why and _objects(tree) == before


@pytest.mark.parametrize("also", [(), ("recipe_sha256",)], ids=["with its hash left", "with its hash"])
def test_an_edited_recipe_is_not_made_to_fit(also: tuple[str, ...], tree: Tree) -> None:
    """A threshold that happens to give the same decisions, and settings that decide nothing."""
    recipe = tree.document["recipe"]
    recipe["filters"][2]["top_fraction"]["fraction"] = 0.9000001
    tree.change(recipe=recipe, **{name: digest(recipe) for name in also})
    before = _objects(tree)
    (refused,) = found(tree, apply=True)
    assert refused.object.endswith(DOCUMENT) and "`decision_id`" in refused.what and refused.why
    assert _objects(tree) == before


def test_other_weights_in_the_recipe_are_no_other_version(tree: Tree) -> None:
    recipe = tree.document["recipe"]
    recipe["scorers"][0]["clip_score"]["sha256"] = "0" * 64
    tree.change(recipe=recipe, recipe_sha256=digest(recipe), weights__clip_score="0" * 64)
    assert any("`recipe.scorers.clip_score`" in item.what and item.why for item in found(tree))


UNSEEN: dict[str, Callable[[Tree], Any]] = {
    "settings that decide nothing, with the recipe's hash": lambda t: t.edit(t.out / DOCUMENT, _batch_size),
    "a score record that forgets its software": lambda t: t.edit(t.scored("phash"), lambda v: v.pop("software")),
    "figures of an evaluation's run, with their means": lambda t: t.edit(
        next((t.out / "evaluations").iterdir()), lambda v: v["arms"]["raw"]["runs"][0].update(seconds=3.0)
    ),
}


def _batch_size(value: dict[str, Any]) -> None:
    value["recipe"]["compute"] = {"batch_size": 63}
    value["recipe_sha256"] = digest(value["recipe"])


def test_what_nothing_contradicts_is_trusted(tree: Tree) -> None:
    """If one of these is found by now, it belongs to the damages."""
    for plant in UNSEEN.values():
        plant(tree)
    assert found(tree) == []
