"""`cu.evaluate(..., labels=...)`: models of every kind, judged once, ranked under several labellings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from edits_given import edits, replaced
from labelled import CLASSES, uids_of, write_classifier, write_labelled, write_probabilities
from services import one_line

import curation as cu
from curation.core.errors import UserError
from curation.evaluation import fold_training
from curation.evaluation.fold_training import FoldTraining
from curation.evaluation.job import TrainingJob
from curation.evaluation.judges import Judge, open_judge
from curation.learners.training import Training
from curation.ledger.edit_lists import write_edit_list
from curation.models.fold_classifiers import FoldRule

TRUE = CLASSES * 20
STORED = ["dog" if row < 12 else label for row, label in enumerate(TRUE)]  # 8 of 60 are wrong


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A labelled corpus, an edit list with the true labels, and tables of a good and of an overfitted model."""
    uids = uids_of(write_labelled(tmp_path / "test", STORED))
    wrong = [row for row, label in enumerate(TRUE) if label != STORED[row]]
    rows = [replaced(uids[row], "name", json.dumps(TRUE[row]), "review", "q") for row in wrong]
    write_edit_list(f"{tmp_path}/edits.parquet", edits(*rows))
    overfitted = ["owl" if row > 56 else label for row, label in enumerate(STORED)]
    write_probabilities(tmp_path / "overfitted.parquet", uids, overfitted, CLASSES)
    write_probabilities(tmp_path / "good.parquet", uids, TRUE, CLASSES)
    return tmp_path


def evaluate(home: Path, *models: str, **settings: Any) -> dict[str, Any]:
    asked: dict[str, Any] = {"labels": "before,after", "edits": f"{home}/edits.parquet", "device": "cpu", **settings}
    found: dict[str, Any] = cu.evaluate([f"{home}/{name}" for name in models], f"{home}/test", **asked)
    return json.loads(json.dumps(found))


def ranks(found: dict[str, Any]) -> dict[str, list[int]]:
    return {
        Path(name).stem: [rate["rank"] for rate in about["labels"].values()] for name, about in found["models"].items()
    }


@pytest.mark.slow
def test_a_cleaned_set_changes_the_order(home: Path) -> None:
    found = evaluate(home, "overfitted.parquet", "good.parquet")
    assert ranks(found) == {"overfitted": [1, 2], "good": [2, 1]}
    assert found["orders"] == [{"from": "before", "to": "after", "tau": -1.0, "changed": 1}]
    assert found["held_out"]["samples"] == 60 and found["classes"] == 3 and found["label"] == "name"
    after = found["labellings"]["after"]
    assert (after["samples"], after["replaced"], after["unknown"], after["stale"]["count"]) == (60, 8, 0, 0)
    assert found["models"][f"{home}/good.parquet"]["labels"]["after"]["rate"] == 1


@pytest.mark.slow
def test_every_kind_of_model_is_judged_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_classifier(home / "classifier.safetensors", [*CLASSES, "other"])
    from curation.models.architecture import build_model
    from curation.models.weights import tensors_to_bytes

    (home / "run").mkdir()
    clip = tensors_to_bytes(build_model("proxy-mu").state_dict(), {"model": "proxy-mu"})
    (home / "run/w.safetensors").write_bytes(clip)
    (home / "run/card.json").write_text(json.dumps({"key": "w.safetensors"}))
    calls: list[str] = []
    real: Callable[..., list[str | None]] = Judge.guesses

    def guesses(self: Judge, *given: Any) -> list[str | None]:
        calls.append(self.kind)
        return real(self, *given)

    monkeypatch.setattr(Judge, "guesses", guesses)
    found = evaluate(home, "classifier.safetensors", "run", "good.parquet", labels="before,after,truth=stored")
    kinds = [about["kind"] for about in found["models"].values()]
    assert kinds == ["classifier", "clip", "probabilities"] == calls
    assert len(found["pairs"]) == 3 and len(found["orders"]) == 3


@pytest.mark.slow
def test_classifiers_of_folds_are_judged_on_what_they_have_not_seen(home: Path) -> None:
    """Their report's share out of fold is the accuracy on the stored labels."""
    for model in ("proxy-mu", "proxy-patches"):
        job = TrainingJob(
            data=f"{home}/test", model=model, out=f"{home}/{model}", training=Training(steps=2, batch=8), device="cpu"
        )
        card = fold_training.run(FoldTraining(job=job, rule=FoldRule(2, 1)))
        found = evaluate(home, model, "good.parquet")
        (about,) = (about for name, about in found["models"].items() if name.endswith(model))
        assert about["kind"] == "folds" and about["sha256"] == card["sha256"]
        assert abs(about["labels"]["before"]["rate"] - card["evaluation"]["out_of_fold"]["rate"]) < 1e-9


@pytest.mark.slow
def test_a_classifier_guesses_as_its_learner_does(home: Path) -> None:
    """The same classes as `learners.classification` gives, whatever the batches."""
    import torch

    from curation.dataset.examples import gather
    from curation.dataset.loader import SampleStream
    from curation.dataset.open_shards import open_shards
    from curation.learners.classification import ClassLearner

    judge = open_judge(str(write_classifier(home / "c.safetensors", CLASSES)), torch.device("cpu"))
    assert judge.view is not None
    stream = SampleStream(open_shards(f"{home}/test"), size=judge.view.size, mode=judge.view.mode, shuffle=0)
    examples = gather(stream)
    assert examples is not None
    learner = ClassLearner("proxy-mu", CLASSES, Training(), "cpu")
    own = learner.logits(torch.from_numpy(examples.pixels)).argmax(1).tolist()
    assert judge.guesses(examples, [""] * 60, CLASSES) == [CLASSES[at] for at in own]


@pytest.mark.slow
def test_samples_are_left_out_with_a_reason(home: Path) -> None:
    uids = uids_of(home / "test")
    write_probabilities(home / "half.parquet", uids[:30], TRUE[:30], ["cat", "dog"])
    rows = [(uids[0], "drop"), (uids[1], "replace", "name", '"cat"', '"owl"'), replaced("f" * 32, "name", '"cat"')]
    write_edit_list(f"{home}/edits.parquet", edits(*rows))
    found = evaluate(home, "half.parquet", "good.parquet")
    assert found["classes"] == 2, "those that both models know"
    after = found["labellings"]["after"]
    owls, unguessed = (
        STORED.count("owl"),
        sum(label != "owl" and (row >= 30 or TRUE[row] == "owl") for row, label in enumerate(STORED)),
    )
    assert after["left_out"] == {"dropped": 1, "unknown_class": owls, "no_guess": unguessed} and after["unknown"] == 1
    stale = {"uid": uids[1], "expected": "owl", "present": "dog"}
    assert after["stale"] == {"count": 1, "examples": [stale]}
    assert after["samples"] + sum(after["left_out"].values()) == 60


def test_other_origins_are_left_out_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uids = uids_of(write_labelled(tmp_path / "test", TRUE, {0: "synthetic", 1: "relabelled"}))
    write_probabilities(tmp_path / "a.parquet", uids, TRUE, CLASSES)
    settings: dict[str, Any] = {"labels": "before", "device": "cpu"}
    found = cu.evaluate(f"{tmp_path}/a.parquet", f"{tmp_path}/test", **settings)
    assert found["held_out"]["samples"] == 59 and found["held_out"]["skipped"] == {"origin_synthetic": 1}
    assert "by origin: synthetic 1" in capsys.readouterr().err
    settings["origins"] = ("real", "relabelled", "synthetic")
    assert cu.evaluate(f"{tmp_path}/a.parquet", f"{tmp_path}/test", **settings)["held_out"]["samples"] == 60


@pytest.mark.slow
def test_models_that_cannot_be_judged_are_one_line(home: Path) -> None:
    def refused(model: str, **settings: Any) -> str:
        with pytest.raises(UserError) as caught:
            evaluate(home, model, "good.parquet", **settings)
        return one_line(caught.value)

    assert "does not exist" in refused("gone.safetensors")
    assert "no model that can be judged" in refused("test")
    (home / "plain.safetensors").write_bytes(judges_bytes())
    assert "does not name its model" in refused("plain.safetensors")
    write_probabilities(home / "birds.parquet", uids_of(home / "test"), ["a"] * 60, ["a", "b"])
    assert "0 classes in common" in refused("birds.parquet")
    assert "none with a label in the json field 'pack'" in refused("good.parquet", label="pack")


def judges_bytes() -> bytes:
    """Weights of nobody: a header without a model."""
    import torch

    from curation.models.weights import tensors_to_bytes

    return tensors_to_bytes({"a": torch.zeros(1)}, {})
