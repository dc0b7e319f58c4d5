"""The erase part: does a model without the cause's samples come of a few steps, as it comes of training again?

One of the causes is asked for, in turn by seed. The judge is the model that was retrained without its samples. `known`
erases exactly these samples, `traced` the first 120 of `dual_fisher` over four checkpoints; `control` erases the known
ones without batches of kept samples, and stops by validation failures alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import fmean

import torch
from bench.diagnosis.bars import Bar, spread, table
from bench.diagnosis.planted import EPOCHS, PLANTED, failures, plant, retrained
from bench.diagnosis.repairing import asked, kept, rows_of, samples_of, share, with_weights
from bench.diagnosis.trace import MOST, OURS, Systems, gradients

from curation.diagnosis.erase import EraseSettings, erase
from curation.diagnosis.outcomes import TRAINING, flops_of
from curation.diagnosis.tuning import TunedClassifier

FIXED, KEPT, MARKED, COST, TRACED = 0.9, 0.97, 0.95, 1 / 5, 0.8
CONTROL = EraseSettings(kept_batches=False, keep=0.0)


def measure(seed: int) -> dict[str, float]:
    """Return the figures of a seed."""
    planted = plant(seed)
    number = asked(planted)
    name, own = planted.causes[number - 1].name, planted.cause == number
    rest = rows_of(~own)
    began = time.process_time()
    truth = TunedClassifier.of(retrained(planted, rest))
    found = {"retrain|cpu": time.process_time() - began}
    held_out = failures(planted, name)["held_out"]
    field, plain = planted.marked(name, true=False), planted.field.take(rows_of(planted.field.targets == 0))
    failing = TunedClassifier.of(planted.subject)
    marked = field.take(rows_of(failing.right(field)))
    both = field.take(rows_of(failing.right(field) & failing.right(plain)))
    fixable, before = held_out.take(rows_of(truth.right(held_out))), samples_of(planted, rows_of(own)).right["held_out"]
    guesses = truth.guesses(held_out)
    runs = {"known": (rows_of(own), EraseSettings()), "traced": (_traced(planted, name), EraseSettings()),
            "control": (rows_of(own), CONTROL)}  # fmt: skip
    models = {"retrain": truth}
    full = TRAINING * EPOCHS * len(rest)  # forward passes of retraining
    for run, (rows, settings) in runs.items():
        samples, own_pictures = samples_of(planted, rows), planted.training.take(rows)
        out = erase(TunedClassifier.of(planted.subject), samples, own_pictures, planted.subject.classes, settings)
        models[run] = with_weights(planted, dict(out.weights))
        found |= {f"{run}|cost": flops_of(out.counts, 1) / full, f"{run}|seconds": out.seconds,
                  f"{run}|steps": float(out.best.step)}  # fmt: skip
    found["traced|of the cause"] = share(own[runs["traced"][0]])
    for run, model in models.items():
        found |= {f"{run}|{what}": value for what, value in kept(model, before).items()}
        found |= {
            f"{run}|held-out right": share(model.right(held_out)), f"{run}|fixed": share(model.right(fixable)),
            f"{run}|agrees": share(model.guesses(held_out) == guesses), f"{run}|marked": share(model.right(marked)),
            f"{run}|marked and plain": share(model.right(both)),
        }  # fmt: skip
    return found


def _traced(planted, name: str) -> torch.Tensor:  # type: ignore[no-untyped-def]
    some = failures(planted, name)["query"]
    some = some.take(range(min(MOST, len(some))))
    files = [planted.subject.weights, *planted.checkpoints]
    systems = Systems([gradients(planted, planted.training, file) for file in files])
    failed = [gradients(planted, some, file) for file in files]
    scores = systems.scores(OURS, failed, planted.subject.last_layer)
    return scores.argsort(descending=True, stable=True)[:PLANTED].sort().values


def lines(found: Sequence[dict[str, float]]) -> list[str]:
    """Return the report: bars, then every figure."""

    def of(name: str) -> list[float]:
        return [one[name] for one in found]

    def least(run: str) -> list[float]:
        return [min(one[f"{run}|kept other"], one[f"{run}|kept own"]) for one in found]

    def bar(title: str, values: list[float], least: float) -> Bar:
        return Bar(f"{title} >= {least}", spread(values, 3), fmean(values) >= least)

    forgets = [min(one["control|kept other"], one["control|kept own"]) for one in found]
    bars = [
        bar("C known: right of the held-out failures that retraining without C fixes", of("known|fixed"), FIXED),
        bar("C known: kept in the worse class", least("known"), KEPT),
        bar("C known: marked pictures of the other class stay right", of("known|marked"), MARKED),
        bar("the same, of those that are right without the mark, too", of("known|marked and plain"), MARKED),
        Bar(f"C known: FLOPs of retraining <= {COST}", spread(of("known|cost"), 3, lowest=False),
            fmean(of("known|cost")) <= COST),
        bar("C traced: right of the same failures", of("traced|fixed"), TRACED),
        bar("C traced: kept in the worse class", least("traced"), KEPT),
        Bar(f"control without kept batches fails: kept in the worse class < {KEPT}", spread(forgets, 3, lowest=False),
            fmean(forgets) < KEPT),
    ]  # fmt: skip
    columns = ("held-out right", "fixed", "agrees", "kept other", "kept own", "marked", "marked and plain")
    rows = [
        f"| {run} | " + " | ".join(f"{fmean(of(f'{run}|{name}')):.3f}" for name in columns) + " |"
        for run in ("retrain", "known", "traced", "control")
    ]
    trained = [one for one in found if one["retrain|cpu"] > 1]  # the others found it in the folder of models
    seconds = f"{fmean(one['retrain|cpu'] for one in trained):.1f} CPU seconds" if trained else "not measured"
    cpu = [
        f"Retraining took {seconds}, erasing {fmean(of('known|seconds')):.1f} s by the clock. Of the traced samples, "
        f"{fmean(of('traced|of the cause')):.2f} are of the cause. `fixed`: of the held-out failures that retraining "
        "has right. `agrees`: same answer as retraining on held-out failures. `kept`: pictures of the field that were "
        "right, of the class that the planted labels claim (`other`) and of the marked pictures' `own`. `marked`: "
        "marked pictures of the other class, all of which the failing model has right because of the mark; "
        "`marked and plain`: those that it has right without the mark, too. The row `retrain` says how many of them "
        "training again keeps: a bar above that asks for more than the data without C teach."
    ]
    head = ["| model | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    return [*table(bars), *head, *rows, "", *cpu]
