"""Compiled passes: the vectors of plain ones to rounding, in few shapes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from curation.models import dual
from curation.models.compiled import Pass
from curation.models.dual import load_dual_encoder

CAPTIONS = [f"{'arrow ' * (n % 30)}{n}" for n in range(40)]


def pixels(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)


def test_batches_of_any_size_have_few_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: set[tuple[int, ...]] = set()

    def recorded(encode: Pass) -> Pass:
        return lambda batch: shapes.add(tuple(batch.shape)) or encode(batch)  # type: ignore[func-returns-value]

    monkeypatch.setattr(dual, "compiled", recorded)
    encoder, plain = load_dual_encoder("proxy-mu", None), load_dual_encoder("proxy-mu", None)
    encoder.compile(64)
    for count in (1, 33, 64, 100):
        torch.testing.assert_close(encoder.image(pixels(count)), plain.image(pixels(count)), rtol=0, atol=1e-6)
        torch.testing.assert_close(encoder.text(CAPTIONS[:count]), plain.text(CAPTIONS[:count]), rtol=0, atol=1e-6)
    assert shapes == {(64, 64, 64, 3), (16, 16), (16, 32)}


def test_a_batch_that_lacks_memory_halves_the_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def greedy(encode: Pass) -> Pass:
        def limited(batch: torch.Tensor) -> torch.Tensor:
            seen.append(len(batch))
            if len(batch) > 32:
                raise torch.OutOfMemoryError
            return encode(batch)

        return limited

    monkeypatch.setattr(dual, "compiled", greedy)
    encoder = load_dual_encoder("proxy-mu", None)
    encoder.compile(64)
    with pytest.raises(torch.OutOfMemoryError):
        encoder.image(pixels(64))
    assert len(encoder.image(pixels(20))) == 20 and seen == [64, 32]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "tolerance"), [("fp32", 2e-6), pytest.param("bf16", 1e-2, marks=pytest.mark.soak)]
)
def test_compiled_vectors_are_those_of_plain_passes(precision: str, tolerance: float) -> None:
    encoder, plain = (load_dual_encoder("proxy-mu", None, precision=precision) for _ in range(2))  # type: ignore[arg-type]
    encoder.compile(16)
    for count in (16, 5, 20):
        for found, expected in (
            (encoder.image(pixels(count)), plain.image(pixels(count))),
            (encoder.text(CAPTIONS[:count]), plain.text(CAPTIONS[:count])),
        ):
            torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)
    assert torch.equal(encoder.image(pixels(20))[:5], encoder.image(pixels(5))), "the same bits in any batch"
