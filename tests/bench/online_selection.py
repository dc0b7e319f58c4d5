"""`make bench-online`: what online selection saves, on two workloads of real icons. Tuned on `dev`, reported on `test`.

Every run (workload, arm, seed) is kept in the cache folder under all that decides it: stop it, take it up again, add
arms. Runs go side by side, one torch thread each. Figures are of pairs of runs with the same seed, with 95 % intervals
of Student's t over seeds.

    python tests/bench/online_selection.py --core             4 arms, 3 seeds: within an hour on 2 cores
    python tests/bench/online_selection.py                    all arms; 5 seeds for the headline, 3 for the rest
    python tests/bench/online_selection.py --held-out dev --seeds 1 --arms uniform,learnability   tuning
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
sys.path[:0] = [
    str(Path(__file__).parents[1]),
    str(Path(__file__).parents[2]),
]  # the root, or tests/curation shadows it

from bench.online.arms import ARMS, CORE, HEADLINE  # noqa: E402
from bench.online.runs import result  # noqa: E402
from bench.record import append, facts  # noqa: E402

from curation.flops import Payoff, Point, payoff  # noqa: E402

FOLDER = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tutelage" / "bench-online"
STUDENT = {
    1: 12.71,
    2: 4.30,
    3: 3.18,
    4: 2.78,
    5: 2.57,
    6: 2.45,
    7: 2.36,
    8: 2.31,
    9: 2.26,
}  # 97.5 % by degrees of freedom
DEV_SEED, TEST_SEED = 100, 0  # seeds for tuning begin elsewhere than those that are reported


def main() -> None:
    arguments = _arguments()
    first = DEV_SEED if arguments.held_out == "dev" else TEST_SEED
    names = arguments.arms.split(",") if arguments.arms else list(CORE if arguments.core else ARMS)
    began = time.monotonic()
    wanted = [
        (workload, name, first + seed)
        for workload in arguments.workloads.split(",")
        for name in names
        for seed in range(arguments.seeds or (5 if name in HEADLINE and not arguments.core else 3))
    ]
    wanted.sort(key=lambda row: row[2])  # all arms with the first seed before any with the second
    found: dict[tuple[str, str], dict[int, list[dict[str, Any]]]] = {}
    with ProcessPoolExecutor(arguments.jobs) as pool:
        futures = {
            pool.submit(result, workload, ARMS[name], seed, arguments.held_out, FOLDER): (workload, name, seed)
            for workload, name, seed in wanted
        }
        for number, future in enumerate(as_completed(futures), 1):
            workload, name, seed = futures[future]
            curve = future.result()["curve"]
            found.setdefault((workload, name), {})[seed] = curve
            print(f"{number} of {len(wanted)}: {workload} {name} seed {seed}: {curve[-1]['quality']:.3f}", flush=True)
    text = report(found, arguments.workloads.split(","), names)
    print(text)
    if arguments.held_out == "test" and not arguments.no_record:
        append(facts(time.monotonic() - began), text.splitlines())


def report(
    found: dict[tuple[str, str], dict[int, list[dict[str, Any]]]], workloads: Sequence[str], names: Sequence[str]
) -> str:
    """A table a workload: what each arm saves against the uniform run of the same seed."""
    lines = []
    for workload in workloads:
        uniform = found[workload, "uniform"]
        lines += [
            "",
            f"{workload}: against uniform with the same seed (mean and 95 % interval)",
            "",
            "| arm | seeds | final quality | at uniform's FLOPs | arrive | updates saved | compute saved, scoring only "
            "| + online updates | + reference (full) |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for name in names:
            runs = found[workload, name]
            pairs = [(points(curve), points(uniform[seed])) for seed, curve in sorted(runs.items()) if seed in uniform]
            payoffs = [payoff(ours, theirs) for ours, theirs in pairs]
            final = interval([ours[-1].quality for ours, _ in pairs])
            equal = interval([at_flops(ours, theirs[-1].totals["full"]) - theirs[-1].quality for ours, theirs in pairs])
            lines.append(f"| {name} | {len(pairs)} | {final} | {equal} | {_savings(payoffs)} |")
    return "\n".join(lines)


def _savings(payoffs: Sequence[Payoff]) -> str:
    arrived = [one for one in payoffs if one.compute_saved is not None]
    text = f"{len(arrived)} of {len(payoffs)}"
    if len(arrived) < len(payoffs):
        return f"{text} | never arrives in {len(payoffs) - len(arrived)} | | |"
    columns = [[one.updates_saved for one in arrived]]
    columns += [[one.compute_saved[name] for one in arrived] for name in ("scoring", "online", "full")]  # type: ignore[index]
    return " | ".join([text, *(interval([100 * value for value in column], "%") for column in columns)])  # type: ignore[operator]


def points(curve: Sequence[dict[str, Any]]) -> list[Point]:
    """A run's learning curve."""
    return [Point(row["updates"], row["quality"], row["totals"]) for row in curve]


def at_flops(curve: Sequence[Point], flops: float) -> float:
    """Quality when this much has been spent, everything counted: the last evaluation before it."""
    before = [point.quality for point in curve if point.totals["full"] <= flops]
    return before[-1] if before else 0.0


def interval(values: Sequence[float], unit: str = "") -> str:
    """Mean and half a 95 % interval."""
    mean, digits = statistics.fmean(values), 0 if unit else 3
    if len(values) < 2:
        return f"{mean:.{digits}f}{unit}"
    half = STUDENT[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:.{digits}f}{unit} ± {half:.{digits}f}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--core", action="store_true", help="four arms, three seeds")
    parser.add_argument("--arms", help=f"of: {', '.join(ARMS)}")
    parser.add_argument("--workloads", default="pairs,classes")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--held-out", default="test", choices=("dev", "test"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--no-record", action="store_true", help="do not append to RESULTS.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
