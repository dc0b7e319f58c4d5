"""Recipes of runs: what they mean, and one line for every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from recipe_texts import LEARNING, SHA, changed, expect_mistake

from curation.core.errors import TutelageError
from curation.learners.classification import Classification
from curation.recipes.learning_recipe import load_learn_recipe, parse_learn_recipe
from curation.selectors.blend import Learnability
from curation.selectors.schedule import Ramp


def test_it_means_what_it_says() -> None:
    recipe = parse_learn_recipe(LEARNING)
    assert recipe.data == ("pool",) and recipe.kind == "contrastive"
    assert recipe.selection.selector == Learnability(gain=Ramp(start=5, end=20))
    assert recipe.selection.candidates(128, 0.0) == 640
    assert recipe.training.lr == 1e-3 and recipe.training.steps == 60
    online = recipe.online_training()
    assert (online.lr, online.steps, online.seed) == (2e-3, 60, 1)


def test_what_does_not_decide_the_weights_is_not_in_the_identity() -> None:
    plain = parse_learn_recipe(LEARNING)
    assert parse_learn_recipe(LEARNING, overrides=["output=elsewhere", "compare=other"]).identity == plain.identity
    assert parse_learn_recipe(LEARNING, overrides=["learner.contrastive.lr=2.0e-3"]).identity != plain.identity


def test_an_evaluation_reads_other_origins_where_the_recipe_names_them() -> None:
    assert parse_learn_recipe(LEARNING).evaluation_origins == ("real", "relabelled")
    named = parse_learn_recipe(LEARNING, overrides=["evaluation_origins=[real, synthetic]"])
    assert named.evaluation_origins == ("real", "synthetic")
    expect_mistake(lambda: parse_learn_recipe(LEARNING, overrides=["evaluation_origins=[fake]"]), "fake", "synthetic")


def test_a_classifier_says_where_its_labels_are() -> None:
    recipe = parse_learn_recipe("data: [a, b]\noutput: out\nlearner: {classification: {label: kind}}\n")
    assert isinstance(recipe.learner, Classification) and recipe.learner.label == "kind"
    assert recipe.data == ("a", "b") and recipe.selection.candidates(128, 0.0) == 128


MISTAKES = [
    ("filtering_ratio: 0.8", "filtering_ratio: {start: 0.5, end: 1.0}", "recipe:9: the filtering ratio is 1.0", ""),
    ("steps: 60, lr", "steps: 0, lr", "steps is 0, but must be at least 1", ""),
    ("steps: 60, lr", "batch: 1, lr", "batch is 1: it is at least 2", ""),
    ("online: {model: proxy-mu, lr: 2.0e-3}", "online: teacher", "online: teacher is neither `learner` nor", ""),
    ("output: out", "output: out\ncompute: {learners: 2, learner_gpus: 0.5}", "recipe:3: 2 learners can't share", "1"),
    ("steps: 60, lr", "betas: [0.9], lr", "recipe:4: betas takes at least 2 values", ""),
    ("{start: 5, end: 20}", "much", "recipe:8: gain: input should be a valid number", ""),
    ("gain: {start: 5, end: 20}", "online: {start: 0, end: 0}, reference: 0", "are both 0", ""),
    ("steps: 60, lr", "averaging: 1.5, lr", "averaging is 1.5", ""),
    ("steps: 60, lr", "reduced: 0.5, lr", "there is no scoring_size", ""),
    ("lr: 2.0e-3}", "lr: 2.0e-3, scoring_size: 30}", "recipe:5: a scoring_size of 30 is not a multiple of", "32"),
    (
        "output: out",
        "output: out\ncompute: {buffer: 1}\nstore: {}",
        "a buffer of 1 is too small for a lag of 2",
        "lag + 1",
    ),
    ("filtering_ratio: 0.8", "publish_every: 3\n  lag: 1", "recipe:10: lag 1 with publish_every 3", ""),
    (
        "output: out",
        "output: out\ncompute: {learners: 3}",
        "recipe:3: a batch of 128 is not a multiple of 3",
        "learners",
    ),
    ("learnability:", "learnibility:", "recipe:8: unknown selector learnibility", "learnability"),
    ("gain:", "gian:", "recipe:8: unknown key gian", "gain"),
    ("contrastive:", "contrastiv:", "recipe:4: unknown learner contrastiv", "contrastive"),
    ("steps: 60", "stepz: 60", "recipe:4: unknown key stepz", "steps"),
    ("filtering_ratio: 0.8", "filtering_ratio: 1.0", "recipe:9: the filtering ratio is 1.0", ""),
    ("online: {model: proxy-mu, lr: 2.0e-3}", "", "looks at an online model", "online: {model"),
    ("weights: w.safetensors, ", "", "a reference has one of weights, column and train; here: none", "weights: URL"),
    ("weights: w.safetensors, ", "weights: w, column: c, ", "here: weights, column", ""),
    (f", sha256: {SHA}", "", "sha256 of reference is missing", "curate proxy train"),
    ("data: pool", "", "data is missing", "add `data"),
    ("data: pool", "data: []", "recipe:1: data", ""),
    ("output: out", "output: out\nby: [pack, pack]", "recipe:3: by: a field is named twice", ""),
    ("weights: w.safetensors", "wieghts: w.safetensors", "recipe:6: unknown key wieghts of reference", "weights"),
    ("online: {model", "online: {modle", "recipe:5: unknown key modle of online", "model"),
    ("online: {model: proxy-mu, lr: 2.0e-3}", "online: {lr: -1}", "recipe:5: online.lr: input should be greater", ""),
    ("online: {model: proxy-mu, lr: 2.0e-3}", "online: {reduced: 0.5}", "recipe:5: online: reduced is 0.5", ""),
    ("filtering_ratio: 0.8", "filtering_ratio: {start: 0.8, ed: 0.5}", "recipe:9: unknown key ed of", "end"),
    ("output: out", "output: out\ncompute: {learnes: 2}", "recipe:3: unknown key learnes of compute", "learners"),
    ("output: out", "output: out\ndevice: cuda\ncompute: {}", "recipe:3: cuda is for one process", "learner_gpus"),
    ("steps: 60, lr", "betas: [0.9, 1.0], lr", "betas is (0.9, 1.0)", ""),
    ("steps: 60, lr", "weight_decay: -0.1, lr", "weight_decay is -0.1", ""),
    ("gain: {start: 5, end: 20}", "gain: nan", "gain is nan: not a finite number", ""),
    ("steps: 60, lr", "scoring_size: 24, lr", "a scoring_size of 24 is not a multiple of the 16", "32"),
    ("lr: 1.0e-3}", "lr: .inf}", "recipe:4: learner.contrastive.lr is inf", ""),
]


@pytest.mark.parametrize(("old", "new", "says", "fix"), MISTAKES, ids=[row[2] for row in MISTAKES])
def test_a_mistake_is_one_line(old: str, new: str, says: str, fix: str) -> None:
    text, overrides = changed(LEARNING, old, new), ["selection.lag=2"] if "buffer" in new else []
    expect_mistake(lambda: parse_learn_recipe(text, overrides=overrides), says, fix=fix)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(TutelageError, match="no recipe at"):
        load_learn_recipe(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "selector",
    ["joint", "{easy_reference: {loss: softmax}}", "{shuffled: {of: {loss: softmax}}}"],
)
def test_losses_of_pairs_want_pairs(selector: str) -> None:
    column = "reference={column: clip_score}"
    for override in (column, "learner={classification: {}}"):
        with pytest.raises(TutelageError, match="looks at pairs of image and caption"):
            parse_learn_recipe(LEARNING, overrides=[f"selection.selector={selector}", override])
    assert parse_learn_recipe(LEARNING, overrides=[column]).reference is not None


@pytest.mark.parametrize("selector", ["{joint: {reference: 0}}", "{hard_learner: {loss: softmax}}"])
def test_a_column_that_nobody_looks_at_is_no_matter(selector: str) -> None:
    overrides = [f"selection.selector={selector}", "reference={column: clip_score}"]
    assert parse_learn_recipe(LEARNING, overrides=overrides).selection.selector.roles() == {"online"}
