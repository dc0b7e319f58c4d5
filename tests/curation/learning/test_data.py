"""The data of a run: sources without overlap, held-out samples, and what fits into memory."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import PLAIN, write_recipe, write_shard
from learning_runs import go, quiet
from running import curate
from tiny_model import TINY

from curation.core.errors import UserError
from curation.learning.data import read_data
from curation.learning.pinned_input import pin_input
from curation.recipes.learning_recipe import LearnRecipe


@pytest.mark.slow
def test_held_out_samples_are_of_all_sources(
    recipe: Callable[..., LearnRecipe], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curation.learning.data.MAX_EVALUATED", 20)
    other = tmp_path / "other"
    for shard in (7, 8):
        write_shard(other / f"{shard}.tar", shard, 60, flaws=False)
    both = recipe(f"data=[{corpus}, {other}]", "evaluate_every=1")
    found = read_data(both, pin_input(both), quiet).held_out
    assert len(found) == 20
    pools = [set(read_data(one, pin_input(one), quiet).held_out.uids) for one in (recipe(), recipe(f"data={other}"))]
    assert all(len(set(found.uids) & pool) >= 5 for pool in pools)


@pytest.mark.slow
def test_candidates_are_never_the_same_data_twice(
    recipe: Callable[..., LearnRecipe], corpus: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    write_shard(other / "00007.tar", 7, 60, flaws=False)
    shutil.copytree(corpus, tmp_path / "copied")
    sources = dict.fromkeys(("one", "two"), f"{corpus}") | dict.fromkeys(("three", "four"), f"{tmp_path}/one@1")
    for name, source in {**sources, "wider": [f"{corpus}", f"{other}"], "apart": f"{other}"}.items():
        curate(write_recipe(tmp_path / f"{name}.yaml", source, f"{tmp_path}/{name}", "", "", **PLAIN))  # type: ignore[arg-type]

    def data_of(one: LearnRecipe) -> None:
        read_data(one, pin_input(one), quiet)

    for data, says in (
        (f"{corpus}, {corpus}", "is in"),
        (f"{corpus}/00000.tar, {corpus}", "is in"),
        (f"{corpus}, {tmp_path}/copied", "is in .*, as "),
        (f"{tmp_path}/one, {tmp_path}/copied", "was made from shards of"),
        (f"{tmp_path}/one@1, {tmp_path}/one@latest", "is in"),
        (f"{corpus}, {tmp_path}/one", "was made from shards of"),
        (f"{tmp_path}/three, {tmp_path}/one", "was made from shards of"),
        (f"{tmp_path}/one, {tmp_path}/two", "keep 106 same samples"),
        (f"{tmp_path}/one, {tmp_path}/wider", "keep 106 same samples"),  # the corpora have different roots
        (f"{tmp_path}/apart, {tmp_path}/wider", "keep 53 same samples"),
        (f"{corpus}, {tmp_path}/three", "was made from shards of"),
        (f"{tmp_path}/three, {tmp_path}/four", "same samples"),
        (f"{tmp_path}/two, {tmp_path}/three", "may keep the same samples"),
    ):
        with pytest.raises(UserError, match=says):
            data_of(recipe(f"data=[{data}]"))
    for others in (f"{other}", f"{tmp_path}/apart"):
        data_of(recipe(f"data=[{tmp_path}/one, {others}]"))
    for output, data, says in (
        ("one", corpus, "holds snapshots"), ("one/scores", tmp_path / "one", "within the dataset"),
        ("copied", tmp_path / "copied", "holds shards of"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=says):
            pin_input(recipe(f"output={tmp_path}/{output}", f"data={data}"))
    classes = f"learner={{classification: {{model: {TINY}, steps: 4, batch: 8}}}}"
    plain = ("online=null", "reference=null", "selection={}")
    for judged, more in ((f"{corpus}", ["holdout=0"]), (f"{tmp_path}/one", ["holdout=0"]), (f"{corpus}", [classes])):
        with pytest.raises(UserError, match="the data to judge on may not be trained on"):
            data_of(recipe(f"evaluation={judged}", *more, *plain))
    data_of(recipe(f"evaluation={corpus}"))  # of which the names that are held out
    data_of(recipe(f"evaluation={other}", "holdout=0"))


def test_more_than_fits_is_told_before_it_is_read(recipe: Callable[..., LearnRecipe]) -> None:
    assert recipe("memory=3GiB").memory == 3 << 30
    with pytest.raises(UserError, match="does not fit into 100,000 bytes of memory at 64 px"):
        go(recipe("memory=100kB"))
