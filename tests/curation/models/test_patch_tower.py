"""The tower of patches: its definition by hand, its invariances, and features that don't depend on the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from curation.models.patch_config import PATCH_MODELS, PatchConfig
from curation.models.patch_tower import FLAT, THRESHOLD, PatchTower, fit_tower

SMALL = PatchConfig(size=16, patch=4, stride=2, patterns=12)


def pictures(count: int, size: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)


def features(tower: PatchTower, pixels: np.ndarray) -> torch.Tensor:
    with torch.inference_mode():
        return tower((torch.from_numpy(pixels) / 255).permute(0, 3, 1, 2))


def test_a_feature_is_the_response_to_a_pattern_in_a_quarter() -> None:
    pixels = pictures(3)
    tower = fit_tower(SMALL, pixels, 0)
    found = features(tower, pixels[:1])[0].view(SMALL.patterns, 2, 2)
    total = 0.0
    for image in (pixels[0], pixels[0][:, ::-1]):
        for top in (0, 2, 4, 6):  # patches at 0, 2, ..., 12: 7 rows, of which the first quarter has 4
            for left in (0, 2, 4, 6):
                patch = image[top : top + 4, left : left + 4].transpose(2, 0, 1) / 255
                white = (patch - patch.mean()) / np.sqrt(patch.var() + FLAT)
                response = float((white * tower.patterns[5].numpy()).sum() - tower.offsets[5])
                total += max(0.0, response - THRESHOLD) / 32
    assert found[5, 0, 0] == pytest.approx(np.sqrt(total), abs=1e-4)


def test_it_ignores_brightness_contrast_and_mirroring() -> None:
    pixels = pictures(4)
    tower = fit_tower(SMALL, pixels, 0)
    plain = features(tower, pixels)
    mirrored = features(tower, np.ascontiguousarray(pixels[:, :, ::-1]))
    assert torch.allclose(mirrored, plain, atol=1e-4)
    assert torch.allclose(features(tower, pixels // 2 + 60), plain, atol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [16, 17, 40, 64, 100])
def test_a_feature_has_the_same_bits_in_every_batch(rows: int) -> None:
    """With one thread, as workers have by default."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        pixels = pictures(130, 32)
        tower = fit_tower(PATCH_MODELS["proxy-patches"], pixels, 0)
        whole = features(tower, pixels)
        parts = [features(tower, pixels[start : start + rows]) for start in range(0, 130 - rows, rows)]
        found = torch.cat(parts)
        assert torch.equal(found, whole[: len(found)])
    finally:
        torch.set_num_threads(threads)


@pytest.mark.slow
def test_fitting_is_a_function_of_pictures_and_seed() -> None:
    pixels = pictures(10)
    one, same, other = (fit_tower(SMALL, pixels, seed) for seed in (0, 0, 1))
    assert torch.equal(one.patterns, same.patterns) and not torch.equal(one.patterns, other.patterns)
    flat = fit_tower(SMALL, np.full((3, 16, 16, 3), 80, np.uint8), 0)  # no pattern in any patch
    assert torch.isfinite(features(flat, pixels)).all()
