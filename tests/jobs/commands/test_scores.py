"""`curate scores` on a store that two recipes share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from builders import write_corpus, write_recipe, write_weights
from click.testing import CliRunner

import curation as cu
from curation.core.errors import LedgerError, UnknownNameError, UserError
from curation.curating.pipeline import pipeline
from curation.recipes.curation_recipe import load_recipe
from jobs.commands.run import plan, run, run_steps
from jobs.commands.scores import scores

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("inline")]
SHARDS = 2 + 2  # two whole ones, one cut off, one of nonsense


def invoke(*arguments: str) -> Any:
    result = CliRunner().invoke(scores, [*arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def score_puts(recipe: str, *overrides: str, check: bool = False) -> int:
    """Run a recipe; returns how many score tables that made."""
    with pipeline(load_recipe(recipe, overrides)) as work:
        run_steps(work, None, check_scores=check)
        return work.counts.score_puts


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, inline: None) -> Path:
    """`a.yaml`, which has been run, and `b.yaml`, with another scorer beside it."""
    root = tmp_path_factory.mktemp("scores")
    write_corpus(root / "corpus", 2, 30)
    sha = write_weights(root / "w.safetensors")
    for name, more in (("a", []), ("b", [{"caption_stats": {}}])):
        path = write_recipe(
            root / f"{name}.yaml", f"{root}/corpus", f"{root}/{name}", f"{root}/w.safetensors", sha, scores=f"{root}/s"
        )
        document = load_recipe(path).document
        path.write_text(json.dumps({**document, "scorers": [*document["scorers"], *more]}))
    score_puts(f"{root}/a.yaml")
    return root


def test_what_is_there_and_what_a_recipe_lacks(home: Path) -> None:
    found = invoke("ls", f"{home}/s")
    fingerprints = load_recipe(home / "a.yaml").fingerprints
    assert {held["fingerprint"]: held["names"] for held in found} == {f: [n] for n, f in fingerprints.items()}
    assert all(held["units"] == SHARDS and held["bytes"] > 0 for held in found)
    seen = cu.open(f"{home}/a").document["samples"]["seen"]
    assert all(held["samples"] == seen for held in found)
    there = {row["column"]: row["shards"] for row in invoke("show", f"{home}/b.yaml")["columns"]}
    assert there == {**dict.fromkeys(fingerprints, SHARDS), "caption_stats": 0}


def test_export(home: Path, tmp_path: Path) -> None:
    found = invoke("export", f"{home}/a.yaml", "--out", f"{tmp_path}/all")
    table = pq.read_table(f"{tmp_path}/all")
    manifest = cu.open(f"{home}/a").manifest.to_arrow()
    assert len(found["files"]) == 1 and table.num_rows == manifest.num_rows
    for name in ("uid", "clip_score", "key", "content_hash"):
        assert table.column(name).to_pylist() == manifest.column(name).to_pylist()
    assert len(next(row for row in table.column("embedding").to_pylist() if row)) == 64
    invoke("export", f"{home}/a.yaml", "--out", f"{tmp_path}/one", "--only", "clip_score")
    assert "embedding" not in pq.read_table(f"{tmp_path}/one").column_names
    with pytest.raises(UnknownNameError, match="has no score column clap_score"):
        invoke("export", f"{home}/a.yaml", "--out", f"{tmp_path}/none", "--only", "clap_score")


def test_gc_takes_what_nothing_names(home: Path) -> None:
    store = f"{home}/s"
    before = invoke("ls", store)
    with pytest.raises(UserError, match="no columns to keep were named"):
        invoke("gc", store, "--delete")
    assert invoke("gc", store, "--keep-snapshots", f"{home}/a", "--delete")["columns"] == []
    assert score_puts(f"{home}/b.yaml") == SHARDS
    would = invoke("gc", store, "--keep", f"{home}/a.yaml")
    assert not would["deleted"] and [held["names"] for held in would["columns"]] == [["caption_stats"]]
    assert len(invoke("ls", store)) == len(before) + 1
    invoke("gc", store, "--keep", f"{home}/a.yaml", "--delete")
    assert invoke("ls", store) == before
    assert score_puts(f"{home}/b.yaml") == 0, "a snapshot that is up to date needs no scores"
    planned = CliRunner().invoke(plan, [f"{home}/b.yaml"], catch_exceptions=False).stdout
    assert "they lack caption_stats" in planned and "but scores are gone" in planned
    with pytest.raises(LedgerError, match=r"caption_stats of .* has not been scored") as error:
        invoke("export", f"{home}/b.yaml", "--out", f"{home}/none")
    assert "run RECIPE --check-scores" in error.value.fix
    again = CliRunner().invoke(run, [f"{home}/b.yaml", "--check-scores", "--json"], catch_exceptions=False).stdout
    assert json.loads(again)["score_puts"] == SHARDS and not json.loads(again)["new_snapshot"]
    assert score_puts(f"{home}/b.yaml", check=True) == 0
    invoke("gc", store, "--keep", f"{home}/a.yaml", "--delete")
    assert score_puts(f"{home}/b.yaml", f"output={home}/again") == SHARDS


@pytest.mark.parametrize("what", ["gone", "cut", "flipped", "record", "other-record"])
def test_what_is_damaged_is_made_anew_when_it_is_asked_for(home: Path, what: str) -> None:
    """The same holds if the snapshot does not exist yet and the table would be read."""
    exported = invoke("export", f"{home}/a.yaml", "--out", f"{home}/before-{what}")["files"][0]
    record = next(path for path in (home / "s/units").iterdir() if b'"column":"clip_score"' in path.read_bytes())
    table = home / "s" / json.loads(record.read_text())["data"]["key"]
    data = table.read_bytes()
    if what == "gone":
        table.unlink()
    elif what == "record":
        record.write_text("[")
    elif what == "other-record":
        record.write_text('{"data": {"key": "LATEST"}}')
    else:
        table.write_bytes(data[:-9] if what == "cut" else data[:60] + bytes([data[60] ^ 1]) + data[61:])
    if "record" not in what:
        with pytest.raises(LedgerError) as error:
            invoke("export", f"{home}/a.yaml", "--out", f"{home}/none-{what}")
        assert "run RECIPE --check-scores" in error.value.fix
    assert score_puts(f"{home}/a.yaml", f"output={home}/new-{what}", check=True) == 1
    assert score_puts(f"{home}/a.yaml", check=True) == 0
    assert (home / "s" / json.loads(record.read_text())["data"]["key"]).read_bytes() == data
    again = invoke("export", f"{home}/a.yaml", "--out", f"{home}/after-{what}")["files"][0]
    assert pq.read_table(again).equals(pq.read_table(exported))
