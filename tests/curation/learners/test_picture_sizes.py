"""A vision transformer at another size than its own (Flexi-JEST)."""

from __future__ import annotations

import pytest
import torch

from curation.learners.picture_sizes import PictureSizes, at_size
from curation.learners.training import Training
from curation.models.architecture import build_model
from curation.models.batches import TrainingBatch


def test_at_its_own_size_nothing_changes() -> None:
    module, pixels = build_model("proxy-mu").eval(), torch.randn(3, 3, 64, 64)
    own = module.visual.positional_embedding
    with torch.no_grad():
        assert torch.allclose(at_size(module, module.visual, pixels, 64), module.visual(pixels), atol=1e-6)
        assert not torch.allclose(at_size(module, module.visual, pixels, 32), module.visual(pixels), atol=1e-2)
    assert module.visual.positional_embedding is own
    assert "visual.positional_embedding" in dict(module.named_parameters())


def test_positions_learn_from_reduced_pictures() -> None:
    module = build_model("proxy-mu")
    at_size(module, module.visual, torch.randn(3, 3, 64, 64), 32).sum().backward()
    gradient = module.visual.positional_embedding.grad
    assert gradient.shape == (17, 64) and gradient[1:].abs().sum() > 0


@pytest.mark.parametrize(
    ("size", "reduced", "marked"), [(0, 0.0, ""), (32, 0.0, ""), (32, 0.5, "1357"), (32, 0.25, "37")]
)
def test_reduced_samples_are_evenly_spaced(size: int, reduced: float, marked: str) -> None:
    settings = Training(scoring_size=size, reduced=reduced)
    sizes = PictureSizes("proxy-mu", build_model("proxy-mu"), settings, torch.device("cpu"))
    small = sizes.mark_reduced(TrainingBatch(torch.zeros(8, 64, 64, 3), torch.zeros(8))).small
    assert "".join(str(row) for row in small.nonzero().flatten().tolist()) == marked
