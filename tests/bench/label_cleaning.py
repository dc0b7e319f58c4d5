"""`make bench-labels`: how many answers a queue of doubtful labels saves, and what the cleaned labels are worth.

Two corpora: `cifar10h`, pictures with the votes of 50 people each, and `openmoji-icons` with planted noise, which needs
no download. Every method ranks the same noisy labels; simulated annotators answer; the figure is the number of answers
that random order needs, divided by the number that the method needs for as many correct labels (`labels/methods.py`).

    TUTELAGE_BENCH_DATA=FOLDER python tests/bench/label_cleaning.py     5 seeds: under 15 minutes on two cores
    python tests/bench/label_cleaning.py --only icons                   without the votes
    python tests/bench/label_cleaning.py --quick                        one seed: two minutes

Parts: `given` ranks by the probabilities of another strong model, `own` by a proxy trained out of fold on the
noisy labels; `learner` trains on the cleaned labels, `models` judges six models by them; `icons`. A whole run replaces
the figures of docs/results/labels.md.
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
from multiprocessing import get_context
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
sys.path[:0] = [str(Path(__file__).parents[at]) for at in (1, 2)]  # the root, or tests/curation would shadow ours

from bench.labels import cifar10h, icons, models  # noqa: E402
from bench.labels.measure import ICONS, PARTS, Case, Measured, measure  # noqa: E402
from bench.labels.report import WHO, report  # noqa: E402
from bench.record import facts, write  # noqa: E402
from bench.throughput.environments import InstallError, python_of  # noqa: E402

from curation.core.cache import cache_folder  # noqa: E402

SEEDS = 5
NEEDED = {"learner": ("given", "own"), "models": ("given", "own")}  # parts whose labels come from others


def main(arguments: Sequence[str] | None = None) -> list[str]:
    """Measure and report; returns the lines."""
    options = _options(arguments)
    began = time.monotonic()
    parts = _parts(options)
    with tempfile.TemporaryDirectory() as scratch:
        notes, cleanlab = [], None
        try:
            cleanlab = python_of("cleanlab", options.folder)
        except InstallError as error:
            notes.append(f"cleanlab: not installed: {error}")
        cases = list(_cases(options, parts, Path(scratch), cleanlab))
        found = _measured(cases, options.jobs)
    seconds = time.monotonic() - began
    lines = [*notes, *report(found, seconds)]
    print("\n".join(lines))
    if not options.no_record and options.seeds == SEEDS and set(parts) == set(PARTS) and not options.samples:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        write("labels", "labels", facts(seconds, sum(one.ru_utime + one.ru_stime for one in used)), lines)
    return lines


def _parts(options: argparse.Namespace) -> list[str]:
    """Return the parts to run, with those that they need. Exits where their data are missing."""
    wanted = options.only.split(",") if options.only else list(PARTS)
    if unknown := [part for part in wanted if part not in PARTS]:
        raise SystemExit(f"unknown part {unknown[0]!r}; parts: {', '.join(PARTS)}")
    if set(wanted) != {ICONS} and (reason := cifar10h.missing()):
        raise SystemExit(reason)
    needed = {more for part in wanted for more in NEEDED.get(part, ())}
    return [part for part in PARTS if part in wanted or part in needed]


def _cases(options: argparse.Namespace, parts: Sequence[str], scratch: Path, cleanlab: str | None) -> Iterator[Case]:
    """Prepare what seeds share, and yield the cases, the longest first."""
    if set(parts) != {ICONS}:
        models.write_features(cifar10h.load()[0], scratch)
        for seed in range(options.seeds):
            for protocol in cifar10h.TEMPERATURES:
                yield Case(protocol, seed, parts, scratch, options.samples or cifar10h.SAMPLES, cleanlab)
    if ICONS in parts:
        samples = options.samples or icons.SAMPLES
        icons.load(options.folder, samples)
        for seed in range(options.seeds):
            yield Case(ICONS, seed, parts, options.folder, samples, cleanlab)


def _measured(cases: Sequence[Case], jobs: int) -> list[Measured]:
    """Measure the cases side by side, in processes; returns them by protocol and seed."""
    found = []
    with ProcessPoolExecutor(min(jobs, len(cases)), get_context("spawn")) as pool:
        for one in pool.map(measure, cases):
            found.append(one)
            print(f"  {WHO}: {one.protocol} seed {one.seed}: done", file=sys.stderr, flush=True)
    places = [*cifar10h.TEMPERATURES, ICONS]
    return sorted(found, key=lambda one: (places.index(one.protocol), one.seed))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help=f"parts, with commas between them: {', '.join(PARTS)}")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--samples", type=int, default=0, help="pictures of a protocol (default: 5,000; icons: 3,000)")
    parser.add_argument("--quick", action="store_true", help="one seed of 1,500 pictures")
    parser.add_argument(
        "--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes (default: one a core)"
    )
    parser.add_argument("--no-record", action="store_true", help="leave the page of results as it is")
    parser.add_argument("--folder", type=Path, default=cache_folder() / "bench-labels",
                        help="icons and cleanlab's environment (default: %(default)s)")  # fmt: skip
    options = parser.parse_args(arguments)
    if options.quick:
        options.seeds, options.samples = 1, options.samples or 1_500
    return options


if __name__ == "__main__":
    main()
