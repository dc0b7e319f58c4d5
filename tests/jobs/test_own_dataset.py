"""A recipe that compares with what it has made itself: the first run, the same one again, and one with more data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import write_corpus, write_recipe, write_shard
from running import curate

import curation as cu
from curation.core.errors import NoSnapshotError
from curation.curating import planning
from curation.curating.pipeline import pipeline, pipeline_of
from curation.recipes.curation_recipe import load_recipe
from jobs.commands.matches import find_matches
from jobs.commands.run import run_steps


@pytest.fixture(params=["", "@latest", "/"])
def recipe(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    write_corpus(tmp_path / "corpus", 1, 10, flaws=False)
    filters = [{"decontaminate": {"against": [f"{tmp_path}/out{request.param}"]}}, {"exact_duplicates": {}}]
    return write_recipe(
        tmp_path / "r.yaml", f"{tmp_path}/corpus", f"{tmp_path}/out", "", "", scorers=[], filters=filters
    )


def again(recipe: Path) -> dict[str, Any]:
    """The same run once more, which may need no Ray: its work."""
    with pipeline(load_recipe(recipe)) as work:
        assert planning.current_snapshot(work, planning.make_plan(work, write=False)) is not None
        run_steps(work, None)
        return work.counts.to_json()


@pytest.mark.slow
def test_before_the_first_snapshot_there_is_nothing_to_compare_with(recipe: Path) -> None:
    made = curate(recipe).snapshot
    assert made.document["samples"]["filtered"] == {"exact_duplicates": 1} and made.document["samples"]["kept"] == 9
    assert list(made.document["against"].values()) == [0]
    files = sorted(path for path in recipe.parent.rglob("*") if path.is_file())
    for _ in range(2):
        work = again(recipe)
        assert work["snapshot"] == 1 and not work["new_snapshot"] and work["data_puts"] == 0
    assert sorted(path for path in recipe.parent.rglob("*") if path.is_file()) == files
    with pipeline_of(made) as then:  # as verify asks
        assert then.others.pins == made.document["against"]
        assert planning.decision_id(then, then.out.open_plan(made.document["plan"])) == made.document["decision_id"]


@pytest.mark.slow
def test_more_data_is_compared_with_the_latest_snapshot_and_then_it_is_current(recipe: Path, tmp_path: Path) -> None:
    first = curate(recipe).snapshot
    write_shard(tmp_path / "corpus/00001.tar", 0, 12, flaws=False)  # ten that were there, under other uids, and two new
    second = curate(recipe).snapshot
    assert list(second.document["against"].values()) == [1]
    rows = second.manifest.to_arrow(["uid", "decision", "reason", "source_key"]).to_pylist()
    kept = {row["uid"] for row in rows if row["decision"] == "kept"}
    old = first.manifest.to_arrow(["uid", "decision"]).to_pylist()
    assert {row["uid"] for row in old if row["decision"] == "kept"} <= kept and len(kept) == 9 + 2
    matched, total = find_matches(second, None, 50)
    url = next(iter(second.document["against"])).removesuffix("@latest")
    assert {(row["against"], row["how"]) for row in matched} == {(f"{url}@1", "exact")}, "as it was meant then"
    assert total == len({row["uid"] for row in matched}) == 11
    assert second.document["samples"]["filtered"] == {"decontaminate.exact": 11}
    assert again(recipe)["snapshot"] == 2 == cu.open(f"{tmp_path}/out").number
    with pipeline(load_recipe(recipe, ["shards.samples=7"])) as work:
        assert planning.current_snapshot(work, planning.make_plan(work)) is None, (
            "another recipe makes another snapshot"
        )


def test_of_another_dataset_a_snapshot_must_be_there(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(NoSnapshotError):
        curate(recipe, f"output={tmp_path}/elsewhere")
    with pytest.raises(NoSnapshotError, match="no snapshot @3"):
        curate(recipe, f"filters=[{{decontaminate: {{against: {tmp_path}/out@3}}}}]")
