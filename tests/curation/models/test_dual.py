"""Dual encoders: unit vectors that depend on their own sample alone, and weights that fit or say why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from curation.core.digest import sha256_of
from curation.core.errors import UserError, WeightsError
from curation.models import MODELS, Weights
from curation.models.architecture import build_model, config_path
from curation.models.compiled import Pass
from curation.models.dual import DualEncoder, load_dual_encoder, load_tensors
from curation.models.tokenizer import tokenizer_for
from curation.models.weights import tensors_to_bytes

CAPTIONS = ["a red heart", "", "arrow " * 60, "ein blauer Pfeil nach links", "end <end_of_text> of text", "!"]


@pytest.fixture(scope="module")
def encoder() -> DualEncoder:
    torch.set_num_threads(1)
    return load_dual_encoder("proxy-mu", None)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3), dtype=np.uint8)


def test_vectors_have_unit_length(encoder: DualEncoder, pixels: np.ndarray) -> None:
    for vectors, rows in ((encoder.image(pixels), 9), (encoder.text(CAPTIONS), len(CAPTIONS))):
        assert vectors.shape == (rows, encoder.dim) and vectors.dtype == torch.float32
        assert torch.allclose(vectors.norm(dim=1), torch.ones(rows), atol=1e-6)


def test_nothing_in_nothing_out(encoder: DualEncoder, pixels: np.ndarray) -> None:
    assert encoder.image(pixels[:0]).shape == encoder.text([]).shape == (0, encoder.dim)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_vector_does_not_depend_on_its_batch(pixels: np.ndarray, precision: str) -> None:
    encoder = load_dual_encoder("proxy-mu", None, precision=precision)  # type: ignore[arg-type]
    tolerance = 1e-6 if precision == "fp32" else 1e-2
    image, text = encoder.image(pixels), encoder.text(CAPTIONS)
    alone = torch.cat([encoder.image(pixels[i : i + 1]) for i in range(len(pixels))])
    assert torch.allclose(image, alone, atol=tolerance)
    alone = torch.cat([encoder.text([caption]) for caption in CAPTIONS])
    assert torch.allclose(text, alone, atol=tolerance)
    assert torch.allclose(encoder.text(CAPTIONS[::-1]).flip(0), text, atol=tolerance)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_equal_captions_are_encoded_once_and_get_the_bits_that_each_would_get(precision: str) -> None:
    encoder = load_dual_encoder("proxy-mu", None, precision=precision)  # type: ignore[arg-type]
    repeated = [CAPTIONS[place] for place in np.random.default_rng(0).integers(0, len(CAPTIONS), 50)]
    tokenised: list[str] = []
    tokenize = encoder._tokenize
    encoder._tokenize = lambda captions: tokenised.extend(captions) or tokenize(captions)  # type: ignore[func-returns-value]
    found = encoder.text(repeated)
    assert sorted(tokenised) == sorted(set(repeated))
    assert torch.equal(found, encoder._distinct(repeated)), "each for itself"


def test_passes_of_a_fixed_number_of_rows(encoder: DualEncoder, pixels: np.ndarray) -> None:
    """As on a GPU, and compiled: equal up to rounding, and only these shapes."""
    fixed, shapes = load_dual_encoder("proxy-mu", None), set()

    def recorded(encode: Pass) -> Pass:
        return lambda batch: shapes.add(tuple(batch.shape)) or encode(batch)  # type: ignore[func-returns-value]

    fixed._passes = recorded(fixed._image_vectors), recorded(fixed._text_vectors)
    fixed._image_rows = fixed._text_rows = 16
    many, captions = np.concatenate([pixels] * 4), [f"{caption} {n}" for n in range(7) for caption in CAPTIONS]
    torch.testing.assert_close(fixed.image(many), encoder.image(many), rtol=0, atol=1e-6)
    torch.testing.assert_close(fixed.text(captions), encoder.text(captions), rtol=0, atol=1e-6)
    assert shapes == {(16, 64, 64, 3), *((16, length) for length in (8, 16, 24, 32) if (16, length) in shapes)}
    assert torch.equal(fixed.text(captions)[3:5], fixed.text(captions[3:5])), "the same bits in any batch"


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_equal_to_open_clip_itself(model: str, pixels: np.ndarray, tmp_path: Path) -> None:
    """The same through its files, as a consumer uses a proxy's weights without Tutelage."""
    encoder = load_dual_encoder(model, None)
    (tmp_path / "w.safetensors").write_bytes(tensors_to_bytes(encoder.module.state_dict(), {}))
    import open_clip  # 8 seconds of CPU, which only this test needs

    open_clip.add_model_config(config_path(model))
    theirs = open_clip.create_model(model, pretrained=str(tmp_path / "w.safetensors")).eval()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (encoder.preprocess.mean, encoder.preprocess.std))
    images = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.inference_mode():
        assert torch.allclose(theirs.encode_image(images, normalize=True), encoder.image(pixels), atol=1e-5)
        text = theirs.encode_text(tokenizer_for(model)(CAPTIONS), normalize=True)
        assert torch.allclose(text, encoder.text(CAPTIONS), atol=1e-5)


def test_bf16_is_near_fp32(encoder: DualEncoder, pixels: np.ndarray) -> None:
    reduced = load_dual_encoder("proxy-mu", None, precision="bf16")
    assert (reduced.image(pixels) * encoder.image(pixels)).sum(1).min() > 0.999
    assert (reduced.text(CAPTIONS) * encoder.text(CAPTIONS)).sum(1).min() > 0.999


@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_from_a_file(
    prefix: str, encoder: DualEncoder, pixels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "w.safetensors"
    torch.manual_seed(1)
    module = build_model("proxy-mu")
    path.write_bytes(tensors_to_bytes({prefix + name: t for name, t in module.state_dict().items()}, {}))
    loaded = load_dual_encoder("proxy-mu", Weights(str(path), sha256_of(path)))
    assert not torch.allclose(loaded.image(pixels), encoder.image(pixels), atol=1e-2)
    assert all(torch.equal(loaded.module.state_dict()[k], v) for k, v in module.state_dict().items())
    with pytest.raises(WeightsError, match=r"does not fit model 'proxy-ti'.*of another shape") as caught:
        load_dual_encoder("proxy-ti", Weights(str(path), sha256_of(path)))
    assert "\n" not in str(caught.value)


def test_what_is_missing_or_unknown_is_named() -> None:
    module = build_model("proxy-mu")
    tensors = dict(module.state_dict())
    tensors["extra"] = tensors.pop("ln_final.weight")
    found = r"1 tensors missing \(first: ln_final.weight\); 1 tensors unknown \(first: extra\)"
    with pytest.raises(WeightsError, match=found):
        load_tensors(module, tensors, "proxy-mu", "w.safetensors")


def test_scalars_of_other_shapes_are_scalars() -> None:
    module = build_model("proxy-mu")
    load_tensors(module, {**module.state_dict(), "logit_scale": torch.tensor([3.0])}, "proxy-mu", "w")
    assert module.state_dict()["logit_scale"] == 3.0


def test_an_unknown_precision_names_the_known() -> None:
    with pytest.raises(UserError, match="fp8") as caught:
        load_dual_encoder("proxy-mu", None, precision="fp8")  # type: ignore[arg-type]
    assert "bf16" in caught.value.fix


def test_random_weights_leave_the_callers_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    load_dual_encoder("proxy-mu", None)
    assert torch.equal(before, torch.get_rng_state())
