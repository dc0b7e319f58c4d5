"""`make bench-online`: what online selection saves, on workloads of real icons. Tuning and report use different sets.

Each run (workload, arm, seed) is cached in a folder under everything that determines it: stop the bench, resume it, add
arms. Runs go side by side, one torch thread each. Figures compare runs of the same seed, with 95 % intervals of
Student's t over seeds. A run that never arrives is counted as such, and its arm has no mean savings.

The runs are recorded in online/measured.jsonl, and the page docs/results/online-selection.md shows every recorded run.

    python tests/bench/online_selection.py --core             the main arms, 3 seeds: about an hour
    python tests/bench/online_selection.py                    all arms; 5 seeds for the headline, 3 for the rest
    python tests/bench/online_selection.py --held-out tuning --seeds 1 --arms uniform,learnability   tuning
    python tests/bench/online_selection.py --cached           report the cached runs; start none
    python tests/bench/online_selection.py --recorded         continue from the recorded runs
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
sys.path[:0] = [str(Path(__file__).parents[at]) for at in (1, 2)]  # the root, or tests/curation would shadow ours

from bench.online import data, record  # noqa: E402
from bench.online.arms import ARMS, CORE, HEADLINE  # noqa: E402
from bench.online.runs import SETTINGS, cached, result  # noqa: E402
from bench.record import facts, write  # noqa: E402

from curation.core.cache import cache_folder  # noqa: E402
from curation.core.intervals import estimate  # noqa: E402
from curation.selection.flops import Payoff, Point, payoff  # noqa: E402

FOLDER = cache_folder() / "bench-online"
TUNING_SEED, TEST_SEED = 100, 0  # seeds for tuning begin elsewhere than those that are reported
OTHERS = ("recall@1", "zero_shot")  # figures beside `quality`, where a workload has them
ALONG = {  # updates after which the quality of long runs is shown; an epoch is 433 and 108 updates
    "epochs": (130, 390, 520, 780, 1170, 1560, 2340, 3900),
    "long": (50, 100, 150, 200, 250, 300, 500, 1000),
}

Curve = list[dict[str, Any]]
Found = dict[tuple[str, str], dict[int, Curve]]  # (workload, arm) -> seed -> curve


def main(arguments: Sequence[str] | None = None) -> str:
    """Run what is not cached, and report; returns the report."""
    options = _options(arguments)
    began = time.monotonic()
    if options.recorded:
        record.restore(options.folder)
    workloads = options.workloads.split(",")
    found = collect(_wanted(options, workloads), options)
    text = report(found, workloads)
    print(text)
    for workload in workloads:
        draw(found, workload, options.folder / f"curves-{workload}-{options.held_out}.png")
    if options.held_out == "test" and not options.no_record:
        record.save(options.folder, ARMS)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        about = facts(time.monotonic() - began, used.ru_utime + used.ru_stime)
        about.append("rows of other arms: earlier runs; the page's history and the text above say which code")
        recorded = record.found(ARMS)
        for workload in workloads:
            write("online-selection", workload, about, figures(recorded, workload).splitlines())
    return text


def figures(found: Found, workload: str) -> str:
    """What the page of results shows of a workload: its report and, of long runs, the quality along the way."""
    text = report(found, [workload]).strip("\n")
    return f"{text}\n\n{along(found, workload, ALONG[workload])}" if workload in ALONG else text


def along(found: Found, workload: str, updates: Sequence[int]) -> str:
    """A table of the mean quality over seeds after so many updates."""
    lines = [f"{workload}: mean accuracy over seeds after so many updates", ""]
    lines += ["| arm | " + " | ".join(f"{number:,}" for number in updates) + " |", "|---" * (len(updates) + 1) + "|"]
    for name in ARMS[workload]:
        if runs := found.get((workload, name)):
            after = [{point["updates"]: point["quality"] for point in curve} for curve in runs.values()]
            means = [statistics.fmean(qualities[number] for qualities in after) for number in updates]
            lines.append("| " + " | ".join([name, *(f"{mean:.3f}" for mean in means)]) + " |")
    return "\n".join(lines)


def _wanted(options: argparse.Namespace, workloads: Sequence[str]) -> list[tuple[str, str, int]]:
    """Workload, arm, seed of every run; all arms with the first seed before any with the second."""
    asked = options.arms.split(",") if options.arms else []
    for unknown in {*asked}.difference(*ARMS.values()):
        known = dict.fromkeys(name for named in ARMS.values() for name in named)
        raise SystemExit(f"unknown arm {unknown!r}; arms: {', '.join(known)}")
    first = TUNING_SEED if options.held_out == "tuning" else TEST_SEED
    wanted = []
    for workload in workloads:
        names = asked or (CORE if options.core else ARMS[workload])
        for name in names:
            if name in ARMS[workload]:  # a classifier has no joint selection
                seeds = options.seeds or (5 if name in HEADLINE and not options.core else 3)
                wanted += [(workload, name, first + seed) for seed in range(seeds)]
    return sorted(wanted, key=lambda row: row[2])


def collect(wanted: Sequence[tuple[str, str, int]], options: argparse.Namespace) -> Found:
    """The curves of cached runs and of those that run now, side by side."""
    found: Found = {}
    if options.cached:
        for workload, name, seed in wanted:
            run = cached(workload, ARMS[workload][name], seed, options.held_out, options.folder)
            if run is not None:
                found.setdefault((workload, name), {})[seed] = run["curve"]
        return found
    for workload in dict.fromkeys(workload for workload, _, _ in wanted):
        data.load(
            SETTINGS[workload].data, options.held_out, options.folder
        )  # fetch and render once, before the runs read it
    with ProcessPoolExecutor(options.jobs, max_tasks_per_child=1) as pool:  # a run's memory is freed with its process
        futures = {
            pool.submit(result, workload, ARMS[workload][name], seed, options.held_out, options.folder): (
                workload,
                name,
                seed,
            )
            for workload, name, seed in wanted
        }
        for number, future in enumerate(as_completed(futures), 1):
            workload, name, seed = futures[future]
            curve = future.result()["curve"]
            found.setdefault((workload, name), {})[seed] = curve
            print(f"{number} of {len(wanted)}: {workload} {name} seed {seed}: {curve[-1]['quality']:.3f}", flush=True)
    return found


def report(found: Found, workloads: Sequence[str]) -> str:
    """Two tables for each workload: savings of each arm against uniform of the same seed; what was chosen over time."""
    lines = []
    for workload in workloads:
        arms = [name for name in ARMS[workload] if found.get((workload, name)) and _uniform(found, workload, name)]
        lines += [
            "",
            f"{workload}: against uniform with the same seed and schedule, {SETTINGS[workload].steps:,} updates, short "
            f"{SETTINGS[workload].short:,} (mean and 95 % interval); one thread each, these runs took "
            f"{_hours(found, workload)} hours in all",
            "",
            "| arm | seeds | final quality | minus uniform's, at its FLOPs | arrive | updates saved "
            "| compute saved: scoring | + online updates | + reference (full) | others at the end |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for name in arms:
            runs, uniform = found[workload, name], _uniform(found, workload, name)
            pairs = [(points(curve), points(uniform[seed])) for seed, curve in sorted(runs.items()) if seed in uniform]
            payoffs = [payoff(ours, theirs) for ours, theirs in pairs]
            final = interval([ours[-1].quality for ours, _ in pairs])
            equal = interval([at_flops(ours, theirs[-1].totals["full"]) - theirs[-1].quality for ours, theirs in pairs])
            lines.append(f"| {name} | {len(pairs)} | {final} | {equal} | {_savings(payoffs)} | {_others(runs)} |")
        tag = "emoji" if SETTINGS[workload].data == "pairs" else "names without a modifier"
        lines += ["", f"{workload}: share of {tag} among the chosen, by share of the run", ""]
        lines += ["| arm | first tenth | at a half | last tenth |", "|---|---|---|---|"]
        lines += [f"| {name} | {' | '.join(_over_time(found[workload, name]))} |" for name in arms]
    return "\n".join(lines)


def _uniform(found: Found, workload: str, name: str) -> dict[int, Curve]:
    """The uniform runs that an arm is compared with: those of its schedule."""
    constant = ARMS[workload][name].schedule == "constant"
    return found.get((workload, "uniform at a constant rate" if constant else "uniform"), {})


def _hours(found: Found, workload: str) -> str:
    seconds = sum(curve[-1]["seconds"] for (of, _), runs in found.items() if of == workload for curve in runs.values())
    return f"{seconds / 3600:.1f}"


def _savings(payoffs: Sequence[Payoff]) -> str:
    arrived = [one for one in payoffs if one.compute_saved is not None]
    text = f"{len(arrived)} of {len(payoffs)}"
    if len(arrived) < len(payoffs):
        return f"{text} | never, in {len(payoffs) - len(arrived)} | | |"
    columns = [[one.updates_saved for one in arrived]]
    columns += [[one.compute_saved[name] for one in arrived] for name in ("scoring", "online", "full")]  # type: ignore[index]
    return " | ".join([text, *(interval([100 * value for value in column], "%") for column in columns)])  # type: ignore[operator]


def _others(runs: dict[int, Curve]) -> str:
    ends = [curve[-1] for curve in runs.values()]
    return ", ".join(f"{name} {interval([end[name] for end in ends])}" for name in OTHERS if name in ends[0])


def _over_time(runs: dict[int, Curve]) -> list[str]:
    shares = [[point["tagged"] for point in curve] for curve in runs.values()]
    places = (lambda n: max(1, n // 10) - 1, lambda n: n // 2, lambda n: n - 1)
    return [f"{statistics.fmean(row[place(len(row))] for row in shares):.0%}" for place in places]


def points(curve: Curve) -> list[Point]:
    """A run's learning curve."""
    return [Point(row["updates"], row["quality"], row["totals"]) for row in curve]


def at_flops(curve: Sequence[Point], flops: float) -> float:
    """Quality once this many FLOPs are spent, everything counted: that of the last evaluation before."""
    before = [point.quality for point in curve if point.totals["full"] <= flops]
    return before[-1] if before else 0.0


def interval(values: Sequence[float], unit: str = "") -> str:
    """Mean and half the width of its 95 % interval."""
    (mean, half), digits = estimate(values), 0 if unit else 3
    return f"{mean:.{digits}f}{unit}" + ("" if half is None else f" ± {half:.{digits}f}")


def draw(found: Found, workload: str, path: Path) -> None:
    """Draw the mean learning curves of a workload's arms over their seeds."""
    from jobs.pages.curves import draw as draw_runs

    means = {}
    for (of, name), runs in found.items():
        if of == workload:
            rows = zip(*(points(curve) for curve in runs.values()), strict=True)
            means[name] = [_mean(row) for row in rows]
    if means:
        path.write_bytes(draw_runs(means))


def _mean(points: Sequence[Point]) -> Point:
    totals = {name: statistics.fmean(point.totals[name] for point in points) for name in points[0].totals}
    return Point(points[0].updates, statistics.fmean(point.quality for point in points), totals)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--core", action="store_true", help="the main arms, three seeds")
    parser.add_argument("--arms", help=f"of: {', '.join(ARMS['pairs'])}")
    parser.add_argument(
        "--workloads", default="pairs,classes", help="also: epochs, and long, on a GPU (default: %(default)s)"
    )
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--held-out", default="test", choices=("tuning", "test"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--cached", action="store_true", help="report the cached runs; start none")
    parser.add_argument("--recorded", action="store_true", help="start from the recorded runs")
    parser.add_argument("--no-record", action="store_true", help="record nothing; leave the page of results as it is")
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, help="where data and runs are kept (default: %(default)s)"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
