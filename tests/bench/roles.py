"""`make bench-roles`: what scoring and learning cost on this machine's device, beside what its matrix units can do.

    python tests/bench/roles.py                       on the GPU in both precisions if there is one, else on the CPU
    python tests/bench/roles.py --models proxy-mu     fewer models

Batches start as bytes in this machine's memory, as in a run, so that copies to the device count. Each figure is the
median of several synchronised calls. The limit is a product of 8,192-square matrices on a GPU, 2,048 on a CPU, measured
here in the same precision. A run of all models replaces the figures of docs/results/roles.md for its kind of device.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[at]) for at in (1, 2)]  # the root, or tests/curation would shadow ours

import torch  # noqa: E402
from bench.record import facts, write  # noqa: E402

from curation.learners.contrastive import ClipLearner  # noqa: E402
from curation.learners.training import Training  # noqa: E402
from curation.learning.model_flops import forward_flops  # noqa: E402
from curation.models import preprocess_for  # noqa: E402
from curation.models.batches import SuperBatch, TrainingBatch  # noqa: E402
from curation.models.tokenizer import tokenizer_for  # noqa: E402
from curation.selection.flops import BACKWARD  # noqa: E402

MODELS = ("proxy-mu", "proxy-ti", "proxy-s", "ViT-B-32")
CALLS = 5


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--batch", type=int, help="samples in a batch; default: 4,096 on a GPU, 128 on a CPU")
    parser.add_argument("--no-record", action="store_true", help="leave the page of results as it is")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    batch = options.batch or (4096 if gpu else 128)
    lines = [
        f"- device: {torch.cuda.get_device_name() if gpu else f'CPU, {torch.get_num_threads()} threads'}, torch "
        f"{torch.__version__}; batches of {batch:,}, super-batches of {2 * batch:,}",
        "",
        "| model | precision | scoring: samples/s | of the limit | learning: samples/s | of the limit | peak GB |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for precision in ("fp32", "bf16") if gpu else ("fp32",):
        limit = matrix_limit(device, precision)
        for model in options.models.split(","):
            lines.append(row(model, precision, device, batch, limit))
            print(lines[-1], flush=True)
        lines[0] += f"; {precision} limit {limit / 1e12:.1f} TFLOP/s"
    print("\n".join(lines))
    if not options.no_record:
        used = resource.getrusage(resource.RUSAGE_SELF)
        if options.models == ",".join(MODELS) and options.batch is None:
            write("roles", device.type, facts(time.monotonic() - began, used.ru_utime + used.ru_stime), lines)


def row(model: str, precision: Any, device: torch.device, batch: int, limit: float) -> str:
    """One model's line of the table."""
    training = Training(steps=1000, batch=batch, precision=precision, micro_batch=512 if batch > 512 else 0)
    if model != "ViT-B-32":  # small models need no micro-batches
        training = Training(steps=1000, batch=batch, precision=precision)
    learner = ClipLearner(model, training, device)
    side, words = preprocess_for(model).size, tokenizer_for(model)
    some = TrainingBatch(
        torch.randint(0, 256, (2 * batch, side, side, 3), dtype=torch.uint8),
        words([f"{number} " * 80 for number in range(2 * batch)]),  # fill the context, which FLOPs are counted for
    )
    candidates = SuperBatch(torch.arange(2 * batch), some)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    scoring = 2 * batch / seconds(lambda: learner.outputs(candidates).losses(), device)
    learning = batch / seconds(lambda: learner.step(TrainingBatch(*(part[:batch] for part in some))), device)
    flops = forward_flops(model, text=True)
    passes = 1 + BACKWARD + bool(training.micro_batch)
    peak = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else float("nan")
    shares = scoring * flops / limit, learning * passes * flops / limit
    return (
        f"| {model} | {precision} | {scoring:,.0f} | {shares[0]:.0%} | {learning:,.0f} | {shares[1]:.0%} | {peak:.1f} |"
    )


def seconds(call: Callable[[], Any], device: torch.device) -> float:
    """Median seconds of a few calls, after two for warming up."""
    took = []
    for _ in range(2 + CALLS):
        began = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        took.append(time.perf_counter() - began)
    return statistics.median(took[2:])


def matrix_limit(device: torch.device, precision: str) -> float:
    """FLOP/s of a large matrix product."""
    side = 8192 if device.type == "cuda" else 2048
    one = torch.randn(side, side, device=device, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    return 2 * side**3 / seconds(lambda: one @ one, device)


if __name__ == "__main__":
    main()
