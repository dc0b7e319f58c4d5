"""What a repair made: its weights, what was measured, and the committed files by which a killed command goes on.

Files below the folder of a repair:
    finished/<name>-<fingerprint>.safetensors, .json   one strategy each; the json is written last
    weights.safetensors                                the best, usable wherever MODEL is
    card.json                                          what was measured, written last of all

The fingerprint is of the model, the samples and the settings, so that a repeated command computes nothing, and another
one finds nothing that is not its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple

from torch import Tensor

from curation.core.errors import NotFoundError
from curation.diagnosis.stopping import Check
from curation.diagnosis.subject import Subject
from curation.learning.model_flops import forward_flops
from curation.models.architecture import model_config
from curation.models.weights import read_metadata, tensors_to_bytes
from curation.storage.store import Store, StoreOptions

VERSION = 1  # of the card, and of the code from settings to weights
WEIGHTS = "weights.safetensors"
TRAINING = 3  # forward passes whose FLOPs an update costs


@dataclass(frozen=True)
class Outcome:
    """The result of one tuning. best: the check of its weights; after: `repair_samples.judge` of them.

    counts: samples that were trained on, whose gradients made F (each a forward and a backward pass), and that a check
    judged (a forward pass). seconds: of all three, without the judgement that the card reports.
    """

    name: str
    weights: Mapping[str, Tensor]
    best: Check
    checks: Sequence[Check]
    after: Mapping[str, Any]
    counts: Mapping[str, int]
    seconds: float

    def record(self, subject: Subject) -> dict[str, Any]:
        """Return the facts of the card."""
        return {
            "steps": self.checks[-1].step,
            "best": self.best._asdict(),
            "checks": [list(check) for check in self.checks],
            "after": self.after,
            "counts": dict(self.counts),
            "flops": flops_of(self.counts, forward_of(subject)),
            "seconds": round(self.seconds, 3),
        }


def forward_of(subject: Subject) -> float:
    """Return the FLOPs of a classifier's forward pass over one picture."""
    head = 2.0 * int(model_config(subject.model)["embed_dim"]) * len(subject.classes)
    return forward_flops(subject.model, text=False) + head


def flops_of(counts: Mapping[str, int], forward: float) -> float:
    """Return the FLOPs of a tuning. forward: of one sample."""
    return forward * (TRAINING * (counts["trained"] + counts["fisher"]) + counts["judged"])


def best_of(checks: Mapping[str, Check], keep: float, enough: float) -> str | None:
    """Return the name whose weights were best by validation; None where none fixes a failure and keeps enough.

    keep: the least share kept. Among names that fix the share `enough`, the one that keeps the most
    is the best.
    """
    good = {name: check for name, check in checks.items() if check.fixed > 0 and check.kept >= keep}
    return max(good, key=lambda name: (min(good[name].fixed, enough), good[name].kept), default=None)


class Finished(NamedTuple):
    """A committed outcome: its record, and the bytes of its weights."""

    record: Mapping[str, Any]
    weights: bytes


def finished(
    store: Store, name: str, fingerprint: str, subject: Subject, make: Callable[[], Outcome],
    options: StoreOptions | None = None,
) -> Finished:  # fmt: skip
    """Return the committed outcome of this name and fingerprint; make and commit it first where there is none."""
    key = f"finished/{name}-{fingerprint[:16]}"
    try:
        record = json.loads(store.get(f"{key}.json"))
        data = store.get(f"{key}.safetensors")
        if record["fingerprint"] == fingerprint and record["sha256"] == sha256(data).hexdigest():
            return Finished(record, data)
    except (NotFoundError, ValueError, KeyError, TypeError):
        pass  # missing, or damaged: it is made again
    outcome = make()
    metadata = read_metadata(subject.weights.fetch(options), subject.weights.url)
    data = tensors_to_bytes(outcome.weights, {**metadata, "parent_sha256": subject.weights.sha256})
    store.put(f"{key}.safetensors", data)
    record = {**outcome.record(subject), "sha256": sha256(data).hexdigest(), "fingerprint": fingerprint}
    store.put(f"{key}.json", json.dumps(record, indent=2).encode())
    return Finished(json.loads(json.dumps(record)), data)


def write_outcome(store: Store, chosen: Finished, card: Mapping[str, Any]) -> dict[str, Any]:
    """Write the weights and then their card; return the card."""
    store.put(WEIGHTS, chosen.weights)
    about = {"version": VERSION, "weights": store.location(WEIGHTS), "key": WEIGHTS}
    found = {**about, "sha256": chosen.record["sha256"], "bytes": len(chosen.weights), **card}
    store.put("card.json", json.dumps(found, indent=2).encode())
    return found
