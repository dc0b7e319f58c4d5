"""`make bench-loop`: the rate of a learner's loop beside the bare training step's.

    python tests/bench/learning_loop.py             5 rounds; writes docs/results/learning-loop.md
    python tests/bench/learning_loop.py --quick     2 short rounds; leaves the page as it is

Every round runs each arm once, in a process of its own with one thread for each model; ratios are of one round.

    bare          `Learner.step` again and again, on batches that lie in memory, on one core
    uniform       `curate learn` in one process on the same core: nothing is scored
    reference     on Ray: another process scores with a small frozen reference
    learnability  the same with a small online model, which trains in the learner's process and is published each update

A rate of 1 is that of the bare step. Of the arms on Ray, the page also shows the share of the loop's time that went
into updates: what a busy second core takes from the first, such as memory bandwidth, lowers the rate alone.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[at]) for at in (1, 2)]  # the root, or tests/curation would shadow ours

from bench.record import facts, write  # noqa: E402

ARMS = ("bare", "uniform", "reference", "learnability")
LEARNER, SMALL = "proxy-ti", "proxy-mu"
BATCH = 128
WARM = 3  # updates before the bare step is measured


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 rounds of 12 updates, and no page")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--learner", default=LEARNER, help="its model; another one leaves the page as it is")
    parser.add_argument("--run", nargs=2, metavar=("ARM", "FOLDER"), help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=0, help="updates of each arm; default: 100")
    options = parser.parse_args(arguments)
    steps = options.steps or (12 if options.quick else 100)
    if options.run:
        print(json.dumps(_arm(options.run[0], Path(options.run[1]), options.learner, steps)))
        return
    began, arms = time.monotonic(), options.arms.split(",")
    with tempfile.TemporaryDirectory(prefix="tutelage-bench-") as folder:
        _make(Path(folder))
        rounds = [
            _round(arms, Path(folder), number, options.learner, steps) for number in range(2 if options.quick else 5)
        ]
    lines = table(rounds, options.learner, steps)
    print("\n".join(lines))
    if not options.quick and arms == list(ARMS) and options.learner == LEARNER:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        write("learning-loop", "loop", facts(time.monotonic() - began, used.ru_utime + used.ru_stime), lines)


def table(rounds: Sequence[dict[str, Any]], learner: str, steps: int) -> list[str]:
    """Return the table of all arms: medians over rounds, and the smallest and the largest value."""
    lines = [
        f"{learner} learns with batches of {BATCH}, {steps} updates an arm; {SMALL} scores super-batches of "
        f"{2 * BATCH}; {len(rounds)} rounds, median (smallest to largest)",
        "",
        "| arm | updates/s | rate against the bare step | share of the loop in updates | cost of selection: measured "
        "| predicted |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for arm in rounds[0]:
        found = [one[arm] for one in rounds]
        bare = [one.get("bare", {}).get("rate", float("nan")) for one in rounds]
        cells = [_spread([one["rate"] for one in found], ".2f")]
        cells.append(_spread([one["rate"] / base for one, base in zip(found, bare, strict=True)], ".3f"))
        for name in ("share", "measured", "predicted"):
            values = [one[name] for one in found if one.get(name) is not None]
            cells.append(_spread(values, ".3f") if values else "")
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return lines


def _spread(values: Sequence[float], how: str) -> str:
    return f"{statistics.median(values):{how}} ({min(values):{how}} to {max(values):{how}})"


def _round(arms: Sequence[str], folder: Path, number: int, learner: str, steps: int) -> dict[str, Any]:
    found = {}
    for arm in arms:
        command = [sys.executable, __file__, "--run", arm, str(folder), "--learner", learner, "--steps", str(steps)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found[arm] = json.loads(done.stdout.strip().splitlines()[-1])
        print(f"round {number + 1}, {arm}: {found[arm]}", flush=True)
    return found


def _make(folder: Path) -> None:
    """Write a corpus of real pictures' sizes, and the weights of a reference."""
    from builders import write_corpus, write_weights

    write_corpus(folder / "pool", shards=8, n=250, flaws=False)
    (folder / "sha").write_text(write_weights(folder / "reference.safetensors", SMALL))


def _arm(arm: str, folder: Path, learner: str, steps: int) -> dict[str, Any]:
    """Run one arm in this process; return its updates a second and what the run's summary says of its loop."""
    if arm in ("bare", "uniform"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    from contextlib import nullcontext

    import torch

    from curation.recipes.learning_recipe import parse_learn_recipe

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=folder) as out:
        recipe = parse_learn_recipe(_recipe(arm, folder, Path(out), learner, steps))
        if arm == "bare":
            return {"rate": _bare(recipe, steps)}
        if arm == "uniform":
            from curation.learning.learn import learn

            summary = learn(recipe, torch.device("cpu"), lambda label, total: nullcontext(lambda n: None))
        else:
            from actors.learning import learn as learn_on_ray

            summary = learn_on_ray(recipe, lambda label, total: nullcontext(lambda n: None), lambda text: None)
    overhead = summary["overhead"]
    found = {"rate": overhead["updates"] / overhead["seconds"]["loop"], "share": overhead["rate"]}
    return found | {"seconds": overhead["seconds"]} | (overhead["selection"] or {})


def _bare(recipe: Any, steps: int) -> float:
    """Return the updates a second of the recipe's learner on batches that lie in memory."""
    from learning_runs import start

    run = start(recipe)
    batches = [run.pool.draw(BATCH).batch for _ in range(8)]
    took = []
    for number in range(WARM + steps):
        began = time.perf_counter()
        run.learner.step(batches[number % len(batches)])
        took.append(time.perf_counter() - began)
    return steps / sum(took[WARM:])


def _recipe(arm: str, folder: Path, out: Path, learner: str, steps: int) -> str:
    selectors = {"reference": "easy_reference: {}", "learnability": "learnability: {}"}
    text = f"""
data: {folder / "pool"}
output: {out}
learner: {{contrastive: {{model: {learner}, steps: {WARM + steps}, batch: {BATCH}}}}}
holdout: 0.25
threads: 1
device: cpu
evaluate_every: {steps * 2}
checkpoint_every: {steps * 2}
"""
    if arm not in selectors:
        return text
    sha = (folder / "sha").read_text()
    text += f"reference: {{model: {SMALL}, weights: {folder}/reference.safetensors, sha256: {sha}}}\n"
    text += f"online: {{model: {SMALL}}}\n" if arm == "learnability" else ""
    text += f"selection: {{selector: {{{selectors[arm]}}}, filtering_ratio: 0.5, lag: 2}}\n"
    return text + "compute: {learners: 1, actors: 1, readers: 1}\n"


if __name__ == "__main__":
    main()
