"""`curate run` on real shards: what it makes, what repeating it costs, what a change costs; and the same on Ray."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import running
import torch
from builders import FLAWS, write_corpus, write_recipe, write_shard, write_weights

import curation as cu
from curation.core.digest import sha256_of
from curation.core.errors import IncompleteError, RecipeError
from curation.curating import planning, scoring_passes
from curation.curating.pipeline import Pipeline, RunCounts, pipeline
from curation.dataset.diff import diff
from curation.recipes.curation_recipe import load_recipe
from curation.shards.tar_samples import read_samples

SHARDS, N = 4, 60


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run")
    write_corpus(root / "corpus", SHARDS, N)
    sha = write_weights(root / "w.safetensors")
    write_recipe(root / "recipe.yaml", str(root / "corpus"), str(root / "out"), str(root / "w.safetensors"), sha)
    return root


def curate(home: Path, *overrides: str, ray: bool = False) -> tuple[dict[str, Any], RunCounts]:
    made = running.curate(home / "recipe.yaml", *overrides, ray=ray)
    return made.snapshot.document, made.work


@pytest.fixture(scope="module")
def first(home: Path) -> tuple[dict[str, Any], RunCounts]:
    return curate(home)


def objects(root: Path) -> dict[str, int]:
    return {str(p.relative_to(root)): p.stat().st_mtime_ns for p in root.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_every_sample_is_accounted_for(first: tuple[dict[str, Any], RunCounts], home: Path) -> None:
    document, work = first
    reasons = {"tar_not_a_tar": 1, "tar_truncated": 1}
    assert document["units"] == {"total": SHARDS + 2, "quarantined": 2, "reasons": reasons}
    samples = document["samples"]
    quarantined = dict(samples["quarantined"])
    assert quarantined.pop("tar_truncated") > 10  # what the cut shard held besides its own flawed samples
    assert quarantined == dict.fromkeys(FLAWS.values(), SHARDS + 1)
    outcomes = samples["kept"] + sum(samples["filtered"].values()) + sum(samples["quarantined"].values())
    assert samples["seen"] == outcomes
    manifest = cu.open(str(home / "out")).manifest.to_arrow().to_pylist()
    assert len(manifest) == samples["seen"]
    usable = SHARDS * (N - len(FLAWS))
    assert samples["filtered"]["caption.too_few_words"] == SHARDS * 6
    assert samples["filtered"]["exact_duplicates"] == SHARDS
    reached = usable - SHARDS * 7
    assert samples["kept"] == (reached + 1) // 2
    assert work.model_batches > 0 and work.units_scored == SHARDS + 2


@pytest.mark.slow
def test_the_manifest_says_why_and_where(first: tuple[dict[str, Any], RunCounts], home: Path) -> None:
    snapshot = cu.open(str(home / "out"))
    rows = snapshot.manifest.to_arrow().to_pylist()
    reasons = Counter((row["decision"], row["reason"]) for row in rows)
    for reason in FLAWS.values():
        assert reasons["quarantined", reason] >= SHARDS
    for row in rows:
        kept = row["decision"] == "kept"
        assert kept == (row["reason"] is None) == (row["output_shard"] is not None) == (row["weight"] == 1)
        assert row["clip_score"] is not None or row["decision"] == "quarantined"
    assert len({row["uid"] for row in rows}) == len(rows)


def test_output_holds_the_original_bytes(first: tuple[dict[str, Any], RunCounts], home: Path) -> None:
    originals = {}
    for path in sorted((home / "corpus").glob("0*.tar")):
        for sample in read_samples([path.read_bytes()], path.stat().st_size):
            originals[path.name, sample.start] = {part.extension: part.data for part in sample.parts}
    count = 0
    for sample in cu.open(str(home / "out")).samples():
        parts = originals[sample.source.key, sample.source.offset]
        assert sample.image == parts[sample.extension]
        assert sample.caption.encode() == parts["txt"]
        assert json.loads(parts["json"]).items() <= sample.metadata.items()
        count += 1
    assert count == first[0]["samples"]["kept"]


def test_again_costs_nothing(first: tuple[dict[str, Any], RunCounts], home: Path) -> None:
    before = objects(home / "out")
    document, work = curate(home)
    assert document == first[0]
    assert work.to_json() == {**RunCounts().to_json(), "snapshot": 1}
    assert objects(home / "out") == before


@pytest.mark.ray
def test_same_shards_whatever_the_workers_of_ray(
    first: tuple[dict[str, Any], RunCounts], home: Path, ray_local: None
) -> None:
    """But for their names, no two of which are ever the same. Again costs nothing there, either."""
    wanted = cu.open(str(home / "out")).shards.select(["sha256", "bytes", "samples", "unit"])
    for workers, batch in ((1, 7), (8, 256)):
        out = home / f"out-{workers}"
        parts = f"output={out}", f"compute.write_workers={workers}", f"compute.batch_size={batch}"
        document, work = curate(home, *parts, ray=True)
        assert cu.open(str(out)).shards.select(wanted.column_names) == wanted
        assert document["samples"] == first[0]["samples"] and work.units_scored == first[1].units_scored
    before = objects(out)
    again, work = curate(home, *parts, ray=True)
    assert again == document and work.to_json() == {**RunCounts().to_json(), "snapshot": 1}
    assert objects(out) == before


@pytest.mark.slow
def test_vectors_and_bytes_where_shards_are_broken(home: Path, tmp_path: Path) -> None:
    """A shard without a usable sample, the first one at that, doesn't know how wide vectors are."""
    shutil.copytree(home / "corpus", tmp_path / "corpus")
    shutil.copy(home / "corpus" / "90000.tar", tmp_path / "corpus" / "00000-.tar")
    least = 150_000
    filters = f"filters=[{{semantic_duplicates: {{threshold: 0.9999}}}}, {{budget: {{bytes: {least}}}}}]"
    document, _ = curate(home, f"corpus={tmp_path / 'corpus'}", f"output={tmp_path / 'out'}", filters)
    assert document["samples"]["kept"] and document["samples"]["filtered"]["budget.bytes"]
    written = sum(cu.open(str(tmp_path / "out")).shards.column("bytes").to_pylist())
    assert least * 0.8 < written <= least


@pytest.mark.slow
@pytest.mark.parametrize(
    ("filters", "says"),
    [
        ("near_duplicates: {hash: clip_score}", "hash: clip_score is not a hash of images"),
        ("semantic_duplicates: {embedding: clip_score}", "can't read its columns"),
    ],
)
def test_what_a_filter_cannot_read_is_said_before_anything_is_scored(
    filters: str, says: str, home: Path, tmp_path: Path
) -> None:
    changes = f"filters=[{filters}]", f"output={tmp_path}/out"
    with pytest.raises(RecipeError, match=says):
        running.curate(home / "recipe.yaml", *changes)
    assert not (tmp_path / "out/scores/data").exists()


def test_a_threshold_costs_no_scoring(first: tuple[dict[str, Any], RunCounts], home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "out", tmp_path / "out")
    document, work = curate(home, f"output={tmp_path / 'out'}", "filters.top_fraction.fraction=0.25")
    assert (work.units_scored, work.model_batches, work.score_puts) == (0, 0, 0)
    assert (document["snapshot"], document["parent"]) == (2, 1)
    a, b = cu.open(f"{tmp_path / 'out'}@1"), cu.open(f"{tmp_path / 'out'}@2")
    changes = diff(a, b)
    assert (
        changes["entered"] == 0
        and changes["left"]
        == document["samples"]["filtered"]["top_fraction.clip_score"]
        - (a.document["samples"]["filtered"]["top_fraction.clip_score"])
    )
    assert any("fraction: 0.25" in line for line in changes["recipe"])


@pytest.mark.slow
def test_only_what_changed_is_worked_on(first: tuple[dict[str, Any], RunCounts], home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "out", tmp_path / "out")
    corpus = tmp_path / "corpus"
    shutil.copytree(home / "corpus", corpus)  # also: a corpus on another disk keeps its scores
    write_shard(corpus / "00004.tar", 4, N)
    write_shard(corpus / "00005.tar", 5, N)
    write_shard(corpus / "00001.tar", 77, N)
    (corpus / "00003.tar").unlink()
    _, work = curate(home, f"output={tmp_path / 'out'}", f"corpus={corpus}")
    assert work.units_scored == 3
    changes = diff(cu.open(f"{tmp_path / 'out'}@1"), cu.open(f"{tmp_path / 'out'}@2"))
    assert changes["shards"] == {
        "added": ["00004.tar", "00005.tar"],
        "changed": ["00001.tar"],
        "removed": ["00003.tar"],
        "unreadable": [],
        "readable": [],
    }


@pytest.mark.ray
@pytest.mark.parametrize(
    ("harmless", "line"),
    [
        ("", "scorer clip_score ends its process for 2 samples"),  # the batch that an actor tries its models on
        pytest.param("no caption", "every process dies while it loads and tries the models", marks=pytest.mark.soak),
    ],
)
def test_what_kills_its_actor_again_and_again_ends_the_run_with_a_line(
    harmless: str, line: str, tmp_path: Path, ray_local: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from actors.ray_executor import RayExecutor
    from curation.curating.scoring import dispatch, isolation

    class Deadly:
        """Takes its process along, as a sample that makes a library crash would."""

        def views(self) -> tuple[()]:
            return ()

        def values(self) -> pa.DataType:
            return pa.float32()

        def load(self, device: Any, options: Any) -> Any:
            return lambda batch: torch.zeros(len(batch.captions)) if set(batch.captions) == {harmless} else os._exit(1)

    whole = scoring_passes.scoring_task
    monkeypatch.setattr(isolation, "LEAST", 1)
    monkeypatch.setattr(dispatch, "DEATHS", 2)

    def deadly(work: Pipeline, lacking: Any) -> Any:
        job = whole(work, lacking)
        return replace(job, scorers={"clip_score": Deadly()}, columns=job.columns[:1])

    monkeypatch.setattr(scoring_passes, "scoring_task", deadly)
    write_corpus(tmp_path / "corpus", 3, 5, flaws=False)
    sha = write_weights(tmp_path / "w.safetensors")
    recipe = write_recipe(
        tmp_path / "recipe.yaml", str(tmp_path / "corpus"), str(tmp_path / "out"), str(tmp_path / "w.safetensors"), sha
    )
    with pipeline(load_recipe(str(recipe))) as work:
        units = planning.missing_units(work, planning.make_plan(work))
        with pytest.raises(IncompleteError, match=line):
            scoring_passes.score_units(work, units, lambda samples: None, RayExecutor())


@pytest.mark.slow
def test_scores_of_every_kind_reach_filters_and_manifest(home: Path, first: tuple[dict[str, Any], RunCounts]) -> None:
    """Numbers, hashes, words, structs of several; a vector is for who asks for it. Nothing is scored a second time."""
    weights = {"model": "proxy-mu", "weights": f"{home}/w.safetensors", "sha256": sha256_of(home / "w.safetensors")}
    scorers = [{"clip_score": weights}, {"embedding": weights}, {"caption_stats": {}}, {"phash": {}}, {"language": {}},
               {"image_stats": {"size": 64}}]  # fmt: skip
    filters = [{"threshold": {"score": "caption_stats.words", "min": 2}}]
    parts = [f"scorers={json.dumps(scorers)}", f"filters={json.dumps(filters)}", f"output={home}/kinds"]
    document, work = curate(home, *parts, f"scores={home}/out/scores")
    assert work.score_puts == 4 * (SHARDS + 2), "scores that were there were made again"
    table = cu.open(f"{home}/kinds").manifest.to_arrow()
    kinds = {"clip_score": "float", "phash": "int64", "caption_stats.words": "int32", "image_stats.entropy": "float",
             "language.code": "string"}  # fmt: skip
    assert {name: str(table.schema.field(name).type) for name in kinds} == kinds
    assert not any(name.startswith("embedding") for name in table.column_names)
    for row in table.to_pylist():
        assert (row["caption_stats.words"] is None) == (row["phash"] is None)
        assert row["phash"] is not None or row["decision"] == "quarantined"
        if row["decision"] == "kept":
            assert row["caption_stats.words"] >= 2
    assert document["samples"]["filtered"] == {"threshold.caption_stats.words": SHARDS * 6}
    again, work = curate(home, *parts, f"scores={home}/out/scores")
    assert again["snapshot"] == document["snapshot"] and work.to_json()["data_puts"] == 0
