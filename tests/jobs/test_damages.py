"""Every planted damage is found and named; a repair mends it, or says why it can't; the whole dataset has none."""

from __future__ import annotations

import shutil

import pytest
from damages import DAMAGES, Damage, Tree

from curation.ledger import digest
from curation.store import open_store
from curation.verification.findings import Finding
from curation.verification.repairs import dry, started
from curation.verification.repairs import finished as written_down
from jobs.verify import checks


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


def test_there_are_enough() -> None:
    assert len(DAMAGES) >= 56


def test_the_whole_dataset_has_no_finding(tree: Tree) -> None:
    assert found(tree, rescore=1.0) == []


def test_a_document_of_an_earlier_version_has_no_finding(tree: Tree) -> None:
    """It names its scores by an absolute URL, and tells nothing of software, of groups and of the list of urls."""
    later = ("software", "groups")
    tree.edit(tree.out / "snapshots/000003.json", lambda value: [value.pop(name, None) for name in later])
    tree.change(scores_url=f"file://{tree.scores}")
    (tree.out / "urls/000003.txt").unlink()
    assert found(tree) == []


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


def test_a_code_of_decisions_that_changed_since_is_no_damage(tree: Tree) -> None:
    """Where the decisions are the same: the document is left as it is."""
    tree.change(decision_id="0" * 64, software={"0" * 16: {"tutelage": "0.0.1"}})
    assert found(tree) == []


def test_decisions_of_another_version_are_not_overwritten(tree: Tree) -> None:
    """A recipe that now gives other decisions is said to, and nothing is put in the place of what was made."""
    before = {path: path.read_bytes() for path in (*tree.out.glob("data/*"), *tree.out.glob("units/*"))}
    recipe = tree.document["recipe"]
    recipe["filters"][2]["top_fraction"]["fraction"] = 0.2
    tree.change(recipe=recipe, recipe_sha256=digest(recipe), software={"0" * 16: {"tutelage": "0.0.1"}})
    findings = found(tree, apply=True)
    assert findings and [str(item) for item in findings if item.mended] == []
    assert {path: path.read_bytes() for path in (*tree.out.glob("data/*"), *tree.out.glob("units/*"))} == before


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found_and_mended(name: str, tree: Tree) -> None:
    damage: Damage = DAMAGES[name]
    where = damage.object if isinstance(damage.object, str) else damage.object(tree)
    damage.plant(tree)
    findings = found(tree, damage.rescore)
    assert any(where in item.object and damage.field in item.what for item in findings), list(map(str, findings))
    assert all(bool(item.how) != bool(item.why) for item in findings)
    assert not any("corpus/" in item.object for item in findings) or "corpus/" in where, "blames an intact input"
    repaired = found(tree, damage.rescore, apply=True)
    left = found(tree, damage.rescore)
    if damage.mends:
        assert left == [] and all(item.mended for item in repaired)
    else:
        assert left and any(where in item.object and item.why for item in repaired)
