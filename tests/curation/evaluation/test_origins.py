"""Trainings and evaluations judge real and relabelled samples unless others are named, and count the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from labelled import CLASSES, write_labelled

from curation.core.errors import UserError
from curation.core.origins import ORIGINS, TRUSTED
from curation.evaluation import fold_training
from curation.evaluation.card import identity_of
from curation.evaluation.fold_training import FoldTraining
from curation.evaluation.job import TrainingJob
from curation.evaluation.pairs import Samples
from curation.evaluation.training import run
from curation.evaluation.trials import held_out_examples, pin
from curation.learners.training import Training
from curation.models.fold_classifiers import FoldRule
from jobs.cli import cli

MARKED = {0: "synthetic", 4: "synthetic", 5: "relabelled", 7: "captioned"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_labelled(tmp_path / "data", CLASSES * 10, MARKED)


def job(data: Path, out: str, **changes: object) -> TrainingJob:
    training = Training(steps=1, batch=8)
    given = TrainingJob(
        data=str(data), model="proxy-mu", out=f"{data.parent}/{out}", training=training, device="cpu", holdout=0.0
    )
    return replace(given, **changes)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_training_evaluates_on_trusted_samples_and_counts_the_others(data: Path) -> None:
    card = run(job(data, "a", evaluation=str(data)))
    assert card["samples"] == {"train": 30, "held_out": 27}, "all origins train"
    assert card["skipped"] == {"origin_captioned": 1, "origin_synthetic": 2}
    more = run(job(data, "a", evaluation=str(data), origins=ORIGINS))
    assert more["samples"]["held_out"] == 30 and not more["skipped"] and not more["reused"]


@pytest.mark.slow
def test_samples_held_out_of_the_data_are_counted_by_origin(data: Path) -> None:
    card = run(job(data, "a", holdout=0.5, training=Training(steps=1, batch=2)))
    train, held_out, skipped = card["samples"]["train"], card["samples"]["held_out"], card["skipped"]
    assert train + held_out + sum(skipped.values()) == 30 and set(skipped) <= {"origin_synthetic", "origin_captioned"}


def test_the_usual_origins_name_no_other_training(data: Path) -> None:
    usual = identity_of(job(data, "a"), {"data": Samples([])}, "cpu")
    assert (
        "origins" not in usual and identity_of(job(data, "a", origins=TRUSTED), {"data": Samples([])}, "cpu") == usual
    )


@pytest.mark.slow
def test_classifiers_of_folds_judge_the_named_origins(data: Path) -> None:
    settings = FoldTraining(job=job(data, "f"), rule=FoldRule(2, 1))
    card = fold_training.run(settings)
    assert card["samples"]["train"] == 27 and card["skipped"] == {"origin_captioned": 1, "origin_synthetic": 2}
    assert fold_training.run(replace(settings, job=job(data, "f", origins=ORIGINS)))["samples"]["train"] == 30


def test_held_out_samples_of_other_origins_are_other_samples(data: Path) -> None:
    usual, more = pin(str(data), 0), pin(str(data), 0, ("synthetic", "real"))
    assert usual == pin(str(data), 0, TRUSTED[::-1]) and usual.id != more.id
    assert more.origins == ("real", "synthetic")
    assert [len(held_out_examples(one, "proxy-mu")[0]) for one in (usual, more)] == [27, 28]
    with pytest.raises(UserError, match="unknown origin 'painted'"):
        pin(str(data), 0, ["painted"])


@pytest.mark.slow
def test_the_command_takes_origins(data: Path) -> None:
    words = ["proxy", "train", "--data", str(data), "--out", f"{data.parent}/p", "--model", "proxy-mu", "--steps", "1"]
    words += ["--batch", "2", "--holdout", "0.5", "--device", "cpu"]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0 and ("skipped" in done.stdout) == ("left out of the samples" in done.stderr)
    assert CliRunner().invoke(cli, [*words, "--origins", ",".join(ORIGINS)]).stdout.count("skipped") == 0
    refused = CliRunner().invoke(cli, [*words, "--origins", "real,painted"])
    assert refused.exit_code == 2 and "the origins are real, relabelled" in refused.stderr
