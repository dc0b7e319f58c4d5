"""An output of an earlier version is opened, verified, compared and continued: nothing is scored or written again.

`tests/data/before_rooms.tar.xz` was made by the commit before the library was divided into rooms: three shards, three
scorers, two snapshots. `tests/data/fingerprints.json` holds the fingerprints that every scorer had then.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running import command
from scorers_given import all_fields, make

import curation as cu
from curation.scorers import fingerprint
from curation.shards.images import DecodeLimits
from curation.shards.unit_reader import index_fingerprint

DATA = Path(__file__).parent / "data"


# A plan pins the URL of its corpus, so the output is continued where it was made.
HOME = Path("/tmp/tutelage-before-rooms")


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """The output, unpacked."""
    shutil.rmtree(HOME, ignore_errors=True)
    with tarfile.open(DATA / "before_rooms.tar.xz") as archive:
        archive.extractall(HOME, filter="data")
    yield HOME
    shutil.rmtree(HOME)


def test_it_is_opened(home: Path) -> None:
    snapshot = cu.open(str(home / "curated"))
    kept = [sample.uid for sample in snapshot.samples()]
    assert snapshot.number == 2 and len(kept) == snapshot.document.samples.kept > 0


def test_it_is_verified(home: Path) -> None:
    assert json.loads(command("verify", str(home / "curated"), "--all", "--json"))["findings"] == []


def test_it_is_compared(home: Path) -> None:
    found = json.loads(command("diff", f"{home}/curated@1", f"{home}/curated@2", "--json"))
    assert found["left"] > 0 and found["entered"] == 0


def test_a_run_continues_it_without_a_put_or_a_batch(home: Path) -> None:
    before = sorted(path for path in home.rglob("*") if path.is_file())
    result = json.loads(command("run", str(home / "recipe.yaml"), "--json"))
    assert (result["data_puts"], result["model_batches"], result["snapshot"]) == (0, 0, 2)
    assert sorted(path for path in home.rglob("*") if path.is_file()) == before


def fingerprints(home: Path) -> dict[str, str]:
    """Fingerprints of the index and of every scorer, with a fixed sha256 in the place of each file's own."""

    def fixed(fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        return {key: "ab" * 32 if key.endswith("sha256") else fixed(value) for key, value in fields.items()}

    index = index_fingerprint(DecodeLimits(), "")
    scorers = {name: fingerprint(make(name, fixed(fields)), index) for name, fields in all_fields(home).items()}
    return {"index": index, **scorers}


def test_every_scorer_keeps_its_fingerprint(tmp_path: Path) -> None:
    recorded = json.loads((DATA / "fingerprints.json").read_text())
    now = fingerprints(tmp_path)
    assert {name: now[name] for name in recorded} == recorded
