"""The repair part: failures of one cause, in turn by seed, are tuned on; other failures of it and the field judge."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import torch
from bench.diagnosis.bars import Bar, spread, table
from bench.diagnosis.planted import plant
from bench.diagnosis.repairing import kept, samples_of, share, with_weights

from curation.diagnosis.outcomes import best_of
from curation.diagnosis.repair import STRATEGIES, RepairSettings, repair
from curation.diagnosis.tuning import TunedClassifier

RIGHT, KEPT = 0.6, 0.95


def measure(seed: int) -> dict[str, float]:
    """Return the figures of a seed: those of each strategy, and of the one that validation chooses (`best`)."""
    planted, settings = plant(seed), RepairSettings()
    samples, found, checks = samples_of(planted, torch.zeros(0, dtype=torch.int64)), {}, {}
    for strategy in STRATEGIES:
        out = repair(TunedClassifier.of(planted.subject), samples, planted.subject.classes, strategy, settings)
        model, checks[strategy] = with_weights(planted, dict(out.weights)), out.best
        found |= {f"{strategy}|{what}": value for what, value in kept(model, samples.right["held_out"]).items()}
        found[f"{strategy}|right"] = share(model.right(samples.failures["held_out"]))
        found[f"{strategy}|steps"] = float(out.best.step)
    chosen = best_of(checks, settings.keep, settings.enough)
    return found | {name.replace(f"{chosen}|", "best|"): found[name] for name in list(found) if name.startswith(chosen)}


def lines(found: Sequence[dict[str, float]]) -> list[str]:
    """Return the report: bars, then every strategy."""

    def of(name: str) -> list[float]:
        return [one[name] for one in found]

    bars = [
        Bar(f"held-out failures that are right >= {RIGHT}", spread(of("best|right"), 3),
            fmean(of("best|right")) >= RIGHT),
        Bar(f"kept of what was right >= {KEPT}", spread(of("best|kept"), 3), fmean(of("best|kept")) >= KEPT),
    ]  # fmt: skip
    columns = ("right", "kept", "kept other", "kept own", "steps")
    rows = [
        f"| {name} | " + " | ".join(f"{fmean(of(f'{name}|{what}')):.3f}" for what in columns) + " |"
        for name in (*STRATEGIES, "best")
    ]
    return [*table(bars), "| strategy | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|", *rows]
