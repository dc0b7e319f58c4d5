"""`curate evaluate`: what is trained, what is kept, what is attached, and how it is told."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import PLAIN, picture, write_corpus, write_recipe
from click.testing import CliRunner
from running import curate

import curation as cu
from curation.core.errors import EmptyCorpusError, LedgerError, NoSnapshotError, UserError
from curation.core.holdout import group_of, is_held_out
from curation.core.types import IMAGE_EXTENSIONS
from curation.curating.garbage import MIN_GRACE, sweep
from curation.evaluation import card, trials
from curation.ledger.ledger import Ledger
from curation.shards.tar_samples import read_samples
from curation.shards.tar_writer import TarWriter
from curation.storage.store import open_store
from jobs.commands.evaluate import evaluate
from jobs.commands.inspect import diff, show
from jobs.commands.verify import problems_of

ARM = {"samples": 1, "runs": [], "mean": {}}
EMPTY_ARM = json.dumps(
    {"snapshot": 1, "protocol": {}, "held_out": {}, "arms": {"curated": ARM}, "minus": {}, "overlap": None}
)
SMALL = ["--model", "proxy-mu", "--steps", "2", "--batch", "8", "--seeds", "2", "--workers", "1", "--device", "cpu"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("evaluate")
    write_corpus(root / "corpus", 2, 30)
    write_corpus(root / "other", 5, 24, flaws=False)
    (root / "test").mkdir()
    for shard in (3, 4):
        shutil.copy(root / "other" / f"{shard:05d}.tar", root / "test")
    recipe = write_recipe(root / "r.yaml", f"{root}/corpus", f"{root}/out", "", "", **PLAIN)
    curate(recipe)
    curate(recipe, "filters.caption.min_words=1")
    return root


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    """Two snapshots, @1 and the larger @2, of one corpus, and held-out shards; no evaluation yet."""
    return Path(shutil.copytree(made, tmp_path / "home"))


@pytest.fixture(scope="module")
def first(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Where @1 is evaluated, and what that printed. To look at; `evaluated` is to work on."""
    home = Path(shutil.copytree(made, tmp_path_factory.mktemp("first") / "home"))
    yield home, invoke(home, f"{home}/out@1")
    shutil.rmtree(home)  # 80 MB of trained models


@pytest.fixture
def evaluated(first: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    return Path(shutil.copytree(first[0], tmp_path / "evaluated"))


def invoke(home: Path, *arguments: str, against: str = "test") -> dict[str, Any]:
    command = [*SMALL, *arguments, "--against", f"{home}/{against}", "--json"]
    result = CliRunner().invoke(evaluate, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def count_runs(monkeypatch: pytest.MonkeyPatch, stop_at: int | None = None) -> list[str]:
    """The data of every training from now on; the one after `stop_at` is interrupted."""
    seen: list[str] = []
    real = trials.run

    def run(job: Any, samples: Any) -> Any:
        if len(seen) == stop_at:
            raise KeyboardInterrupt
        seen.append(f"{job.data} {job.training.seed}")
        return real(job, samples)

    monkeypatch.setattr(trials, "run", run)
    return seen


def test_an_evaluation_compares_with_the_pool_and_a_random_part(first: tuple[Path, dict[str, Any]]) -> None:
    home, found = first
    assert found["judged"] == 6
    (document,) = found["evaluations"]
    arms = document["arms"]
    kept = open_kept(home, 1)
    assert {arm: made["samples"] for arm, made in arms.items()} == {"curated": kept, "raw": 50, "random": kept}
    for arm in arms.values():
        assert [row["seed"] for row in arm["runs"]] == [0, 1]
        values = [row["recall@5"] for row in arm["runs"]]
        assert arm["mean"]["recall@5"]["mean"] == pytest.approx(sum(values) / 2)
        assert len({row["sha256"] for row in arm["runs"]}) == 2
    minus = document["minus"]["raw"]["recall@1"]
    assert minus["paired"] and minus["word"] in ("better", "worse", "no difference shown")
    assert document["overlap"] == {"kept": 0, "pool": 0} and not document["weighted"]
    assert arms["raw"]["runs"][0]["samples_seen"] == 16 and arms["raw"]["runs"][0]["flops"] > 1e8


def open_kept(home: Path, number: int) -> int:
    return int(json.loads((home / f"out/snapshots/{number:06d}.json").read_text())["samples"]["kept"])


@pytest.mark.slow
def test_nothing_is_trained_twice(
    first: tuple[Path, dict[str, Any]], evaluated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, seen = f"{evaluated}/out", count_runs(monkeypatch)
    assert invoke(evaluated, f"{out}@1") == {**first[1], "judged": 0} and not seen
    again = invoke(evaluated, f"{out}@2", f"{out}@1", "--no-random")  # the pool's models are there
    assert len(seen) == again["judged"] == 2 and not any("raw" in data for data in seen)
    command = [f"{out}@1", "--against", f"{evaluated}/test", *SMALL]
    assert "nothing to train" in CliRunner().invoke(evaluate, command, catch_exceptions=False).stdout


def test_other_held_out_samples_cost_no_training(evaluated: Path) -> None:
    cards = {path: path.stat().st_mtime_ns for path in (evaluated / "out/runs").glob("*/card.json")}
    found = invoke(evaluated, f"{evaluated}/out@1", "--no-raw", "--no-random", against="other")
    assert found["judged"] == 2
    held_out = found["evaluations"][0]["held_out"]
    assert held_out["samples"] == 120 and 2 <= held_out["candidates"] < 120
    assert cards == {path: path.stat().st_mtime_ns for path in (evaluated / "out/runs").glob("*/card.json")}


@pytest.mark.slow
def test_interrupted_it_goes_on(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        before = count_runs(patch, stop_at=3)
        command = [f"{home}/out@1", "--against", f"{home}/test", *SMALL]
        assert CliRunner().invoke(evaluate, command).exit_code == 1
    assert not (home / "out/evaluations").exists()
    after = count_runs(monkeypatch)
    invoke(home, f"{home}/out@1")
    assert len(before) == len(after) == 3 and not set(before) & set(after)
    assert [data.split()[-1] for data in before] == ["0", "0", "0"], "every arm with the first seed first"


@pytest.mark.slow
def test_show_and_diff_tell_of_it_and_gc_leaves_it(evaluated: Path) -> None:
    home = evaluated
    invoke(home, f"{home}/out@2")
    files = sorted(path for name in ("runs", "evaluations") for path in (home / "out" / name).rglob("*"))
    ledgers = [Ledger(open_store(f"{home}/out"))]
    assert sweep(ledgers, grace=MIN_GRACE, delete=True, now=time.time() + 7200) == []
    assert sorted(path for name in ("runs", "evaluations") for path in (home / "out" / name).rglob("*")) == files
    text = CliRunner().invoke(show, [f"{home}/out@2"], catch_exceptions=False).stdout
    assert f"evaluation of @2 on {home}/test (48 samples" in text and "- random" in text and "±" in text
    assert "each model: proxy-mu, 2 updates of 8 pairs, lr 0.002: 16 samples seen" in text and "seeds 0, 1" in text
    text = CliRunner().invoke(diff, [f"{home}/out@1", f"{home}/out@2"], catch_exceptions=False).stdout
    assert "@2 - @1" in text and "recall@5" in text and "zero-shot" in text
    result = CliRunner().invoke(diff, [f"{home}/out@1", f"{home}/out@2", "--json"], catch_exceptions=False)
    (both,) = json.loads(result.stdout)["evaluations"]
    difference = both["difference"]["recall@5"]
    assert difference["paired"]
    assert difference["mean"] == pytest.approx(both["to"]["recall@5"]["mean"] - both["from"]["recall@5"]["mean"])
    assert len(json.loads(CliRunner().invoke(show, [f"{home}/out@1", "--json"]).stdout)["evaluations"]) == 1


@pytest.mark.slow
def test_an_evaluation_from_before_the_correction_is_read_and_judged_again(evaluated: Path) -> None:
    """Its document says no `intervals`, and words of intervals each by itself."""
    path = next((evaluated / "out/evaluations").iterdir())
    document = json.loads(path.read_text())
    intervals = document.pop("intervals")
    assert intervals == {"correction": "bonferroni", "level": 0.95, "comparisons": 6}
    for place, arm in enumerate(("raw", "random")):
        for row, figure in zip(document["arms"][arm]["runs"], (0.100, 0.102), strict=True):
            row["recall@1"] = figure - place / 1000
        document["minus"][arm]["recall@1"] = {"mean": 0.2, "half": 0.01, "paired": True, "word": "better"}
    for row, figure in zip(document["arms"]["curated"]["runs"], (0.300, 0.303), strict=True):
        row["recall@1"] = figure  # 12.7 standard errors are 0.0064, 76 are 0.038; and by 0.2 it is better
    path.write_text(json.dumps(document))
    text = CliRunner().invoke(show, [f"{evaluated}/out@1"], catch_exceptions=False).stdout
    assert "hold together (Bonferroni: 76.4 standard errors with 2 seeds)" in text
    assert "+0.201 ± 0.038 better" in text and "± 0.010" not in text
    told = json.loads(CliRunner().invoke(show, [f"{evaluated}/out@1", "--json"]).stdout)["evaluations"]
    assert told == [document], "as it was recorded"
    invoke(evaluated, f"{evaluated}/out@2")
    result = CliRunner().invoke(diff, [f"{evaluated}/out@1", f"{evaluated}/out@2", "--json"], catch_exceptions=False)
    (both,) = json.loads(result.stdout)["evaluations"]
    assert both["intervals"] == {**intervals, "comparisons": 3}


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


@pytest.mark.slow
def test_damaged_documents_are_one_line(evaluated: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(evaluated / "out", out)
    name = next((out / "evaluations").iterdir())
    for text in ('{"x', "{}", '{"arms": {}}', '{"arms": {"curated": {}}, "protocol": {}}', EMPTY_ARM):
        name.write_text(text)
        with pytest.raises(LedgerError, match=r"evaluations/.* is damaged"):
            CliRunner().invoke(show, [f"{out}@1"], catch_exceptions=False)
    shutil.rmtree(out / "evaluations")
    for text in ("{}", '{"run": "x", "seed": 0}', '{"run": "x", "seed": "x"}'):
        for path in (out / "runs").glob("*/evaluations/*.json"):
            path.write_text(text)
        with pytest.raises(LedgerError, match=r"runs/.* is damaged"):
            invoke(evaluated, f"{out}@1", "--runs", f"{out}/runs")
    assert not (out / "evaluations").exists(), "nothing is made of it"
    for path in (out / "runs").glob("*/evaluations/*.json"):
        path.unlink()
    model = next((out / "runs").glob("*/*.safetensors"))
    model.write_bytes(model.read_bytes()[:-1] + b"?")
    with pytest.raises(LedgerError, match="another sha256"):
        invoke(evaluated, f"{out}@1", "--runs", f"{out}/runs")
    for path in (out / "runs").glob("*/card.json"):
        path.write_text("[]")  # is trained anew
    assert 0 < invoke(evaluated, f"{out}@1", "--runs", f"{out}/runs")["judged"] <= 6


def test_who_comes_second_with_other_last_bits_takes_the_first_ones_model(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = card.tensors_to_bytes

    def another_machine(tensors: Any, metadata: Any) -> bytes:
        """Between its start and its end, another process finishes the same run with weights of its own."""
        monkeypatch.setattr(card, "tensors_to_bytes", lambda t, m: real({k: v + 1e-7 for k, v in t.items()}, m))
        invoke(home, f"{home}/out@1", "--no-raw", "--no-random")
        return real(tensors, metadata)

    monkeypatch.setattr(card, "tensors_to_bytes", another_machine)
    first = invoke(home, f"{home}/out@1", "--no-raw", "--no-random")
    assert invoke(home, f"{home}/out@1", "--no-raw", "--no-random") == {**first, "judged": 0}
    found = first["evaluations"][0]["arms"]["curated"]["runs"][0]
    folder = home / "out/runs" / found["run"]
    assert json.loads((folder / "card.json").read_text())["sha256"] == found["sha256"]
    assert len(list(folder.glob("proxy-mu-*.safetensors"))) == 2, "neither wrote over the other's"


@pytest.mark.slow
def test_arms_are_streamed_alike_where_one_is_too_large(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = invoke(home, f"{home}/out@1")["evaluations"][0]
    kept, pool = whole["arms"]["curated"]["samples"], whole["arms"]["raw"]["samples"]
    monkeypatch.setattr("curation.evaluation.protocol.BUDGET", (kept + pool) // 2 * 64 * 64 * 3)
    found = invoke(home, f"{home}/out@1")
    (document,) = found["evaluations"]
    assert found["judged"] == 6 and document["protocol"] == {**whole["protocol"], "streamed": True}
    for arm in ("curated", "raw", "random"):
        assert document["arms"][arm]["runs"][0]["run"] != whole["arms"][arm]["runs"][0]["run"]
    said = CliRunner().invoke(diff, [f"{home}/out@1", f"{home}/out@2"], catch_exceptions=False).stdout
    assert "evaluations" not in said


@pytest.mark.slow
def test_diff_tells_where_evaluations_cannot_be_compared_and_what_flatters(home: Path) -> None:
    invoke(home, f"{home}/out@1", "--no-raw", "--no-random")
    command = [f"{home}/out@2", "--against", f"{home}/test", *SMALL, "--no-raw", "--no-random", "--lr", "0.001"]
    assert CliRunner().invoke(evaluate, command, catch_exceptions=False).exit_code == 0
    said = CliRunner().invoke(diff, [f"{home}/out@1", f"{home}/out@2"], catch_exceptions=False).stdout
    assert "the evaluations of both can't be compared, because they differ in lr" in said
    invoke(home, f"{home}/out@1", f"{home}/out@2", "--no-raw", "--no-random", against="corpus")
    said = CliRunner().invoke(diff, [f"{home}/out@1", f"{home}/out@2"], catch_exceptions=False).stdout
    assert said.count("WARNING: of the held-out pictures") == 2 and "2 updates of 8 pairs, lr 0.002" in said


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
def test_held_out_pictures_that_are_trained_on_under_another_name_are_told(home: Path) -> None:
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
        told = f"{wanted['kept']} are among the kept samples and {wanted['pool']} in the pool under names that aren't"
        assert told in text
    assert 0 < wanted["kept"] < wanted["pool"]
    shutil.rmtree(home / "one/evaluations")
    (document,) = invoke(home, f"{home}/one", "--holdout", "0.3", "--no-random", "--no-raw", against="twins")[
        "evaluations"
    ]
    assert document["overlap"] == {"kept": wanted["kept"]}, "of the pool nothing is trained on"


def test_held_out_pictures_that_were_trained_on_are_told(home: Path) -> None:
    (document,) = invoke(home, f"{home}/out@1", "--no-raw", "--no-random", against="corpus")["evaluations"]
    kept = open_kept(home, 1)
    assert document["overlap"]["kept"] == kept < document["overlap"]["pool"]
    text = CliRunner().invoke(show, [f"{home}/out@1"], catch_exceptions=False).stdout
    assert f"WARNING: of the held-out pictures, {kept} are among the kept samples" in text


@pytest.mark.slow
def test_a_snapshots_own_models_meet_samples_as_often_as_they_weigh(home: Path) -> None:
    rows = cu.open(f"{home}/out@1").manifest.query("SELECT uid FROM manifest WHERE decision = 'kept'")
    lines = [f"{uid}\t{1 + number % 2}\n" for number, uid in enumerate(rows.column("uid").to_pylist())]
    (home / "weights.tsv").write_text("".join(lines))
    curate(home / "r.yaml", f"weights={home}/weights.tsv", f"output={home}/weighed")
    plain, weighed = (invoke(home, f"{home}/{name}", "--no-random")["evaluations"][0] for name in ("out@1", "weighed"))
    assert [one["weighted"] for one in (plain, weighed)] == [False, True]
    runs = [[run["sha256"] for run in one["arms"]["curated"]["runs"]] for one in (plain, weighed)]
    assert not set(runs[0]) & set(runs[1])  # the same samples, met otherwise
    assert plain["arms"]["raw"]["mean"] == weighed["arms"]["raw"]["mean"]
    text = CliRunner().invoke(show, [f"{home}/weighed"], catch_exceptions=False).stdout
    assert "as often as its weight" in text


def test_a_snapshot_that_keeps_all_has_its_pool_for_a_random_part(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    curate(home / "r.yaml", "filters=[]", f"output={home}/all", f"corpus={home}/corpus")
    seen = count_runs(monkeypatch)
    (document,) = invoke(home, f"{home}/all")["evaluations"]
    assert len(seen) == 4 and document["arms"]["random"]["mean"] == document["arms"]["raw"]["mean"]


@pytest.mark.parametrize(
    ("arguments", "against", "error", "words"),
    [
        (["out@7"], "test", NoSnapshotError, "@7"),
        (["corpus"], "test", NoSnapshotError, "no snapshot"),
        (["out"], "nothing", EmptyCorpusError, "no shard"),
        (["out"], "broken", UserError, "0 samples to be judged on .skipped: tar_"),
        (["out", "--batch", "64"], "test", UserError, "a batch takes 64"),
    ],
)
def test_mistakes(arguments: list[str], against: str, error: type[Exception], words: str, home: Path) -> None:
    (home / "nothing").mkdir()
    (home / "broken").mkdir()
    (home / "broken/00000.tar").write_bytes(b"<html>")
    url, *more = arguments
    with pytest.raises(error, match=words):
        command = [f"{home}/{url}", "--against", f"{home}/{against}", *SMALL, *more]
        CliRunner().invoke(evaluate, command, catch_exceptions=False)
    assert not (home / "out/runs").exists()


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_models_side_by_side_are_the_same_models_and_verify_does_not_mind(home: Path) -> None:
    alone = invoke(home, f"{home}/out@1", "--no-raw", "--runs", f"{home}/alone")
    shutil.rmtree(home / "out/evaluations")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="this machine has no GPU"):
            invoke(home, f"{home}/out@1", "--no-raw", "--workers", "2", "--device", "cuda")
    beside = invoke(home, f"{home}/out@1", "--no-raw", "--workers", "2")
    assert beside["judged"] == 4
    for arm, found in beside["evaluations"][0]["arms"].items():
        assert found["mean"] == alone["evaluations"][0]["arms"][arm]["mean"]
    assert list(problems_of(cu.open(f"{home}/out@1"))) == []
