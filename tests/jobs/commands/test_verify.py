"""`curate verify` and `curate repair` as Ray tasks, and as commands. What they find is in `test_damages`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from damaged_tree import Tree, column, first
from damages import DAMAGES
from inline_executor import InlineExecutor

import curation as cu
from jobs.cli import _main
from jobs.commands.verify import problems_of

pytestmark = pytest.mark.slow


def record_of_repair(tree: Tree) -> dict:
    (path,) = (tree.out / "repairs").glob("*.json")
    return json.loads(path.read_text())


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_on_ray_damage_is_found_and_repaired(tree: Tree) -> None:
    """Tasks check, actors score again, what is lost is scored by the pool."""
    tree.forged(tree.table("clip_score"), column("value", first(lambda v: v + 1e-3)))
    tree.table("embedding").unlink()
    tree.shard.unlink()
    assert _main(["repair", str(tree.out), "--rescore", "1.0", "--apply"]) == 0
    codes = {item["code"] for item in record_of_repair(tree)["mended"]}
    assert {"score_value", "score_table", "shard"} <= codes
    assert problems_of(cu.open(str(tree.out)), rescore=1.0) == []


def test_verify_as_a_command(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tree.out)
    assert _main(["verify", out]) == 0
    assert f"{tree.document['samples']['seen']} samples in, " in capsys.readouterr().out
    shard = tree.shard
    shard.unlink()
    assert _main(["verify", out, "--json"]) == 4
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert not found["ok"] and found["findings"][0]["object"].endswith(shard.name)
    assert found["findings"][0]["code"] == "shard" and found["findings"][0]["how"]
    assert json.loads(captured.err.splitlines()[-1])["error"] == "verify_failed"
    assert _main(["verify", out]) == 4
    assert shard.name in capsys.readouterr().err


def test_what_a_model_prints_is_not_on_stdout(
    tree: Tree, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from curation.scorers.clip_score import ClipScore

    here = InlineExecutor(tree.root / "places")  # a worker's process would not see the patch
    monkeypatch.setattr("curation.core.local_executor.LocalExecutor", lambda: here)
    load = ClipScore.load
    monkeypatch.setattr(ClipScore, "load", lambda *given: print("loading the model ...") or load(*given))
    assert _main(["verify", str(tree.out), "--rescore", "1.0", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["ok"] and "loading the model ..." in captured.err


def test_a_repair_is_dry_unless_told_and_the_second_has_nothing_to_do(
    tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    shard, record = tree.shard, tree.record
    before = {path: path.read_bytes() for path in (shard, record)}
    shard.unlink()
    tree.edit(record, lambda value: value["manifest"].update(rows=1))
    damaged = record.read_bytes()
    assert _main(["repair", str(tree.out)]) == 0
    said = capsys.readouterr().out
    assert "would repair" in said and "--apply" in said and not (tree.out / "repairs").exists() and not shard.exists()
    assert _main(["repair", str(tree.out), "--apply"]) == 0
    assert {path: path.read_bytes() for path in (shard, record)} == before
    kept = record_of_repair(tree)
    assert [item["code"] for item in kept["mended"]] == ["shard", "record"] and kept["not_mended"] == []
    (aside,) = (tree.out / "repairs").glob(f"*/aside/units/{record.name}")
    assert aside.read_bytes() == damaged
    capsys.readouterr()
    assert _main(["repair", str(tree.out), "--apply"]) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_unrepairable_damage_is_reported(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    DAMAGES["an input shard gone"].plant(tree)
    assert _main(["repair", str(tree.out), "--apply"]) == 4
    captured = capsys.readouterr()
    assert "can't: restore these bytes" in captured.out and "corpus/00001.tar" in captured.err
    assert record_of_repair(tree)["not_mended"][0]["code"] == "input"


@pytest.mark.parametrize("damage", ["latest snapshot deleted", "a hole among snapshots", "a document that is not JSON"])
def test_a_lost_snapshot_is_given_up_when_told(damage: str, tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    DAMAGES[damage].plant(tree)
    assert _main(["repair", str(tree.out), "--accept-loss", "--apply"]) == 0
    assert record_of_repair(tree)["lost"] == ([2] if "hole" in damage else [3])
    assert _main(["verify", str(tree.out)]) == 0
    assert cu.open(str(tree.out)).number == (3 if "hole" in damage else 2)


@pytest.mark.slow
@pytest.mark.parametrize("after", [range(1, 40, 3), pytest.param(range(1, 40), marks=pytest.mark.soak)], ids=len)
def test_a_repair_that_is_killed_is_repeated(after: range, tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after these numbers of puts in turn: repaired objects are whole, and the others are found again."""
    from curation.storage.store import Store

    class Killed(BaseException):
        pass

    shard, whole = tree.shard, tree.shard.read_bytes()
    puts = {name: getattr(Store, name) for name in ("put", "put_file", "create", "delete")}
    for last in after:
        for name in ("output shard gone", "record not JSON", "urls gone", "score record gone", "plan not JSON"):
            DAMAGES[name].plant(tree)
        left = iter(range(last))

        def killing(name: str, left: Iterator[int] = left):
            def call(self: Store, *args: object) -> object:
                if next(left, None) is None:
                    raise Killed
                return puts[name](self, *args)

            return call

        for name in puts:
            monkeypatch.setattr(Store, name, killing(name))
        try:
            code = _main(["repair", str(tree.out), "--apply"])
        except Killed:
            code = None
        for name, put in puts.items():
            monkeypatch.setattr(Store, name, put)
        if code == 0:
            break
        assert _main(["repair", str(tree.out), "--apply"]) == 0
        assert problems_of(cu.open(str(tree.out))) == [] and shard.read_bytes() == whole
    assert code == 0 and last > 8


@pytest.mark.slow
def test_older_snapshots_are_checked_when_asked(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Shared objects are checked once; damage of an object of one snapshot is found and repaired, too."""
    from curation.curating.verification.score_tables import ScoredCheck
    from curation.curating.verification.write_units import WrittenCheck

    read, written = list[str](), list[str]()
    rows, checked = ScoredCheck._rows, WrittenCheck.check

    def check(self: WrittenCheck, item: Any) -> Any:
        written.append(item[0].id)
        return checked(self, item)

    monkeypatch.setattr(
        ScoredCheck, "_rows", lambda self, shard, *rest: read.append(shard.key) or rows(self, shard, *rest)
    )
    monkeypatch.setattr(WrittenCheck, "check", check)
    out = str(tree.out)
    assert _main(["verify", out]) == 0
    assert "not checked: older live snapshots @1 to @2: curate verify" in capsys.readouterr().err
    read.clear(), written.clear()
    assert _main(["verify", out, "--all", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["also_checked"] == [1, 2]
    assert sorted(read) == sorted(set(read)) and len(read) == tree.document["units"]["total"]
    assert len(written) == len(set(written)) > len(tree.rows("manifest"))
    part = tree.part_of(1)
    whole = part.read_bytes()
    part.unlink()
    assert _main(["verify", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["not_checked"] == [1, 2]
    assert _main(["verify", out, "--all"]) == 4
    assert part.name in capsys.readouterr().err
    assert _main(["repair", out, "--all", "--apply"]) == 0
    assert part.read_bytes() == whole and _main(["verify", out, "--all"]) == 0
