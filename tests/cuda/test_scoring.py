"""Scoring on a GPU: copies that overlap, compiled passes, captions encoded once, workers that share a GPU.

Skipped where there is none. Everything here is tested on CPUs too; what differs is who waits for whom, kernels, and who
holds memory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import write_corpus, write_recipe, write_weights

import curation as cu
from curation.core.local_executor import LocalExecutor
from curation.curating.run import RunOptions, curate
from curation.models.device_copies import to_device, to_host
from curation.models.dual import load_dual_encoder

pytestmark = [pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")]
CUDA, CPU = torch.device("cuda"), torch.device("cpu")
CAPTIONS = [f"{'arrow ' * (n % 30)}{n}" for n in range(300)]


def pixels(count: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)


def test_copies_that_overlap_with_work_arrive_whole() -> None:
    """Buffers are reused from batch to batch: none is overwritten before its copy and the work on it are done."""
    weight = torch.randn(2048, 2048, device=CUDA)
    batches = [
        torch.from_numpy(np.random.default_rng(n).integers(0, 256, (1 << 22,), dtype=np.uint8)) for n in range(24)
    ]
    waits, following = [], to_device(batches[0], CUDA)
    for n, _ in enumerate(batches):
        current = following
        busy = weight
        for _ in range(20):
            busy = busy @ weight / 45  # the device is still at work as the next copy is queued
        waits.append(to_host(current.flip(0) + (busy[0, 0] * 0).to(torch.uint8)))
        del current
        if n + 1 < len(batches):
            following = to_device(batches[n + 1], CUDA)
    for batch, wait in zip(batches, waits, strict=True):
        assert torch.equal(wait(), batch.flip(0))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_caption_has_the_same_bits_in_any_batch(precision: str, compiled: bool) -> None:
    encoder = load_dual_encoder("proxy-mu", None, CUDA, precision)  # type: ignore[arg-type]
    if compiled:
        encoder.compile(64)
    whole = encoder.text(CAPTIONS)
    assert torch.equal(encoder.text(CAPTIONS[100:140]), whole[100:140])
    assert torch.equal(encoder.text(CAPTIONS[::-1]).flip(0), whole)
    assert torch.equal(encoder.text([*CAPTIONS, *CAPTIONS]), torch.cat([whole, whole])), (
        "repeated ones are encoded once"
    )


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 3e-2)])
def test_compiled_passes_have_the_vectors_of_plain_ones(precision: str, tolerance: float) -> None:
    encoder, plain = (load_dual_encoder("proxy-mu", None, CUDA, precision) for _ in range(2))  # type: ignore[arg-type]
    encoder.compile(64)
    for count in (64, 7, 100):
        torch.testing.assert_close(encoder.image(pixels(count)), plain.image(pixels(count)), rtol=0, atol=tolerance)
        found, expected = encoder.text(CAPTIONS[:count]), plain.text(CAPTIONS[:count])
        torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


def test_local_workers_share_a_gpu_and_decode_ahead(tmp_path: Path) -> None:
    """The scores of a CPU to rounding; the same bits with one worker or two, decoding ahead or not."""
    corpus = write_corpus(tmp_path / "pool", shards=4, n=60)
    sha = write_weights(tmp_path / "w.safetensors")
    found = {}
    for name, compute in (
        ("cpu", {"batch_size": 64, "max_actors": 1}),
        ("one", {"batch_size": 64, "max_actors": 1, "num_gpus": 1, "decode_tasks": 0}),
        ("two", {"batch_size": 64, "max_actors": 2, "min_actors": 2, "num_gpus": 0.5, "decode_tasks": 2}),
        ("compiled", {"batch_size": 64, "max_actors": 1, "num_gpus": 1, "compile": True}),
    ):
        output = f"{tmp_path}/{name}"
        recipe = write_recipe(
            tmp_path / f"{name}.yaml", f"{corpus}", output, f"{tmp_path}/w.safetensors", sha, compute=compute
        )
        curate(recipe, executor=LocalExecutor(), options=RunOptions(accept_yield=True))
        found[name] = cu.open(output).manifest.query("select uid, clip_score from manifest order by uid")
    scores = {name: np.array(table["clip_score"].to_pylist(), float) for name, table in found.items()}
    assert all(table["uid"].to_pylist() == found["cpu"]["uid"].to_pylist() for table in found.values())
    assert np.array_equal(scores["one"], scores["two"], equal_nan=True)
    np.testing.assert_allclose(scores["one"], scores["cpu"], atol=1e-4)
    np.testing.assert_allclose(scores["one"], scores["compiled"], atol=1e-4)
