"""The FLOPs of a run: what the ledger charges for captions, heads, pairs, passes and references."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from learning_runs import BATCH, CLASSES, STEPS, go, start
from tiny_model import TINY, WIDTH

from curation.learners import contrastive
from curation.learning.model_flops import forward_flops, trimmed
from curation.models import model_config
from curation.recipes.learning_recipe import LearnRecipe
from curation.selection.flops import ComputeLedger


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


@pytest.mark.slow
@pytest.mark.parametrize("micro_batch", [0, 3])
def test_captions_are_priced_as_long_as_they_are_computed(
    recipe: Callable[..., LearnRecipe], monkeypatch: pytest.MonkeyPatch, micro_batch: int
) -> None:
    """The ledger counts the captions that the text tower computes, in training and in scoring."""
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


@pytest.mark.slow
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
def test_a_late_stop_saves_the_updates_of_the_small_models(recipe: Callable[..., LearnRecipe], tmp_path: Path) -> None:
    parts = go(recipe("selection.stop=0.5"))["flops"]["parts"]
    assert parts["online"] == pytest.approx(parts["learning"] / 2)
    twice = go(recipe("learner.contrastive.micro_batch=4", f"output={tmp_path}/parts"))["flops"]["parts"]
    assert twice["learning"] == pytest.approx(parts["learning"] * 4 / 3)  # GradCache encodes everything twice


@pytest.mark.slow
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
