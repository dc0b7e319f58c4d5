"""Every planted damage is found and named; a repair rebuilds it or gives the reason; an intact dataset has none."""

from __future__ import annotations

import shutil

import pytest
from damaged_tree import Damage, Tree, column, first, found
from damages import DAMAGES
from joint_damages import TOGETHER
from sampling import one_in

from curation.core.digest import digest
from curation.core.errors import ImageError
from curation.core.software import software_id
from curation.curating.verification.repairs import dry_run
from curation.shards import unit_reader as units
from curation.shards.images import DecodeLimits, ImageHeader
from curation.storage.store import open_store
from jobs.commands.verify import checks

EARLIER = {"tutelage": "0.0.1"}
OTHER = {software_id(EARLIER): EARLIER}


def test_there_are_enough() -> None:
    assert len(DAMAGES) >= 56


@pytest.mark.slow
def test_the_whole_dataset_has_no_finding(tree: Tree) -> None:
    assert found(tree, rescore=1.0) == []


@pytest.mark.slow
def test_a_document_of_an_earlier_version_has_no_finding(tree: Tree) -> None:
    """It names its scores by an absolute URL, and tells nothing of software, of groups and of the list of urls."""
    later = ("software", "groups")
    tree.edit(tree.out / "snapshots/000003.json", lambda value: [value.pop(name, None) for name in later])
    tree.change(scores_url=f"file://{tree.scores}")
    (tree.out / "urls/000003.txt").unlink()
    assert found(tree) == []


@pytest.mark.slow
def test_equal_objects_of_other_runs_are_not_mistaken_for_those_that_are_named(tree: Tree) -> None:
    """Two runs with one list put it twice, under names of their own."""
    for path in list((tree.out / "data").glob("*")):
        unit, sha, nonce = path.name.split("-")
        for other in ("00000000", "ffffffff"):
            shutil.copy(path, path.with_name(f"{unit}-{sha}-{other}.{nonce.partition('.')[2]}"))
    assert found(tree) == []


def test_what_cannot_be_recomputed_is_no_success(tree: Tree) -> None:
    """The dataset that a filter compares with is damaged, and this one is whole: no finding of it, and not verified."""
    for table in (tree.root / "eval/scores/data").glob("*.parquet"):
        table.unlink()
    (finding,) = found(tree)
    assert finding.code == "blocked" and "eval/scores" in finding.what and finding.why


@pytest.mark.slow
def test_a_code_of_decisions_that_changed_since_is_no_damage(tree: Tree) -> None:
    """If the decisions are the same, the document is not changed."""
    tree.change(decision_id="0" * 64, software=OTHER)
    assert found(tree) == []


@pytest.mark.slow
def test_decisions_of_another_version_are_not_overwritten(tree: Tree) -> None:
    """A recipe that now gives other decisions is reported, and no written object is replaced."""
    before = {path: path.read_bytes() for path in (*tree.out.glob("data/*"), *tree.out.glob("units/*"))}
    recipe = tree.document["recipe"]
    recipe["filters"][2]["top_fraction"]["fraction"] = 0.2
    tree.change(recipe=recipe, recipe_sha256=digest(recipe), software=OTHER)
    findings = found(tree, apply=True)
    assert findings and [str(item) for item in findings if item.mended] == []
    assert {path: path.read_bytes() for path in (*tree.out.glob("data/*"), *tree.out.glob("units/*"))} == before


@pytest.mark.slow
def test_another_version_of_the_image_code_is_no_damage(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said plainly, with how many samples it reads otherwise; what does not depend on it is checked."""
    real = units.inspect

    def inspect(image: bytes, limits: DecodeLimits) -> ImageHeader:
        header = real(image, limits)
        if header.format == "webp":
            raise ImageError("image_unsupported", "of a later version")
        return header

    monkeypatch.setattr(units, "IMAGE_CODE_VERSION", units.IMAGE_CODE_VERSION + 1)
    monkeypatch.setattr(units, "inspect", inspect)
    out = open_store(str(tree.out))
    with checks(out, 3, dry_run(out), rescore=1.0, quiet=True) as work:
        assert list(work.findings()) == []
    notes = "\n".join(work.notes)
    assert "another version of the code that decodes pictures, which is no damage" in notes
    assert "samples can be used by one of the two versions" in notes and "--rescore compares nothing" in notes
    tree.forged(tree.table("index"), column("caption", first(lambda v: "a dog")))
    tree.edit(tree.record, lambda value: value["inputs"][0].update(kept=99))
    findings = found(tree)
    assert any("`caption`" in item.what and item.why for item in findings)
    assert any(tree.record.name in item.object for item in findings)


@pytest.mark.slow
@pytest.mark.parametrize("name", one_in(20, DAMAGES, tested=8))
def test_damage_is_found_and_repaired(name: str, tree: Tree) -> None:
    damage: Damage = DAMAGES[name]
    where = damage.object if isinstance(damage.object, str) else damage.object(tree)
    damage.plant(tree)
    findings = found(tree, damage.rescore)
    assert any(where in item.object and damage.field in item.what for item in findings), list(map(str, findings))
    assert all(bool(item.how) != bool(item.why) for item in findings)
    assert not any("corpus/" in item.object for item in findings) or "corpus/" in where, "blames an intact input"
    repaired = found(tree, damage.rescore, apply=True)
    left = found(tree, damage.rescore)
    if damage.repairable:
        assert left == [] and all(item.mended for item in repaired)
    else:
        assert left and any(where in item.object and item.why for item in repaired)


@pytest.mark.slow
@pytest.mark.parametrize("group", TOGETHER)
def test_damages_together_are_found_and_repaired(group: str, tree: Tree) -> None:
    damages = TOGETHER[group]
    where = {name: one.object if isinstance(one.object, str) else one.object(tree) for name, one in damages.items()}
    for damage in damages.values():
        damage.plant(tree)
    findings = found(tree)
    for name, damage in damages.items():
        assert any(where[name] in one.object and damage.field in one.what for one in findings), (name, findings)
    assert all(bool(item.how) != bool(item.why) for item in findings)
    assert not any("corpus/" in item.object for item in findings), "blames an intact input"
    assert [item for item in found(tree, apply=True) if not item.mended] == []
    assert found(tree, 1.0) == []
