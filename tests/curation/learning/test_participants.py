"""The models of a run: roles, kinds of learners, and references."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from builders import write_corpus
from learning_runs import CLASSES, STEPS, go, start
from tiny_model import TINY

from curation.core.errors import UserError, WeightsError
from curation.learners.classification import ClassLearner
from curation.recipes.learning_recipe import LearnRecipe


def test_a_reference_of_another_architecture_is_found_before_any_sample_is_read(
    recipe: Callable[..., LearnRecipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curation.learning.data._classes", None)
    monkeypatch.setattr("curation.learning.data.expect_disjoint", None)
    with pytest.raises(WeightsError, match="does not fit model 'proxy-ti'"):
        go(recipe("reference.model=proxy-ti"))


@pytest.mark.slow
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


@pytest.mark.slow
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
