"""`curate diagnose collect`: samples like a type of failure, never the failures; mistakes are one line each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from diagnosed import find_failures, run, write_shard
from labelled import uids_of, write_classifier

from curation.curating.run import curate
from curation.dataset.loader import SampleStream
from curation.dataset.open_shards import open_shards
from curation.ledger.edit_lists import read_edit_list
from jobs.cli import _main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("inline")]
MARKED, PLAIN = 12, 40


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Marked blue pictures, as the failures are, unmarked ones, and ten pictures of the field itself."""
    folder = tmp_path_factory.mktemp("collect") / "pool"
    rows = [(5000 + number, False, number < MARKED, "blue") for number in range(PLAIN)]
    write_shard(folder / "0.tar", [*rows, *((2000 + number, False, number % 2 == 0, "blue") for number in range(10))])
    return folder


def words(home: Path, types: Path, pool: Path, out: Path, *more: object) -> list[str]:
    given = ["diagnose", "collect", home / "model.safetensors", "--types", types, "--pool", pool, "--out", out, *more]
    return [*map(str, given)]


@pytest.fixture
def types(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Path, str]:
    """The folder of types, and the name of the largest."""
    find_failures(home, capsys)
    found = run(capsys, "diagnose", "types", home / "model.safetensors", "--failures", home / "f.parquet", "--data",
               home / "corpus", "--scores", home / "scores", "--steps", 20, "--out", tmp_path / "types")  # fmt: skip
    return tmp_path / "types", found["types"][0]["type"]


@pytest.mark.parametrize("by", ["centroid", "classifier"])
def test_marked_samples_come_first_and_no_failure_is_collected(
    home: Path, pool: Path, types: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], by: str
) -> None:
    folder, name = types
    out = tmp_path / "edits.parquet"
    found = run(capsys, *words(home, folder, pool, out, "--type", name, "--count", MARKED, "--by", by))
    stream = SampleStream(open_shards(str(pool)), size=64, shuffle=0)
    marked = {one.uid for one in stream if (one.pixels[:8, :8] == 255).all()}
    chosen = {row["uid"] for row in found["top"]}
    assert len(chosen & marked) >= MARKED - 2 and found["ranked"] == PLAIN + 10 - sum(found["refused"].values())
    assert found["refused"]["copy_of_failure"] == 5, "the field's failures are in the pool, too"
    table = read_edit_list(str(out)).table
    assert set(table.column("uid").to_pylist()) == chosen and set(table.column("verb").to_pylist()) == {"weight"}
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"corpus: {pool}\noutput: {tmp_path}/out\nedits: {out}\n")
    weights = curate(str(recipe)).weights()
    assert weights and list(weights.own.values()) == [3.0] * MARKED


def test_other_labels_are_left_out_and_samples_are_added(
    home: Path, pool: Path, types: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, name = types
    out = tmp_path / "edits.parquet"
    found = run(capsys, *words(home, folder, pool, out, "--type", name, "--verb", "add", "--label", "name"))
    rows = read_edit_list(str(out)).table.to_pylist()
    assert len(rows) == found["ranked"] and all(
        row["verb"] == "add" and row["value"].endswith("/0.tar") for row in rows
    )
    document = json.loads((folder / "types.json").read_text())
    for one in document["types"]:
        one["expected"] = "red"
    (folder / "types.json").write_text(json.dumps(document))
    assert _main(words(home, folder, pool, out, "--type", name, "--label", "name")) == 2
    assert "has no sample to collect" in capsys.readouterr().err


def test_mistakes_are_one_line(
    home: Path, pool: Path, types: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, name = types
    out = tmp_path / "edits.parquet"
    other = write_classifier(tmp_path / "other.safetensors", ["blue", "red"])
    document: dict[str, Any] = json.loads((folder / "types.json").read_text())

    def fails(message: str, given: list[str]) -> None:
        assert _main(given) == 2, message
        error = capsys.readouterr().err
        assert message in error and "Traceback" not in error, error

    fails("has no type 77", words(home, folder, pool, out, "--type", "77"))
    fails("were found in", words(home, folder, home / "field", out, "--type", name))
    fails("has no types of failures", words(home, pool, pool, out, "--type", name))
    fails("are of the model", [str(other) if word.endswith("model.safetensors") else word
                               for word in words(home, folder, pool, out, "--type", name)])  # fmt: skip
    document["types"][0]["validated"] = False
    (folder / "types.json").write_text(json.dumps(document))
    fails("is not validated", words(home, folder, pool, out, "--type", name))
    document["types"] = [{**document["types"][0], "type": "8+9"}]
    (folder / "types.json").write_text(json.dumps(document))
    fails("type 8 was merged", words(home, folder, pool, out, "--type", "8"))
    assert not out.exists() and uids_of(pool)
