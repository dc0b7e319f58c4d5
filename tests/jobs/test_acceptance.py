"""A run that keeps nothing, or too little, makes no snapshot and says why; accepted, it goes on at no scoring cost."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import running
from builders import write_corpus, write_recipe, write_weights
from safetensors.torch import load_file, save_file

import curation as cu
from curation.core.errors import YieldError
from curation.curating import planning
from curation.curating.pipeline import pipeline
from curation.recipes.curation_recipe import load_recipe
from jobs.cli import _main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("inline")]
STRICT = "limits.max_quarantined=0.05"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("acceptance")
    write_corpus(root / "corpus", 2, 20, flaws=False)
    sha = write_weights(root / "w.safetensors")
    write_recipe(root / "r.yaml", f"{root}/corpus", f"{root}/out", f"{root}/w.safetensors", sha)
    return root


def curate(recipe: Path, *overrides: str, accept: bool = False) -> running.Curated:
    return running.curate(recipe, *overrides, accept_yield=accept)


def objects(root: Path, *folders: str) -> set[str]:
    return {str(path) for folder in folders for path in (root / folder).rglob("*") if path.is_file()}


def test_a_scorer_that_gives_no_number_ends_with_exit_code_5_and_its_name(
    home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tensors = {name: tensor * float("nan") for name, tensor in load_file(home / "w.safetensors").items()}
    save_file(tensors, tmp_path / "nan.safetensors")
    sha = hashlib.sha256((tmp_path / "nan.safetensors").read_bytes()).hexdigest()
    recipe = write_recipe(
        tmp_path / "r.yaml", f"{home}/corpus", f"{tmp_path}/out", f"{tmp_path}/nan.safetensors", sha, limits={}
    )
    assert _main(["run", str(recipe), "--json"]) == 5
    error = json.loads(capfd.readouterr().err.splitlines()[-1])
    assert error["error"] == "low_yield" and "--accept-yield" in error["fix"]
    assert "score_not_finite 40 (clip_score is NaN or missing for 40)" in error["message"]
    assert not objects(tmp_path / "out", "data", "units", "snapshots") and not (tmp_path / "out" / "LATEST").exists()
    assert _main(["run", str(recipe), "--json", "--accept-yield"]) == 0
    work = json.loads(capfd.readouterr().out)
    assert (work["snapshot"], work["units_scored"], work["model_batches"]) == (1, 0, 0), "nothing is scored again"
    assert _main(["run", str(recipe), "--json"]) == 0, "a current snapshot is not judged again"


def test_a_corpus_of_error_pages_makes_no_snapshot(home: Path, tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    for n in range(3):
        (tmp_path / "corpus" / f"{n}.tar").write_bytes(b"<html>503 slow down</html>" + b" " * 2000)
    where = (f"corpus={tmp_path}/corpus", f"output={tmp_path}/out")
    with pytest.raises(YieldError, match=r"100.0% of the shards are quarantined, 3 of 3"):
        curate(home / "r.yaml", *where, STRICT)
    with pytest.raises(YieldError, match="none of 0 samples is kept"):
        curate(home / "r.yaml", *where)
    assert curate(home / "r.yaml", *where, accept=True).snapshot.document["samples"]["seen"] == 0


def test_what_falls_below_half_of_the_last_snapshot_is_refused_until_it_is_accepted(home: Path) -> None:
    first, _ = curate(home / "r.yaml")
    few = "filters.top_fraction.fraction=0.1"
    with pytest.raises(YieldError, match=r"less than half of the .* last snapshot: top_fraction.clip_score \d+"):
        curate(home / "r.yaml", few)
    assert cu.open(f"{home}/out").number == first.number
    second, work = curate(home / "r.yaml", few, accept=True)
    assert second.document["parent"] == first.number and work.units_scored == 0
    assert curate(home / "r.yaml", few).snapshot.number == second.number, "the scheduler's next night"
    curate(home / "r.yaml")  # more than before is no fall


def test_the_limit_changes_no_score_and_no_decision(home: Path) -> None:
    one, other = (load_recipe(home / "r.yaml", [f"limits.max_quarantined={share}"]) for share in (0.5, 0.01))
    assert one.fingerprints == other.fingerprints and one.max_quarantined == 0.5
    with pipeline(one, dry=True) as a, pipeline(other, dry=True) as b:
        plans = [planning.make_plan(work, write=False) for work in (a, b)]
        assert planning.decision_id(a, plans[0]) == planning.decision_id(b, plans[1])
