"""Held-out samples: other ones, names of the corpus itself, and pictures that models were trained on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from builders import picture
from click.testing import CliRunner
from evaluating import invoke, open_kept
from running import curate

import curation as cu
from curation.core.errors import LedgerError
from curation.core.holdout import group_of, is_held_out
from curation.core.types import IMAGE_EXTENSIONS
from curation.evaluation import trials
from curation.shards.tar_samples import read_samples
from curation.shards.tar_writer import TarWriter
from jobs.commands.inspect import show

pytestmark = pytest.mark.slow


def test_other_held_out_samples_cost_no_training(evaluated: Path) -> None:
    cards = {path: path.stat().st_mtime_ns for path in (evaluated / "out/runs").glob("*/card.json")}
    found = invoke(evaluated, f"{evaluated}/out@1", "--no-raw", "--no-random", against="other")
    assert found["judged"] == 2
    held_out = found["evaluations"][0]["held_out"]
    assert held_out["samples"] == 120 and 2 <= held_out["candidates"] < 120
    assert cards == {path: path.stat().st_mtime_ns for path in (evaluated / "out/runs").glob("*/card.json")}


@pytest.mark.slow
def test_held_out_names_of_the_corpus_itself(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = invoke(home, f"{home}/out@1", "--holdout", "0.4", "--no-raw", against="corpus")
    (document,) = found["evaluations"]
    assert list(document["arms"]) == ["curated", "random"]
    assert 2 <= document["held_out"]["samples"] < 50
    runs = [run for arm in document["arms"].values() for run in arm["runs"]]
    trained = {json.loads((home / f"out/runs/{run['run']}/card.json").read_text())["samples"]["train"] for run in runs}
    assert trained == {document["arms"]["curated"]["samples"]} == {document["arms"]["random"]["samples"]}
    assert trained < {open_kept(home, 1)} or trained.pop() < open_kept(home, 1)
    with monkeypatch.context() as patched:
        patched.setattr("curation.evaluation.trials.parts_without", None)  # who is held out is found out once
        again = invoke(home, f"{home}/out@1", "--holdout", "0.4", "--no-raw", against="corpus")
    assert json.dumps(again) == json.dumps({**found, "judged": 0}), "in the same order, too"
    with monkeypatch.context() as patched:
        asked: list[list[int]] = []
        real = trials.parts_without
        patched.setattr(trials, "parts_without", lambda s, h, seeds, t: asked.append(seeds) or real(s, h, seeds, t))
        more = invoke(home, f"{home}/out@1", "--holdout", "0.4", "--no-raw", "--seeds", "3", against="corpus")
    assert (more["judged"], asked) == (2, [[2]]), "nor is it found out again for the seeds that there were"
    with monkeypatch.context() as patched:
        patched.setattr(trials, "parts_without", None)
        alone = invoke(home, f"{home}/out@1", "--holdout", "0.4", "--no-raw", "--no-random", against="corpus")
    assert alone["judged"] == 0 and list(alone["evaluations"][0]["arms"]) == ["curated"]
    for path in (home / "out/runs/parts").iterdir():
        path.write_text("{}")
        with pytest.raises(LedgerError, match=r"runs/parts/.* is damaged"):
            invoke(home, f"{home}/out@1", "--holdout", "0.4", "--no-raw", "--seeds", "3", against="corpus")
        path.unlink()


def twins(shards: list[Path], share: float, against: list[Path]) -> int:
    """Pictures of held-out samples in `against` that are, byte for byte, in samples of `shards` that aren't."""
    found: dict[bool, set[bytes]] = {True: set(), False: set()}
    for held, paths in ((True, against), (False, shards)):
        for path in paths:
            for sample in read_samples([path.read_bytes()], path.stat().st_size):
                parts = {part.extension: part.data for part in sample.parts}
                value = json.loads(parts["json"])
                image = next(parts[e] for e in parts if e in IMAGE_EXTENSIONS)
                if is_held_out(group_of(value.get("name", ""), image), share) is held:
                    found[held].add(image)
    return len(found[True] & found[False])


def write_twins(root: Path) -> None:
    """Every picture twice: under two names, or under none."""
    root.mkdir()
    with (root / "0.tar").open("wb") as file:
        writer = TarWriter(file)
        for number in range(60):
            writer.add(f"{number:03d}.png", picture(number // 2, "png"))
            value = {"name": f"thing {number}"} if number % 4 < 2 else {}
            writer.add(f"{number:03d}.json", json.dumps(value).encode())
            writer.add(f"{number:03d}.txt", f"a picture of thing {number}".encode())
        writer.close()


@pytest.mark.slow
def test_held_out_pictures_that_are_trained_on_under_another_name_are_reported(home: Path) -> None:
    write_twins(home / "twins")
    drop = "filters=[{exact_duplicates: {}}]"
    for name, filters in (("all", "filters=[]"), ("one", drop)):
        curate(home / "r.yaml", filters, f"corpus={home}/twins", f"output={home}/{name}")
        command = [f"{home}/{name}", "--holdout", "0.3", "--no-random"]
        (document,) = invoke(home, *command, against="twins")["evaluations"]
        pool = [home / "twins/0.tar"]
        kept = [Path(url) for url in cu.open(f"{home}/{name}").urls]
        wanted = {"kept": twins(kept, 0.3, pool), "pool": twins(pool, 0.3, pool)}
        assert document["overlap"] == wanted and 0 < wanted["pool"] < 20
        text = CliRunner().invoke(show, [f"{home}/{name}"], catch_exceptions=False).stdout
        shown = f"{wanted['kept']} are among the kept samples and {wanted['pool']} in the pool under names that aren't"
        assert shown in text
    assert 0 < wanted["kept"] < wanted["pool"]
    shutil.rmtree(home / "one/evaluations")
    (document,) = invoke(home, f"{home}/one", "--holdout", "0.3", "--no-random", "--no-raw", against="twins")[
        "evaluations"
    ]
    assert document["overlap"] == {"kept": wanted["kept"]}, "of the pool nothing is trained on"


def test_held_out_pictures_that_were_trained_on_are_reported(home: Path) -> None:
    (document,) = invoke(home, f"{home}/out@1", "--no-raw", "--no-random", against="corpus")["evaluations"]
    kept = open_kept(home, 1)
    assert document["overlap"]["kept"] == kept < document["overlap"]["pool"]
    text = CliRunner().invoke(show, [f"{home}/out@1"], catch_exceptions=False).stdout
    assert f"WARNING: of the held-out pictures, {kept} are among the kept samples" in text
