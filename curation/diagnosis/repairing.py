"""Repair a model by its failures, strategy by strategy, and write the best weights with a card of what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from curation.core.digest import digest
from curation.core.errors import UserError
from curation.diagnosis.failures import Failures
from curation.diagnosis.membership import expect_trained_on
from curation.diagnosis.outcomes import VERSION, Outcome, best_of, finished, write_outcome
from curation.diagnosis.repair import RepairSettings, repair
from curation.diagnosis.repair_samples import RepairSamples, judge, read_repair_samples
from curation.diagnosis.stopping import Check
from curation.diagnosis.subject import Subject, SubjectScores
from curation.diagnosis.tuning import TunedClassifier
from curation.storage.store import open_store
from curation.storage.urls import absolute_url


def repair_failures(
    subject: Subject, failures: Failures, scored: SubjectScores, *, data: str, out: str, settings: RepairSettings,
    strategies: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    """Repair a model by each strategy, write the best weights by validation below `out`, and return their card.

    scored: the model's scores of `data`, on which it was trained. A strategy that finished is read back. Raises
    `UserError` for weights that were trained on other data, and where no strategy fixes a validation failure while it
    keeps enough: then neither weights nor card are written.
    """
    options = scored.units.work.recipe.options
    expect_trained_on(subject, data, options)
    samples = read_repair_samples(subject, failures, scored, right=settings.right, seed=settings.seed)
    store, found = open_store(out, options), {}
    for strategy in strategies:

        def make(strategy: str = strategy) -> Outcome:
            classifier = TunedClassifier.of(subject, options=options)
            return repair(classifier, samples, subject.classes, strategy, settings)

        name = fingerprint(subject, failures, samples, settings, strategy)
        found[strategy] = finished(store, strategy, name, subject, make, options)
    checks = {name: Check(**one.record["best"]) for name, one in found.items()}
    chosen = best_of(checks, settings.keep, settings.enough)
    if chosen is None:
        text = f"no strategy makes a validation failure right and keeps {settings.keep:.0%} of what was right"
        raise UserError(
            text, fix="find more failures, or trace them and train again without the samples that they lead to"
        )
    before = judge(TunedClassifier.of(subject, options=options), samples, list(subject.classes))
    card = {
        "kind": "repair",
        **about(subject, failures, samples, data, settings),
        "before": before,
        "chosen": chosen,
        "strategies": {name: one.record for name, one in found.items()},
    }
    return write_outcome(store, found[chosen], card)


def about(
    subject: Subject, failures: Failures, samples: RepairSamples, data: str, settings: RepairSettings
) -> dict[str, Any]:
    """Return the facts of a card about its input."""
    return {
        "model": subject.model,
        "label": subject.label,
        "parent": {"weights": subject.weights.url, "sha256": subject.weights.sha256},
        "failures_sha256": failures.sha256,
        "data": absolute_url(data),
        "settings": asdict(settings),
        "samples": samples.counts(),
        "left_out": dict(samples.left_out),
    }


def fingerprint(
    subject: Subject, failures: Failures, samples: RepairSamples, settings: RepairSettings, *more: Any
) -> str:
    """Return the hash of everything that determines the weights of a tuning."""
    return digest([VERSION, subject.facts(), failures.sha256, samples.names(), asdict(settings), *more])
