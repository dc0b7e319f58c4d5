"""A run from its recipe: what it writes, that it goes on to the bit, and where its scores may come from."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import PLAIN, write_corpus, write_recipe, write_shard
from learning_runs import go, quiet, start
from running import curate
from tiny_model import TINY, WIDTH

from curation.core.errors import UserError, WeightsError
from curation.learners import contrastive
from curation.learners.classification import ClassLearner
from curation.learning.data import read_data
from curation.learning.model_flops import forward_flops, trimmed
from curation.learning.pinned_input import pin_input
from curation.models import model_config
from curation.recipes.learning_recipe import LearnRecipe, parse_learn_recipe
from curation.selection.flops import ComputeLedger, Payoff
from curation.selection.policy import Policy
from curation.storage.store import Store, open_store

STEPS, BATCH = 12, 8
CLASSES = f"learner={{classification: {{model: {TINY}, steps: {STEPS}, batch: {BATCH}, label: name}}}}"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("pool"), shards=2, n=60, flaws=False)


@pytest.fixture
def recipe(corpus: Path, weights: tuple[Path, str], tmp_path: Path) -> Callable[..., LearnRecipe]:
    text = f"""
data: {corpus}
output: {tmp_path / "out"}
learner:
  contrastive: {{model: {TINY}, steps: {STEPS}, batch: {BATCH}}}
online: {{model: {TINY}}}
reference: {{model: {TINY}, weights: {weights[0]}, sha256: {weights[1]}}}
selection: {{selector: {{learnability: {{gain: 10}}}}, filtering_ratio: 0.5}}
holdout: 0.3
by: [name]
evaluate_every: 6
checkpoint_every: 5
"""
    return lambda *overrides: parse_learn_recipe(text, overrides=overrides)


def test_what_a_run_leaves(recipe: Callable[..., LearnRecipe], tmp_path: Path) -> None:
    found = go(recipe())
    assert found["steps"] == STEPS and not found["reused"]
    rows = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 5, 10, 12]
    assert [row["step"] for row in rows if "quality" in row] == [6, 12]
    tenth = next(row for row in rows if row["step"] == 10)
    assert sum(tenth["scores"]["counts"]) == 5 * 2 * BATCH  # since the checkpoint, which holds nothing of a line
    shares = tenth["chosen_share"]["name"].values()
    assert all(0 <= share <= 1 for share in shares) and len(set(shares)) > 1
    steps = list(Policy(open_store(f"{tmp_path}/out/policy")).steps())
    assert [step.number for step in steps] == list(range(STEPS))
    assert all(len(step.candidates) == 2 * BATCH and len(step.chosen) == BATCH for step in steps)
    parts = found["flops"]["parts"]
    assert parts["online"] == parts["learning"]  # the same model on the same samples
    assert parts["scoring"] == pytest.approx(parts["learning"] * 2 * 2 / 3)  # B = 2 b, two models, forward alone
    assert go(recipe())["reused"]
    assert go(recipe("learner.contrastive.lr=1.0e-3", f"output={tmp_path}/other"))["sha256"] != found["sha256"]


def test_a_reference_of_another_architecture_is_found_before_any_sample_is_read(
    recipe: Callable[..., LearnRecipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curation.learning.data._classes", None)
    monkeypatch.setattr("curation.learning.data.expect_disjoint", None)
    with pytest.raises(WeightsError, match="does not fit model 'proxy-ti'"):
        go(recipe("reference.model=proxy-ti"))


@pytest.mark.slow
@pytest.mark.parametrize(("stop", "lag"), [(1, 0), (5, 3), (7, 0), (11, 3)])
def test_a_run_that_was_cut_off_ends_with_the_same_weights(
    recipe: Callable[..., LearnRecipe], tmp_path: Path, stop: int, lag: int
) -> None:
    averaged = ("learner.contrastive.averaging=0.9", f"selection.lag={lag}")
    straight = go(recipe(*averaged, f"output={tmp_path}/straight"))
    run = start(recipe(*averaged))
    for number, step in enumerate(run.steps(), 1):
        run.record(step)
        if number == stop:
            break  # as if killed: nothing after the last checkpoint is known
    found = go(recipe(*averaged))
    assert found["sha256"] == straight["sha256"]
    assert found["flops"] == straight["flops"] and found["curve"] == straight["curve"]
    policies = [list(Policy(open_store(f"{tmp_path}/{name}/policy")).steps()) for name in ("straight", "out")]
    for ours, theirs in zip(*policies, strict=True):
        assert ours.number == theirs.number and ours.candidates.tolist() == theirs.candidates.tolist()
        assert ours.chosen.tolist() == theirs.chosen.tolist()
    lines = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("straight", "out")]
    for one, other in zip(*(map(json.loads, some) for some in lines), strict=True):
        assert _undated(one) == _undated(other)


def _undated(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "samples_per_second"}


@pytest.mark.slow
def test_a_replay_trains_on_the_same_without_scoring(recipe: Callable[..., LearnRecipe], tmp_path: Path) -> None:
    first = go(recipe())
    again = go(recipe(f"selection.selector={{replay: {{run: {tmp_path}/out}}}}", f"output={tmp_path}/again"))
    assert again["sha256"] == first["sha256"]
    assert again["flops"]["totals"]["scoring"] == first["flops"]["parts"]["learning"]
    assert again["flops"]["totals"]["full"] == first["flops"]["totals"]["full"]  # the choosing was paid, if elsewhere


@pytest.mark.slow
def test_what_was_made_anew_since_is_read_anew(recipe: Callable[..., LearnRecipe], tmp_path: Path) -> None:
    """URLs are the same: a policy, a run that is compared with, held-out samples."""
    again = f"selection.selector={{replay: {{run: {tmp_path}/out}}}}", f"output={tmp_path}/again"
    compared = f"compare={tmp_path}/out", "selection={}", f"output={tmp_path}/compared"
    judged = f"evaluation={tmp_path}/test", "selection={}", f"output={tmp_path}/judged"
    write_corpus(tmp_path / "test", shards=1, n=20, flaws=False)
    go(recipe())
    before = go(recipe(*compared))["against"]
    go(recipe(*judged))
    go(recipe(*again))
    assert all(go(recipe(*more))["reused"] for more in (again, compared, judged))
    (tmp_path / "out").rename(tmp_path / "old")
    assert go(recipe(*compared))["reused"]  # what is gone says nothing else
    go(recipe("learner.contrastive.seed=7"))
    with pytest.raises(UserError, match="finished on other data"):
        go(recipe(*again))
    after = go(recipe(*compared))
    assert not after["reused"] and after["against"]["sha256"] != before["sha256"]
    write_shard(tmp_path / "test" / "9.tar", 9, 20, flaws=False)
    with pytest.raises(UserError, match="judged on other held-out samples"):
        go(recipe(*judged))


@pytest.mark.slow
def test_a_curve_is_of_one_held_out_set(recipe: Callable[..., LearnRecipe], tmp_path: Path) -> None:
    write_corpus(tmp_path / "test", shards=1, n=20, flaws=False)
    judged = recipe(f"evaluation={tmp_path}/test", "evaluate_every=2")
    run = start(judged)
    for number, step in enumerate(run.steps(), 1):
        run.record(step)
        if number == 5:
            break
    write_shard(tmp_path / "test" / "9.tar", 9, 20, flaws=False)
    assert [point["updates"] for point in go(judged)["curve"]] == [6, 8, 10, 12]


@pytest.mark.slow
def test_a_policy_with_a_hole_is_not_replayed(recipe: Callable[..., LearnRecipe], tmp_path: Path) -> None:
    go(recipe())
    (tmp_path / "out" / "policy" / "steps-00000005.parquet").unlink()
    with pytest.raises(UserError, match="has no steps 5 to 9"):
        go(recipe(f"selection.selector={{replay: {{run: {tmp_path}/out}}}}", f"output={tmp_path}/again"))
    with pytest.raises(UserError, match="has no steps 5 to 9"):
        Policy(open_store(f"{tmp_path}/out/policy")).counts()


def test_scores_that_are_no_numbers_choose_nothing(recipe: Callable[..., LearnRecipe]) -> None:
    run = start(recipe())
    assert run.participants.reference is not None
    with torch.no_grad():
        for parameter in run.participants.reference.module.parameters():  # type: ignore[union-attr]
            parameter.fill_(float("nan"))
    with pytest.raises(UserError, match="16 of 16 scores are not finite at step 1"):
        next(run.steps())


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
def test_the_ledger_counts_pairs_and_heads(recipe: Callable[..., LearnRecipe], tmp_path: Path) -> None:
    plain, softmax = go(recipe())["flops"], "selection.selector={learnability: {loss: softmax}}"
    pairs = go(recipe(softmax, f"output={tmp_path}/softmax"))["flops"]
    width, candidates = WIDTH, 2 * BATCH
    matrices = STEPS * 2 * (2 * width * candidates**2)  # of both models
    assert pairs["parts"]["scoring"] == pytest.approx(plain["parts"]["scoring"] + matrices)
    kind = CLASSES, "selection={}"
    run = start(recipe(*kind, f"output={tmp_path}/classes"))
    tower = forward_flops(TINY, text=False)
    assert run.ledger.prices.learner == tower + 2 * width * len(run.participants.classes)


@pytest.mark.parametrize("micro_batch", [0, 3])
def test_captions_are_priced_as_long_as_they_are_computed(
    recipe: Callable[..., LearnRecipe], monkeypatch: pytest.MonkeyPatch, micro_batch: int
) -> None:
    """What goes through the text tower, seen there, is what the ledger counts: in training and in scoring."""
    seen: dict[bool, Counter[int]] = {True: Counter(), False: Counter()}

    def encode_text(module: Any, ids: torch.Tensor) -> torch.Tensor:
        seen[torch.is_grad_enabled()][ids.shape[1]] += len(ids)
        return real(module, ids)

    real = contrastive.encode_text
    monkeypatch.setattr(contrastive, "encode_text", encode_text)
    run = start(recipe(f"learner.contrastive.micro_batch={micro_batch}", "learner.contrastive.steps=4"))
    for step in run.steps():
        run.record(step)
    counted = {kind: Counter(lengths) for kind, lengths in run.ledger.texts.items()}
    assert counted["learner"] + counted["online"] == seen[True] and len(seen[True]) > 0
    first = counted["learner"] if micro_batch else Counter[int]()  # GradCache encodes once more without gradients
    assert counted["online_scoring"] + counted["reference_scoring"] + first == seen[False]
    full = max(trimmed(TINY))
    assert max(seen[True]) < full, "captions are trimmed"
    whole = ComputeLedger(**{**vars(run.ledger), "texts": {}}).parts()
    saved = {name: value - run.ledger.parts()[name] for name, value in whole.items()}
    less = trimmed(TINY)
    passes = 4 if micro_batch else 3
    assert saved["learning"] == pytest.approx(
        passes * sum(less[length] * n for length, n in counted["learner"].items())
    )
    assert saved["scoring"] > 0 and saved["online"] > 0
    facts = json.loads(json.dumps({name: value for name, value in asdict(run.ledger).items() if name != "prices"}))
    assert ComputeLedger(run.ledger.prices, **facts).totals() == run.ledger.totals(), "as a checkpoint has it"
    for name in ("texts", "repeated"):
        del facts[name]
    assert ComputeLedger(run.ledger.prices, **facts).parts() == whole, "as a checkpoint of an earlier version has it"


def test_what_a_trimmed_caption_costs_by_hand() -> None:
    text = model_config("proxy-mu")["text_cfg"]
    width, layers, context = text["width"], text["layers"], max(trimmed("proxy-mu"))

    def caption(tokens: int) -> int:
        return layers * (tokens * 12 * width * width * 2 + 2 * 2 * tokens * tokens * width)

    assert len(trimmed("proxy-mu")) == context // 4 and trimmed("proxy-mu")[context] == 0
    for length, less in trimmed("proxy-mu").items():
        assert less == pytest.approx(caption(context) - caption(length), rel=0.01)
    assert trimmed("ViT-B-16-SigLIP") == {}, "a tower that isn't causal computes all"


@pytest.mark.slow
def test_a_run_whose_captions_count_in_full_is_no_measure(recipe: Callable[..., LearnRecipe], tmp_path: Path) -> None:
    plain = "selection={}", f"output={tmp_path}/uniform"
    go(recipe(*plain))
    path = tmp_path / "uniform" / "summary.json"
    summary = json.loads(path.read_text())
    assert summary["flops"].pop("captions") == "trimmed" and summary["repeated"] == {"candidates": 0, "updates": 0}
    path.write_text(json.dumps(summary))
    found = go(recipe(f"compare={tmp_path}/uniform"))
    assert any("counts captions at their full context" in line for line in found["uncounted"])


@pytest.mark.slow
def test_other_data_at_a_restart(recipe: Callable[..., LearnRecipe], tmp_path: Path) -> None:
    run = start(recipe())
    for number, step in enumerate(run.steps(), 1):
        run.record(step)
        if number == 5:
            break
    newer = write_corpus(tmp_path / "newer", shards=3, n=40, flaws=False)
    found = go(recipe(f"data={newer}"))
    assert found["steps"] == STEPS
    rows = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row.get("event") == "other data"] == [5]
    policy = Policy(open_store(f"{tmp_path}/out/policy"))
    assert sum(policy.counts().values()) == STEPS * BATCH
    with pytest.raises(UserError, match="finished on other data"):
        go(recipe())


def test_a_classifier_keeps_its_classes_when_the_data_changes(
    recipe: Callable[..., LearnRecipe], tmp_path: Path
) -> None:
    kind = (CLASSES, "selection={}")
    run = start(recipe(*kind))
    for number, step in enumerate(run.steps(), 1):
        run.record(step)
        if number == 5:
            break
    newer = write_corpus(tmp_path / "newer", shards=4, n=6, flaws=False)  # six of the seven names
    fresh = start(recipe(*kind, f"data={newer}", f"output={tmp_path}/fresh")).participants.classes
    resumed = start(recipe(*kind, f"data={newer}"))
    assert resumed.participants.classes == run.participants.classes != fresh
    assert go(recipe(*kind, f"data={newer}"))["steps"] == STEPS


def test_a_replay_of_less_than_is_wanted_is_refused(recipe: Callable[..., LearnRecipe], tmp_path: Path) -> None:
    go(recipe("learner.contrastive.steps=4"))
    replay = f"selection.selector={{replay: {{run: {tmp_path}/out}}}}"
    with pytest.raises(UserError, match="chose 4 times 8 samples, not 12 times 8"):
        go(recipe(replay, f"output={tmp_path}/again"))


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
        (f"{tmp_path}/one, {tmp_path}/wider", "keep 106 same samples"),  # whose corpora have other roots
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


@pytest.mark.slow
def test_what_is_not_as_the_recipe_says_is_told(recipe: Callable[..., LearnRecipe], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no sample has a field nosuch"):
        start(recipe("by=[name, nosuch]"))
    found = go(recipe("selection.filtering_ratio=0.99"))
    assert found["cut"] == {"wanted": 100 * BATCH, "pool": found["samples"]["pool"]}
    classes = f"learner={{classification: {{model: {TINY}, steps: 2, batch: 8}}}}", "selection={}", "reference=null"
    with pytest.raises(UserError, match="another kind of learner"):
        go(recipe(*classes, f"output={tmp_path}/classes", f"compare={tmp_path}/out"))


@pytest.mark.slow
def test_a_late_stop_saves_the_updates_of_the_small_models(recipe: Callable[..., LearnRecipe], tmp_path: Path) -> None:
    parts = go(recipe("selection.stop=0.5"))["flops"]["parts"]
    assert parts["online"] == pytest.approx(parts["learning"] / 2)
    twice = go(recipe("learner.contrastive.micro_batch=4", f"output={tmp_path}/parts"))["flops"]["parts"]
    assert twice["learning"] == pytest.approx(parts["learning"] * 4 / 3)  # GradCache encodes everything twice


def test_more_than_fits_is_told_before_it_is_read(recipe: Callable[..., LearnRecipe]) -> None:
    assert recipe("memory=3GiB").memory == 3 << 30
    with pytest.raises(UserError, match="does not fit into 100,000 bytes of memory at 64 px"):
        go(recipe("memory=100kB"))


@pytest.mark.slow
def test_another_run_does_not_go_on_from_these_checkpoints(recipe: Callable[..., LearnRecipe]) -> None:
    go(recipe())
    with pytest.raises(UserError, match="another run"):
        go(recipe("learner.contrastive.lr=1.0e-3"))


@pytest.mark.slow
def test_against_a_uniform_run(recipe: Callable[..., LearnRecipe], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no finished run"):
        go(recipe(f"compare={tmp_path}/uniform"))
    uniform = go(recipe("selection={}", f"output={tmp_path}/uniform"))
    assert uniform["flops"]["totals"]["full"] == uniform["flops"]["parts"]["learning"]
    found = go(recipe(f"compare={tmp_path}/uniform"))["against"]
    live = start(recipe(f"compare={tmp_path}/uniform")).live()  # of the finished run: it goes on from its end
    assert f"({uniform['quality']:.3f}: " in live and "compute_positive: " in live
    assert found["target"] == uniform["quality"] and found["compute_positive"] in (None, False)  # no card: unknown
    assert found["differs"] == [] and found["device_seconds"]["compared"] > 0
    other = go(recipe(f"compare={tmp_path}/uniform", "learner.contrastive.lr=1.0e-3", f"output={tmp_path}/other"))
    assert other["against"]["differs"] == ["lr"] and other["uncounted"][0].startswith("the training of")


@pytest.mark.slow
def test_the_live_line_reads_nothing_for_it_is_written_at_every_step(
    recipe: Callable[..., LearnRecipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(recipe("selection={}", f"output={tmp_path}/uniform"))
    go(recipe(f"compare={tmp_path}/uniform"))
    saved = dict.fromkeys(("scoring", "online", "full"), 0.5)
    monkeypatch.setattr("curation.learning.comparison.payoff", lambda *curves: Payoff(0.1, 6, 0.5, saved))
    run = start(recipe(f"compare={tmp_path}/uniform"))  # its reference has no card
    monkeypatch.setattr(Store, "_read", None)
    assert run.live().endswith("(0.100: after 6 steps, compute_positive: unknown)")


@pytest.mark.slow
@pytest.mark.parametrize(
    "override",
    ["online=learner", "learner.contrastive.loss=sigmoid", "selection.selector=joint",
     "selection.selector=easy_reference", f"reference={{model: {TINY}, train: TRUSTED}}",
     CLASSES],
)  # fmt: skip
def test_roles_and_kinds(recipe: Callable[..., LearnRecipe], corpus: Path, override: str) -> None:
    overrides = [override.replace("TRUSTED", str(corpus))]
    if "classification" in override:
        overrides.append(f"reference={{model: {TINY}, train: {corpus}}}")
    found = go(recipe(*overrides))
    assert found["steps"] == STEPS and 0 <= found["quality"] <= 1


def test_a_reference_of_scores_needs_a_snapshot(recipe: Callable[..., LearnRecipe]) -> None:
    with pytest.raises(UserError, match="is no snapshot"):
        go(recipe("reference={column: clip_score}"))


def test_a_run_that_is_none_of_a_recipe_is_nothing_to_compare_with(
    recipe: Callable[..., LearnRecipe], tmp_path: Path
) -> None:
    """Such as what `curate learn SNAPSHOT` leaves; it is said before anything is read."""
    (tmp_path / "plain").mkdir()
    shapes = {'{"steps": 3}': "are missing or invalid", "{": "is not JSON", "": "is empty", "[]": "not a JSON object"}
    for text, says in shapes.items():
        (tmp_path / "plain" / "summary.json").write_text(text)
        with pytest.raises(UserError, match=f"holds no learning curve.*{says}"):
            go(recipe(f"compare={tmp_path}/plain"))


@pytest.mark.slow
def test_other_shards_or_another_held_out_set_make_no_fair_comparison(
    recipe: Callable[..., LearnRecipe], corpus: Path, tmp_path: Path
) -> None:
    """Also where they have come to the same URLs."""
    shutil.copytree(corpus, tmp_path / "pool")
    shutil.copytree(corpus, tmp_path / "test")
    places = (f"data={tmp_path}/pool", f"evaluation={tmp_path}/test", f"compare={tmp_path}/uniform")
    go(recipe(*places[:2], "selection={}", f"output={tmp_path}/uniform"))
    assert go(recipe(*places))["against"]["differs"] == []
    for place, says in (("test", "held-out samples"), ("pool", "data")):
        write_shard(tmp_path / place / "9.tar", 9, 20, flaws=False)
        found = go(recipe(*places, f"output={tmp_path}/{place}-changed"))["against"]
        assert says in found["differs"] and ("data" in found["differs"]) == (place == "pool")
        if place == "test":  # whose quality is of other samples
            assert found["compute_positive"] is None and found["target"] is None and found["compute_saved"] is None


@pytest.mark.slow
def test_weights_that_are_gone_are_made_again(recipe: Callable[..., LearnRecipe], tmp_path: Path) -> None:
    first = go(recipe())
    (tmp_path / "out" / first["key"]).unlink()
    again = go(recipe())
    assert not again["reused"] and again["sha256"] == first["sha256"] and (tmp_path / "out" / first["key"]).exists()


@pytest.mark.slow
def test_a_checkpoint_that_is_damaged_costs_the_steps_since_the_one_before(
    recipe: Callable[..., LearnRecipe], tmp_path: Path
) -> None:
    straight = go(recipe(f"output={tmp_path}/straight"))
    run = start(recipe())
    for number, step in enumerate(run.steps(), 1):
        run.record(step)
        if number == 11:
            break
    newest = sorted((tmp_path / "out" / "checkpoints").glob("*.safetensors"))[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    assert start(recipe()).learner.steps == 5
    assert go(recipe())["sha256"] == straight["sha256"]
    rows = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [row["checkpoint"] for row in rows if "checkpoint" in row] == [f"checkpoints/{newest.name}"]


def test_a_classifier_s_reference_may_know_other_classes(recipe: Callable[..., LearnRecipe], tmp_path: Path) -> None:
    """It is asked for those that it knows; of others it guesses."""
    kind = CLASSES
    few = write_corpus(tmp_path / "few", shards=4, n=6, flaws=False)  # six of the seven names
    trained = go(recipe(kind, "selection={}", f"data={few}", f"output={tmp_path}/reference", "holdout=0.2"))
    place = trained["weights"].removeprefix("file://")
    run = start(recipe(kind, f"reference={{model: {TINY}, weights: {place}, sha256: {trained['sha256']}}}"))
    reference, classes = run.participants.reference, run.participants.classes
    assert isinstance(reference, ClassLearner) and set(reference.classes) < set(classes)
    candidates = run.pool.draw(40)
    losses = reference.outputs(candidates).values
    logits = reference.logits(candidates.batch.pixels)
    for loss, row, target in zip(losses, logits, candidates.batch.targets.tolist(), strict=True):
        name = classes[target]
        known = name in reference.classes
        wanted = (
            -row.log_softmax(0)[reference.classes.index(name)] if known else torch.tensor(len(reference.classes)).log()
        )
        torch.testing.assert_close(loss, wanted, rtol=1e-4, atol=1e-4)
    assert len({classes[target] in reference.classes for target in candidates.batch.targets.tolist()}) == 2
    for step in run.steps():
        run.record(step)
    assert run.finish()["steps"] == STEPS


@pytest.mark.slow
def test_no_limit_of_the_gradients_is_no_multiplication_by_nothing(
    recipe: Callable[..., LearnRecipe], tmp_path: Path
) -> None:
    found = go(recipe("learner.contrastive.max_norm=0"))
    huge = go(recipe("learner.contrastive.max_norm=1.0e9", f"output={tmp_path}/huge"))
    assert found["sha256"] == huge["sha256"]


def test_the_ledger_counts_what_a_learner_does_with_its_share(recipe: Callable[..., LearnRecipe]) -> None:
    """GradCache encodes everything twice, where a share of the batch is larger than a part."""
    for part, learners, passes in ((4, 1, 4), (BATCH, 1, 3), (4, 2, 3), (2, 2, 4)):
        run = start(recipe(f"learner.contrastive.micro_batch={part}"), learners=learners)
        assert run.ledger.prices.learner_passes == passes


def test_another_model_s_card_is_no_price(recipe: Callable[..., LearnRecipe], weights: tuple[Path, str]) -> None:
    card = weights[0].parent / "card.json"
    known = {"sha256": weights[1], "steps": 10, "model": TINY, "recipe": {"training": {"batch": 8}}}
    try:
        for change, counted in (({}, True), ({"sha256": "0" * 64}, False), ({"steps": None}, False)):
            card.write_text(json.dumps({**known, **change}))
            run = start(recipe())
            assert (run.ledger.prices.reference_training > 0) is counted
            assert bool(run._uncounted) is not counted
    finally:
        card.unlink()
