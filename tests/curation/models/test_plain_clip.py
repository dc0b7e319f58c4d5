"""The plain CLIP architecture: vectors of open_clip's classes, without importing open_clip."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from curation.models import cost
from curation.models.architecture import MODELS, build_for_inference, build_model, is_plain, model_config, model_names
from curation.models.dual import DualEncoder, PixelNormaliser
from curation.models.plain_clip import PatchEmbedding, PlainClip

CAPTIONS = ["a cat", "two dogs on a table in the sun", "", "x " * 80, "naïve café 漢字"] * 4
DEVICE = torch.device("cpu")


def of_open_clip(model: str) -> torch.nn.Module:
    """Return open_clip's own class of a plain model, with random weights."""
    import open_clip  # 8 seconds of CPU

    if model in MODELS:
        return open_clip.CLIP(**model_config(model))
    return open_clip.create_model(model, device=torch.get_default_device())  # type: ignore[no-any-return]


def pair_of(model: str, precision: str = "fp32") -> tuple[DualEncoder, DualEncoder]:
    """Return encoders of equal random weights: open_clip's class, and ours."""
    torch.manual_seed(1)
    theirs, ours = of_open_clip(model), build_for_inference(model)
    assert isinstance(ours, PlainClip)
    ours.load_state_dict(theirs.state_dict())
    return DualEncoder(model, theirs, DEVICE, precision), DualEncoder(model, ours, DEVICE, precision)  # type: ignore[arg-type]


def pictures(encoder: DualEncoder, count: int) -> np.ndarray:
    size = encoder.preprocess.size
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize("model", [*MODELS, pytest.param("ViT-S-32-alt", marks=pytest.mark.slow)])
def test_vectors_equal_those_of_open_clip(model: str) -> None:
    theirs, ours = pair_of(model)
    pixels = pictures(ours, 4 if model.startswith("ViT") else 20)
    torch.testing.assert_close(ours.image(pixels), theirs.image(pixels), atol=1e-6, rtol=0)
    captions = CAPTIONS[: len(pixels)]
    torch.testing.assert_close(ours.text(captions), theirs.text(captions), atol=1e-6, rtol=0)


@pytest.mark.parametrize("model", [*MODELS, pytest.param("ViT-S-32-alt", marks=pytest.mark.slow)])
def test_initial_weights_and_draws_equal_those_of_open_clip(model: str) -> None:
    found = []
    for build in (of_open_clip, build_model):
        torch.manual_seed(7)
        module = build(model)
        found.append((module.state_dict(), [name for name, _ in module.named_parameters()], torch.get_rng_state()))
    (theirs, their_order, their_state), (ours, our_order, our_state) = found
    assert ours.keys() == theirs.keys() and our_order == their_order and torch.equal(our_state, their_state)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_gradients_equal_those_of_open_clip(model: str) -> None:
    size = model_config(model)["vision_cfg"]["image_size"]
    images, ids = torch.randn(6, 3, size, size), torch.randint(1, 400, (6, 32))
    ids[torch.arange(6), torch.arange(6) * 4 + 5] = 49407  # the end token; what follows has no influence
    found = []
    for build in (of_open_clip, build_model):
        torch.manual_seed(7)
        module: Any = build(model)
        (module.encode_image(images) * module.encode_text(ids)).sum().backward()
        found.append({name: parameter.grad for name, parameter in module.named_parameters()})
    for name, theirs in found[0].items():
        if not name.startswith("logit"):
            torch.testing.assert_close(found[1][name], theirs, atol=1e-4, rtol=1e-3, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_nominal_flops_are_those_of_open_clips_class(model: str) -> None:
    config = model_config(model)
    size, flops = config["vision_cfg"]["image_size"], []
    with torch.device("meta"):
        theirs: Any = of_open_clip(model).eval()
        ids = torch.zeros(1, config["text_cfg"]["context_length"], dtype=torch.long)
        for encode, inputs in ((theirs.encode_image, torch.zeros(1, 3, size, size)), (theirs.encode_text, ids)):
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                encode(inputs)
            flops.append(counter.get_total_flops())
    assert [cost(model).image_flops, cost(model).text_flops] == flops


def test_the_activation_of_openai() -> None:
    import open_clip

    config = {**model_config("proxy-mu"), "quick_gelu": True}
    torch.manual_seed(1)
    theirs, ours = open_clip.CLIP(**config).eval(), PlainClip(config).eval()
    ours.load_state_dict(theirs.state_dict())
    with torch.inference_mode():
        images = torch.randn(16, 3, 64, 64)
        torch.testing.assert_close(ours.encode_image(images), theirs.encode_image(images), atol=1e-5, rtol=0)


def test_vectors_in_bfloat16_are_as_near_as_its_rounding() -> None:
    theirs, ours = pair_of("proxy-mu", "bf16")
    pixels = pictures(ours, 20)
    assert (ours.image(pixels) * theirs.image(pixels)).sum(1).min() > 0.9999
    assert (ours.text(CAPTIONS) * theirs.text(CAPTIONS)).sum(1).min() > 0.9999


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("rows", [1, 3, 15, 16, 17, 31, 40])
def test_a_vector_has_the_same_bits_in_every_batch(model: str, rows: int) -> None:
    """With one thread, as workers have by default: several divide a matrix product by its shape."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _, ours = pair_of(model)
        pixels, captions = pictures(ours, 64), CAPTIONS * 4
        assert torch.equal(ours.image(pixels[5 : 5 + rows]), ours.image(pixels)[5 : 5 + rows])
        assert torch.equal(ours.text(captions[5 : 5 + rows]), ours.text(captions)[5 : 5 + rows])
    finally:
        torch.set_num_threads(threads)


def test_the_patch_embedding_equals_its_two_steps() -> None:
    _, ours = pair_of("proxy-ti")
    assert isinstance(ours.module, PlainClip)
    conv1, preprocess = ours.module.visual.conv1, ours.preprocess
    pixels = torch.from_numpy(pictures(ours, 3))
    expected = conv1(PixelNormaliser(preprocess)(pixels)).flatten(2).transpose(1, 2)
    found = PatchEmbedding(conv1, preprocess.mean, preprocess.std)(pixels)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("model", "plain"),
    [("proxy-s", True), ("ViT-B-32", True), ("ViT-L-14-336-quickgelu", True), ("RN50", False),
     ("ViT-B-16-SigLIP", False), ("coca_ViT-B-32", False), ("xlm-roberta-base-ViT-B-32", False),
     ("convnext_base", False)],
)  # fmt: skip
def test_which_models_are_plain(model: str, plain: bool) -> None:
    assert is_plain(model_config(model)) is plain


@pytest.mark.slow
def test_tensor_names_and_shapes_equal_those_of_open_clip() -> None:
    """Of every plain model below a billion parameters, on the meta device."""
    checked: list[str] = []
    for model in model_names():
        if is_plain(model_config(model)) and not any(name in model for name in ("bigG", "-e-", "-g-", "H-14", "H-16")):
            with torch.device("meta"):
                theirs, ours = (shapes_of(build(model)) for build in (of_open_clip, build_for_inference))
            assert ours == theirs, model
            checked.append(model)
    assert len(checked) > 20


def shapes_of(module: torch.nn.Module) -> dict[str, Sequence[int]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


@pytest.mark.slow
def test_a_proxy_is_loaded_and_checked_without_the_packages_that_take_long(tmp_path: Path) -> None:
    code = """
import sys, numpy as np, torch
from curation.models import architecture, tokenizer
from curation.models.dual import DualEncoder
from curation.models.weight_shapes import _expect_encoder
from curation.models.weights import tensors_to_bytes
module = architecture.build_for_inference("proxy-mu")
torch.nn.init.zeros_(module.logit_scale)
open(sys.argv[1], "wb").write(tensors_to_bytes(module.state_dict(), {}))
_expect_encoder("proxy-mu", sys.argv[1], "w")
encoder = DualEncoder("proxy-mu", module, torch.device("cpu"))
encoder.image(np.zeros((2, 64, 64, 3), np.uint8)), encoder.text(["a cat", "a dog"])
slow = {"open_clip", "torchvision", "torch._dynamo", "sympy", "ftfy", "scipy", "timm", "transformers"}
assert not (found := slow & sys.modules.keys()), found
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "w.safetensors")], check=True)
