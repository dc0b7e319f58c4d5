"""Weights of something else are found by the headers of their files, before anything is scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from builders import write_corpus, write_recipe, write_weights
from scorers_given import Fields, all_fields, make, write
from torch.nn.functional import normalize

from curation.core.errors import WeightsError
from curation.curating import scoring_passes
from curation.curating.pipeline import pipeline
from curation.models.vectors import centres_file, vectors_file
from curation.models.weights import tensors_to_bytes
from curation.recipes.curation_recipe import load_recipe
from curation.scorers import SCORERS, HeaderCheckingScorer
from curation.scorers.encoder import Encoder

ENCODERS = sorted(name for name, kind in SCORERS.items() if issubclass(kind, Encoder))
FIX = "name the architecture that these weights were trained with"


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Fields]:
    home = tmp_path_factory.mktemp("fits")
    return home, all_fields(home)


@pytest.mark.slow
@pytest.mark.parametrize("name", ENCODERS)
def test_files_that_fit_are_accepted_and_no_tensor_is_read(
    name: str, given: tuple[Path, Fields], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("safetensors.torch.load_file", None)
    scorer = make(name, given[1][name])
    assert isinstance(scorer, HeaderCheckingScorer)
    scorer.check()


@pytest.mark.parametrize("name", ENCODERS)
def test_weights_of_another_architecture_are_one_line(name: str, given: tuple[Path, Fields]) -> None:
    scorer: Any = make(name, {**given[1][name], "model": "proxy-ti"})
    with pytest.raises(
        WeightsError, match=r"w.safetensors does not fit model 'proxy-ti': \d+ tensors missing"
    ) as error:
        scorer.check()
    assert error.value.fix == FIX and "\n" not in str(error.value)


def test_a_reference_of_another_architecture_is_found_too(given: tuple[Path, Fields]) -> None:
    fields = given[1]["learnability"]
    scorer: Any = make("learnability", {**fields, "reference": {**fields["reference"], "model": "proxy-s"}})
    with pytest.raises(WeightsError, match=r"o.safetensors does not fit model 'proxy-s'"):
        scorer.check()


def test_vectors_centres_and_heads_of_another_width_are_found(given: tuple[Path, Fields]) -> None:
    home, fields = given
    sha = fields["clip_score"]["sha256"]
    wide = normalize(torch.ones(3, 80), dim=-1)
    vectors = write(home / "wide.safetensors", vectors_file(wide, wide, sha))
    centres = write(home / "widec.safetensors", centres_file(wide, "image", sha))
    head = write(home / "wideh.safetensors", tensors_to_bytes({"weight": torch.ones(1, 80)}, {}))
    vector = r"tensor `(image|text)` has shape \[3, 80\], the encoder's vectors have 64 numbers"
    for name, changes, said in (
        ("norm_sim", {"target": vectors["weights"], "target_sha256": vectors["sha256"]}, vector),
        ("negclip_loss", {"against": vectors["weights"], "against_sha256": vectors["sha256"]}, vector),
        ("cluster", {"target": vectors["weights"], "target_sha256": vectors["sha256"]}, vector),
        (
            "cluster",
            {"centres": centres["weights"], "centres_sha256": centres["sha256"]},
            r"`centres` has shape \[3, 80\]",
        ),
        ("norm_sim", {"target": centres["weights"], "target_sha256": centres["sha256"]}, "tensor `image` is missing"),
        ("head", {"head": head}, r"no linear layers from 64 numbers to one; its weights: weight \[1, 80\]"),
    ):
        scorer: Any = make(name, {**fields[name], **changes})
        with pytest.raises(WeightsError, match=said):
            scorer.check()


def test_a_run_says_so_before_it_scores_and_asks_only_for_what_it_scores(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", 1, 4, flaws=False)
    sha = write_weights(tmp_path / "w.safetensors")
    weights = (str(tmp_path / "corpus"), str(tmp_path / "out"), str(tmp_path / "w.safetensors"), sha)
    recipe = write_recipe(tmp_path / "r.yaml", *weights)
    with pipeline(load_recipe(recipe, ["scorers.0.clip_score.model=proxy-s"]), dry=True) as work:
        with pytest.raises(WeightsError, match=r"^\S+.*: scorer clip_score: .*does not fit model 'proxy-s'"):
            scoring_passes.check_weights(work, ["clip_score", "embedding"])
        scoring_passes.check_weights(work, ["embedding"])
