"""`make bench-diagnosis`: from a model's failures to the data behind them, with causes that were planted.

X-rays get two marks with wrong labels and random flips (`diagnosis/worlds.py`, `diagnosis/planted.py`); a model is
trained on them, and fails on marked pictures. Each part judges what one step of `curate diagnose` makes of that.

    TUTELAGE_BENCH_DATA=FOLDER python tests/bench/failure_analysis.py     5 seeds: under 20 minutes on two cores
    python tests/bench/failure_analysis.py --only trace,erase             some parts, with their pages' blocks
    python tests/bench/failure_analysis.py --quick                        one seed, small scale

A part is a module of `diagnosis/` with `measure(seed) -> {name: number}` and `lines(found)`, found by its name here;
the figures of a part that ran with all seeds replace its block of docs/results/diagnosis.md. Failing models are
trained first, once for each seed of a run, in a folder of the run.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"
sys.path[:0] = [str(Path(__file__).parents[at]) for at in (1, 2)]  # the root, or tests/curation would shadow ours

from bench.diagnosis import bars, worlds  # noqa: E402
from bench.diagnosis.planted import FOLDER  # noqa: E402
from bench.record import facts, write  # noqa: E402

PARTS = ("types", "erase", "repair", "collect", "trace", "others", "scale")  # the longest first
MODULES = Path(__file__).parent / "diagnosis"
#: Part -> the worlds whose failing models it needs.
WORLDS = {"others": ("cifar", "icons"), "scale": ()}
ALONE = ("scale",)  # parts whose seconds count: once, with no other process beside them
FEWER = {"others": 3}  # parts that take fewer seeds, for time
SEEDS, MINUTES = 5, 20


class Measured(NamedTuple):
    """The figures of a part and a seed, and the CPU seconds that they took."""

    part: str
    seed: int
    figures: dict[str, float]
    cpu: float


def main(arguments: Sequence[str] | None = None) -> list[str]:
    """Measure and report; returns the lines."""
    options = _options(arguments)
    parts, seeds = _parts(options), range(options.first_seed, options.first_seed + options.seeds)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ[FOLDER] = str(options.models or scratch)
        os.environ[bars.QUICK] = "1" if options.quick else ""
        found = list(_measured(parts, seeds, options.jobs))
    seconds, cpu = time.monotonic() - began, sum(one.cpu for one in found)
    lines = []
    for part in parts:
        own = sorted((one for one in found if one.part == part), key=lambda one: one.seed)
        some = _module(part).lines([one.figures for one in own])
        lines += [f"## {part}", "", *some, ""]
        if options.seeds == SEEDS and options.first_seed == 0 and not options.no_record:
            write("diagnosis", part, facts(seconds, sum(one.cpu for one in own)), some)
    whole = [bars.Bar(f"the bench takes under {MINUTES} minutes", f"{seconds / 60:.1f}", seconds < 60 * MINUTES)]
    if set(parts) == set(PARTS) and options.seeds == SEEDS and options.first_seed == 0 and not options.no_record:
        costs = [f"- {part}: {sum(one.cpu for one in found if one.part == part):,.0f} s of CPU" for part in parts]
        write("diagnosis", "whole", facts(seconds, cpu), [*costs, "", *bars.table(whole)])
    lines += bars.table(whole) if not options.only else []
    print("\n".join(lines))
    return lines


def _parts(options: argparse.Namespace) -> list[str]:
    """Return the parts to run. Exits for an unknown one, and where its data are missing."""
    known = [part for part in PARTS if (MODULES / f"{part}.py").exists()]
    wanted = options.only.split(",") if options.only else known
    if unknown := [part for part in wanted if part not in known]:
        raise SystemExit(f"unknown part {unknown[0]!r}; parts: {', '.join(known)}")
    for world in dict.fromkeys(world for part in wanted for world in WORLDS.get(part, ("xrays",))):
        if reason := worlds.missing(world):
            raise SystemExit(f"{reason}; or run `--only scale`, which needs no file")
    return [part for part in PARTS if part in wanted]


def _measured(parts: Sequence[str], seeds: Sequence[int], jobs: int) -> Iterator[Measured]:
    """Train the failing models, then measure every part and seed side by side, and at last what runs alone."""
    spawn = get_context("spawn")
    needed = dict.fromkeys(world for part in parts for world in WORLDS.get(part, ("xrays",)))
    tasks = [(part, seed) for part in parts if part not in ALONE for seed in seeds[: FEWER.get(part)]]
    with ProcessPoolExecutor(jobs, spawn) as pool:
        list(pool.map(_prepare, needed))
        models = dict.fromkeys(
            (world, seed)
            for part in parts for world in WORLDS.get(part, ("xrays",)) for seed in seeds[: FEWER.get(part)]
        )  # fmt: skip
        list(pool.map(_train, *zip(*models, strict=True)) if models else ())
        for one in pool.map(_measure, *zip(*tasks, strict=True)) if tasks else ():
            print(f"  {one.part} seed {one.seed}: {one.cpu:.0f} s of CPU", file=sys.stderr, flush=True)
            yield one
    for part in (part for part in parts if part in ALONE):
        with ProcessPoolExecutor(1, spawn) as pool:
            yield pool.submit(_measure, part, 0).result()


def _prepare(world: str) -> None:
    """Build what seeds share: a corpus that is downloaded."""
    worlds.load(world)


def _train(world: str, seed: int) -> None:
    import torch
    from bench.diagnosis.planted import plant

    torch.set_num_threads(1)
    plant(seed, world)


def _measure(part: str, seed: int) -> Measured:
    import torch

    torch.set_num_threads(1)
    began = _cpu()
    return Measured(part, seed, _module(part).measure(seed), _cpu() - began)


def _module(part: str):  # type: ignore[no-untyped-def]
    return import_module(f"bench.diagnosis.{part}")


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help=f"parts, with commas between them: {', '.join(PARTS)}")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--first-seed", type=int, default=0, help="settings were chosen on seeds from 10 on")
    parser.add_argument("--quick", action="store_true", help="one seed, small scale")
    parser.add_argument(
        "--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes (default: one a core)"
    )
    parser.add_argument("--no-record", action="store_true", help="leave the page of results as it is")
    parser.add_argument("--models", type=Path, help="folder of trained models, kept (default: one for this run)")
    options = parser.parse_args(arguments)
    if options.quick:
        options.seeds = 1
    return options


if __name__ == "__main__":
    main()
