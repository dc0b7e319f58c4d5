"""What a pipeline knows of its units."""

from __future__ import annotations

import shutil
from hashlib import sha256
from pathlib import Path

import pytest
from builders import PLAIN, curate, write_corpus, write_recipe

from curation.errors import RecipeError
from curation.ledger import canonical, digest
from curation.recipe import load_recipe
from jobs.pipeline import Pipeline, _units, lacked_columns, pipeline


def test_lacked_columns_are_those_of_all_pages_each_once() -> None:
    assert lacked_columns(Pipeline.nothing()) == []
    units = ((f"{n:06d}.tar", 1, "e", ["b"] if n < 12_000 else ["a", "b"]) for n in range(25_000))
    assert lacked_columns(_units(units)) == ["a", "b"]


def test_no_run_reads_what_a_run_has_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`corpus: pool`, `output: pool/curated` kept 40, 80, 160 and 320 samples over four runs."""
    write_corpus(tmp_path / "pool", 2, 20, flaws=False)
    inside = write_recipe(tmp_path / "in.yaml", f"{tmp_path}/pool", f"{tmp_path}/pool/curated", "", "", **PLAIN)
    with pytest.raises(RecipeError, match=r"output: .*/pool/curated lies inside the corpus .*/pool"):
        curate(inside)
    assert not (tmp_path / "pool/curated").exists()
    first = curate(inside, f"output={tmp_path}/out", f"scores={tmp_path}/s")
    shutil.copytree(tmp_path / "out", tmp_path / "pool/copied")  # or written by an earlier version
    capsys.readouterr()
    again = curate(inside, f"output={tmp_path}/again", f"scores={tmp_path}/s")
    assert again.document.samples == first.document.samples and again.document.plan == first.document.plan
    assert "shards of curated datasets below" in capsys.readouterr().err


def test_a_snapshot_of_an_earlier_version_is_current_still(tmp_path: Path) -> None:
    """Its plan was named by Parquet bytes; the same shards are no reason for another snapshot."""
    write_corpus(tmp_path / "pool", 2, 20, flaws=False)
    recipe = write_recipe(tmp_path / "r.yaml", f"{tmp_path}/pool", f"{tmp_path}/out", "", "", **PLAIN)
    made = curate(recipe)
    with pipeline(load_recipe(recipe), dry=True) as work:
        assert (found := work.current(work.plan(write=False))) is not None and found.snapshot == 1
        plan, store = work.out.open_plan(made.document.plan), work.out.store
        data = store.get(plan.pages[0].key)
        sha = sha256(data).hexdigest()
        page = {"key": f"plans/pages/{sha}.parquet", "sha256": sha, "units": plan.units}
        before = {**plan.document.to_json(), "pages": [page]}
        store.put(page["key"], data)
        store.put(f"plans/{digest(before)}.json", canonical(before))
        old = work.out.open_plan(digest(before))
        document = {**made.document.to_json(), "plan": old.id, "decision_id": work.decision_id(old)}
        store.put("snapshots/000001.json", canonical(document))
        assert (found := work.current(work.plan(write=False))) is not None and found.plan == old.id
    (tmp_path / "pool/00001.tar").unlink()
    with pipeline(load_recipe(recipe), dry=True) as work:
        assert work.current(work.plan(write=False)) is None
