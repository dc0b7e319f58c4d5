"""`curate verify` passes on what a run made, and fails on every kind of damage."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from builders import write_corpus, write_recipe, write_weights

import curation as cu
from curation.recipe import load_recipe
from jobs.pipeline import pipeline
from jobs.run import run_steps
from jobs.verify import problems_of

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, ray_local: None) -> Path:
    root = tmp_path_factory.mktemp("verify")
    write_corpus(root / "corpus", 3, 40)
    sha = write_weights(root / "w.safetensors")
    recipe = write_recipe(root / "r.yaml", str(root / "corpus"), str(root / "out"), str(root / "w.safetensors"), sha)
    with pipeline(load_recipe(recipe)) as work:
        run_steps(work, None)
    return root


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """A copy to damage; corpus and scores stay where the snapshot says they are, so they are put back afterwards."""
    shutil.copytree(made / "out", tmp_path / "out")
    return tmp_path / "out"


def test_no_difference(made: Path) -> None:
    assert list(problems_of(cu.open(str(made / "out")))) == []


def first(out: Path, pattern: str) -> Path:
    return sorted((out / "data").glob(pattern))[0]


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def edit_manifest(out: Path) -> None:
    path = next(p for p in sorted((out / "data").glob("*.parquet")) if "output_shard" in pq.read_schema(p).names)
    table = pq.read_table(path)
    pq.write_table(
        table.set_column(2, "decision", table.column("decision").take(list(range(table.num_rows))[::-1])), path
    )


def edit_record(out: Path, change: Callable[[dict], None]) -> None:
    path = sorted((out / "units").glob("*.json"))[0]
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a byte of an output shard": lambda out: flip(first(out, "*.tar"), 1100),
    "a header of an output shard": lambda out: flip(first(out, "*.tar"), 3),
    "an output shard cut short": lambda out: first(out, "*.tar").write_bytes(first(out, "*.tar").read_bytes()[:5120]),
    "an output shard gone": lambda out: first(out, "*.tar").unlink(),
    "a manifest part edited": edit_manifest,
    "a record's count": lambda out: edit_record(out, lambda r: r["inputs"][0].update(kept=r["inputs"][0]["kept"] + 1)),
    "a record gone": lambda out: sorted((out / "units").glob("*.json"))[0].unlink(),
    "the list of shards": lambda out: flip(next((out / "data").glob("urls-*.txt")), 5),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found(name: str, copy: Path) -> None:
    assert list(problems_of(cu.open(str(copy)))) == []
    DAMAGE[name](copy)
    assert list(problems_of(cu.open(str(copy))))


def test_changed_input_is_found(made: Path, copy: Path) -> None:
    shard = made / "corpus" / "00001.tar"
    whole = shard.read_bytes()
    try:
        flip(shard, 600)
        assert any("00001.tar" in line for line in problems_of(cu.open(str(copy))))
    finally:
        shard.write_bytes(whole)


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_every_damaged_score_table_is_found(damage: str, made: Path) -> None:
    """Also those that no filter looks at, as the embedding's."""
    records = [json.loads(path.read_text()) for path in (made / "out" / "scores" / "units").glob("*.json")]
    tables = {record["column"]: made / "out" / "scores" / record["data"]["key"] for record in records}
    assert tables.keys() == {"index", "clip_score", "embedding"}
    for table in tables.values():
        whole = table.read_bytes()
        try:
            if damage == "flipped":
                flip(table, len(whole) // 2)
            elif damage == "cut":
                table.write_bytes(whole[:-100])
            else:
                table.unlink()
            assert any(table.name in line for line in problems_of(cu.open(str(made / "out"))))
        finally:
            table.write_bytes(whole)
