"""A pipeline and the records of its units."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from builders import PLAIN, write_corpus, write_recipe
from click.testing import CliRunner
from inline_executor import InlineExecutor
from running import curate

import curation as cu
from curation.core import software
from curation.core.digest import canonical, digest
from curation.core.errors import RecipeError
from curation.core.types import ShardRef
from curation.curating import planning, run
from curation.curating.pipeline import pipeline, pipeline_of
from curation.curating.planning import lacked_columns, lacking_units
from curation.curating.scoring import dispatch
from curation.ledger.documents import ScoreRecord, SnapshotDocument
from curation.ledger.ledger import Ledger
from curation.recipes.curation_recipe import load_recipe
from curation.storage.store import open_store
from jobs.cli import _main
from jobs.commands.inspect import show


@pytest.mark.slow
def test_lacked_columns_are_those_of_all_pages_each_once() -> None:
    assert lacked_columns(planning.no_units()) == []
    units = ((ShardRef(f"{n:06d}.tar", 1, "e"), ["b"] if n < 12_000 else ["a", "b"]) for n in range(25_000))
    assert lacked_columns(lacking_units(units)) == ["a", "b"]


@pytest.mark.slow
def test_no_run_reads_what_a_run_has_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`corpus: pool`, `output: pool/curated` kept 40, 80, 160 and 320 samples over four runs."""
    write_corpus(tmp_path / "pool", 2, 20, flaws=False)
    inside = write_recipe(tmp_path / "in.yaml", f"{tmp_path}/pool", f"{tmp_path}/pool/curated", "", "", **PLAIN)
    with pytest.raises(RecipeError, match=r"output: .*/pool/curated is inside the corpus .*/pool"):
        curate(inside)
    assert not (tmp_path / "pool/curated").exists()
    first = curate(inside, f"output={tmp_path}/out", f"scores={tmp_path}/s").snapshot
    shutil.copytree(tmp_path / "out", tmp_path / "pool/copied")  # or written by an earlier version
    capsys.readouterr()
    again = curate(inside, f"output={tmp_path}/again", f"scores={tmp_path}/s").snapshot
    assert again.document.samples == first.document.samples and again.document.plan == first.document.plan
    assert "shards of curated datasets below" in capsys.readouterr().err


@pytest.mark.slow
def test_a_snapshot_of_an_earlier_version_is_current_still(tmp_path: Path) -> None:
    """Its plan was named by Parquet bytes; the same shards are no reason for another snapshot."""
    write_corpus(tmp_path / "pool", 2, 20, flaws=False)
    recipe = write_recipe(tmp_path / "r.yaml", f"{tmp_path}/pool", f"{tmp_path}/out", "", "", **PLAIN)
    made = curate(recipe).snapshot
    with pipeline(load_recipe(recipe), dry=True) as work:
        found = planning.current_snapshot(work, planning.make_plan(work, write=False))
        assert found is not None and found.snapshot == 1
        plan, store = work.out.open_plan(made.document.plan), work.out.store
        data = store.get(plan.pages[0].key)
        sha = sha256(data).hexdigest()
        page = {"key": f"plans/pages/{sha}.parquet", "sha256": sha, "units": plan.units}
        before = {**plan.document.to_json(), "pages": [page]}
        store.put(page["key"], data)
        store.put(f"plans/{digest(before)}.json", canonical(before))
        old = work.out.open_plan(digest(before))
        document = {**made.document.to_json(), "plan": old.id, "decision_id": planning.decision_id(work, old)}
        store.put("snapshots/000001.json", canonical(document))
        found = planning.current_snapshot(work, planning.make_plan(work, write=False))
        assert found is not None and found.plan == old.id
    (tmp_path / "pool/00001.tar").unlink()
    with pipeline(load_recipe(recipe), dry=True) as work:
        assert planning.current_snapshot(work, planning.make_plan(work, write=False)) is None


@pytest.mark.slow
def test_a_dataset_can_be_moved_with_its_scores(tmp_path: Path) -> None:
    """`scores_url` is relative where they lie below the output; of earlier versions an absolute one is resolved."""
    write_corpus(tmp_path / "pool", 2, 20, flaws=False)
    recipe = write_recipe(tmp_path / "r.yaml", f"{tmp_path}/pool", f"{tmp_path}/out", "", "", **PLAIN)
    made = curate(recipe).snapshot
    assert made.document.scores_url == "./scores"
    (tmp_path / "out").rename(tmp_path / "moved")
    moved = cu.open(f"{tmp_path}/moved")
    there = open_store(f"{tmp_path}/moved/scores").url
    before = SnapshotDocument(**{**moved.document.to_json(), "scores_url": f"file://{tmp_path}/out/scores"})
    for document in (moved.document, before):
        assert document.scores_at(moved.store).url == there
        with pipeline_of(replace(moved, document=document)) as work:
            assert not planning.missing_units(work, work.out.open_plan(document.plan)).num_rows
    shared = curate(recipe, f"scores={tmp_path}/shared", f"output={tmp_path}/other").snapshot
    assert shared.document.scores_url == shared.document.scores_at(shared.store).url == f"file://{tmp_path}/shared"


@pytest.mark.slow
def test_the_shards_of_a_snapshot_are_listed_for_other_programs(tmp_path: Path) -> None:
    """`data/*.tar` holds the shards of all snapshots."""
    write_corpus(tmp_path / "pool", 2, 20, flaws=False)
    recipe = write_recipe(tmp_path / "r.yaml", f"{tmp_path}/pool", f"{tmp_path}/out", "", "", **PLAIN)
    first, second = curate(recipe).snapshot, curate(recipe, "filters=[]").snapshot
    for made in (first, second):
        keys = (tmp_path / f"out/urls/{made.number:06d}.txt").read_text().splitlines()
        assert keys == made.shard_keys() and all((tmp_path / "out" / key).is_file() for key in keys)
        shown = CliRunner().invoke(show, [f"{tmp_path}/out@{made.number}"], catch_exceptions=False).stdout
        assert "never glob data/*.tar" in shown and f"urls/{made.number:06d}.txt" in shown
        urls = CliRunner().invoke(show, [f"{tmp_path}/out@{made.number}", "--urls"], catch_exceptions=False).stdout
        assert [url.removeprefix(f"{tmp_path}/out/") for url in urls.splitlines()] == keys
    assert len(list((tmp_path / "out/data").glob("*.tar"))) > len(second.shard_keys())


@pytest.mark.slow
def test_other_versions_are_no_reason_for_another_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_corpus(tmp_path / "pool", 2, 20, flaws=False)
    recipe = write_recipe(tmp_path / "r.yaml", f"{tmp_path}/pool", f"{tmp_path}/out", "", "", **PLAIN)
    made = curate(recipe).snapshot
    ((digest_of, versions),) = made.document.software.items()
    assert versions == software.software() and digest_of == software.software_id(versions)
    records = [json.loads(path.read_text()) for path in (tmp_path / "out/scores/units").iterdir()]
    assert {record["software"] for record in records} == {digest_of}
    assert json.loads((tmp_path / f"out/scores/software/{digest_of}.json").read_text()) == versions
    monkeypatch.setattr(software, "_software", lambda: (("python", "4.0"),))
    with pipeline(load_recipe(recipe)) as work:
        assert planning.current_snapshot(work, planning.make_plan(work)) is not None
    assert curate(recipe).snapshot.number == 1, "nor where two drivers end at once"


def test_plan_says_where_a_cluster_is_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_corpus(tmp_path / "pool", 1, 8, flaws=False)
    recipe = write_recipe(tmp_path / "r.yaml", f"{tmp_path}/pool", f"{tmp_path}/out", "", "", **PLAIN)
    asked: list[str | None] = []

    @contextmanager
    def connected(address: str | None = None) -> Iterator[None]:
        asked.append(address)
        yield

    nodes = {"10.0.0.1": software.software(), "10.0.0.2": {**software.software(), "torch": "0.1"}, "10.0.0.3": None}
    monkeypatch.setattr("actors.ray_cluster.ray_cluster", connected)
    monkeypatch.setattr("actors.software.software_of_nodes", lambda: nodes)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert _main(["plan", str(recipe)]) == 0
    assert asked == [] and "warning" not in capsys.readouterr().err, "no cluster was named"
    assert _main(["plan", str(recipe), "--address", "ray://head:10001", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["units"] == 1 and asked == ["ray://head:10001"]
    assert "warning: nodes differ in torch: " in said.err and "0.1 on 1 node (such as 10.0.0.2)" in said.err
    assert "warning: 1 node did not answer: 10.0.0.3; " in said.err
    nodes |= dict.fromkeys(nodes, software.software())
    assert _main(["plan", str(recipe), "--address", "ray://head:10001"]) == 0
    assert "warning" not in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_reads_each_commit_record_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks once whether there is one; the decision reads what is new, and the writers receive it."""
    write_corpus(tmp_path / "pool", 3, 20, flaws=False)
    scorers: list[dict[str, Any]] = [{"caption_stats": {}}, {"phash": {}}]
    filters: list[dict[str, Any]] = [{"threshold": {"score": "caption_stats.words", "min": 2}}]
    recipe = write_recipe(
        tmp_path / "r.yaml", f"{tmp_path}/pool", f"{tmp_path}/out", "", "", scorers=scorers, filters=filters
    )
    asked, read = Counter[str](), Counter[str]()
    find = Ledger.find

    def counted(self: Ledger, unit: str, kind: Any) -> Any:
        found = find(self, unit, kind)
        if kind is ScoreRecord:
            (asked if found is None else read)[unit] += 1
        return found

    monkeypatch.setattr(Ledger, "find", counted)
    monkeypatch.setattr(dispatch, "FRESH_SECONDS", 1e9)  # a slow machine must not make workers ask again
    executor = InlineExecutor(tmp_path / "places")
    assert run.curate(recipe, executor=executor).number == 1
    assert len(asked) == len(read) == 3 * 3 and set(asked.values()) == set(read.values()) == {1}
    asked.clear(), read.clear()
    changed = ["filters.threshold.min=3"]
    assert run.curate(recipe, overrides=changed, executor=executor).number == 2
    assert not asked and len(read) == 3 * 3 and set(read.values()) == {1}, "to see that nothing is to be scored"
    read.clear()
    assert run.curate(recipe, overrides=changed, executor=executor).number == 2
    assert not asked and not read
