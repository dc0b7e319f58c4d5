"""What a pipeline knows of its units."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from builders import PLAIN, curate, write_corpus, write_recipe

from curation.errors import RecipeError
from jobs.pipeline import Pipeline, _units, lacked_columns


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
