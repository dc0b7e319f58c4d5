"""Names, configurations, preprocessing and costs, without loading any weights."""

from __future__ import annotations

import subprocess
import sys

import pytest

from curation import models
from curation.core.errors import UnknownNameError


@pytest.mark.parametrize(
    ("name", "nearest"), [("proxy-tj", "proxy-ti"), ("vit-b-32", "ViT-B-32"), ("ViT-B/16", "ViT-B-16")]
)
def test_an_unknown_model_names_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown model") as caught:
        models.model_config(name)
    assert f"did you mean '{nearest}'?" in caught.value.fix


@pytest.mark.parametrize("name", ["", "../proxy-ti", "zzzzzzzz"])
def test_names_are_no_paths(name: str) -> None:
    with pytest.raises(UnknownNameError):
        models.model_config(name)


def test_the_table_comes_first_and_open_clip_follows() -> None:
    names = models.model_names()
    assert names[: len(models.MODELS)] == list(models.MODELS)
    assert {"ViT-B-32", "ViT-L-14", "RN50"} <= set(names)


@pytest.mark.slow
def test_cost_by_hand() -> None:
    width, layers, tokens = 128, 4, 17  # 16 patches and the class token
    blocks = layers * tokens * (12 * width * width) * 2
    attention = layers * 2 * 2 * tokens * tokens * width
    patches = 16 * (16 * 16 * 3) * width * 2
    head = width * 128 * 2
    assert models.cost("proxy-ti").image_flops == pytest.approx(blocks + attention + patches + head, rel=0.01)
    assert models.cost("ViT-B-32").parameters == 151_277_313  # as published


def test_preprocess_of_our_own_and_of_foreign_models() -> None:
    clip = models.preprocess_for("proxy-mu")
    assert (clip.size, clip.mode, clip.mean) == (64, "shortest", (0.48145466, 0.4578275, 0.40821073))
    siglip = models.preprocess_for("ViT-B-16-SigLIP")
    assert (siglip.size, siglip.mode, siglip.mean, siglip.std) == (224, "squash", (0.5,) * 3, (0.5,) * 3)
    assert models.preprocess_for("ViT-B-32").mean == clip.mean


def test_names_and_weights_need_no_torch() -> None:
    program = (
        "import sys; from curation import models; models.model_config('proxy-ti'); models.model_names();"
        "models.Weights('x', 'a' * 64); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
