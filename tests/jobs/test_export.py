"""`curate scores export`, of a recipe without scorers, which takes no Ray; with scores: test_scores."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from builders import PLAIN, write_corpus, write_recipe
from click.testing import CliRunner
from running import curate

from curation.core.errors import UserError
from curation.curating import score_store
from jobs.commands.scores import scores

pytestmark = pytest.mark.slow


def test_an_export_is_not_mixed_with_an_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_corpus(tmp_path / "corpus", 3, 10, flaws=False)
    recipe = write_recipe(tmp_path / "r.yaml", f"{tmp_path}/corpus", f"{tmp_path}/out", "", "", **PLAIN)
    curate(recipe)
    command = ["export", str(recipe), "--out", f"{tmp_path}/exported", "--json"]
    monkeypatch.setattr(score_store, "PART_ROWS", 10)
    result = CliRunner().invoke(scores, command, catch_exceptions=False)
    files = json.loads(result.stdout)["files"]
    assert [Path(url).name for url in files] == [f"part-0000{n}.parquet" for n in range(3)]
    before = pq.read_table(tmp_path / "exported")
    assert before.num_rows == 30
    with pytest.raises(UserError, match="already contains an export"):
        CliRunner().invoke(scores, [*command, "--set", f"corpus={tmp_path}/corpus/00000.tar"], catch_exceptions=False)
    assert pq.read_table(tmp_path / "exported").equals(before)
