"""The files of one training: weights, their card, metrics. The card is written last.

Everything that determines the weights makes the name of a training (`identity_of`); a training whose card exists is not
repeated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from typing import Any

from curation import models
from curation.core import skipped
from curation.core.errors import LedgerError, NotFoundError, UserError
from curation.core.holdout import HOLDOUT_RULE
from curation.core.origins import TRUSTED
from curation.evaluation.job import TrainingJob
from curation.evaluation.pairs import Samples
from curation.learners.learner import Learner
from curation.learning.sources import listing_sha256
from curation.ledger.documents import read_json
from curation.ledger.documents.learning import Card
from curation.models.architecture import config_path
from curation.models.devices import threads_of
from curation.models.patch_config import classifier_config
from curation.models.weights import tensors_to_bytes
from curation.shards.images import IMAGE_CODE_VERSION, DecodeLimits
from curation.storage.store import Store, open_store

TRAINING_VERSION = 4  # of the code from settings to weights: raise it where learner, order or preparation change


def identity_of(job: TrainingJob, sources: Mapping[str, Samples], device: str) -> dict[str, Any]:
    """Return everything that determines the weights. Shards count by content, so a copied corpus changes nothing.

    sources: the samples of `job.sources`. device: a type, such as `cpu`.
    """
    identity: dict[str, Any] = {
        "version": [TRAINING_VERSION, IMAGE_CODE_VERSION],
        "model": job.model,
        "config": classifier_config(job.model),
        **{f"{name}_sha256": listing_sha256(some.shards) for name, some in sources.items()},
        "training": asdict(job.training),
        "holdout": job.holdout,
        "evaluation": job.evaluation,
        "device": device,
        "threads": threads_of(job.threads) if device == "cpu" else 0,
    }
    if job.holdout:
        identity["holdout_rule"] = HOLDOUT_RULE
    if job.streamed:
        identity["streamed"] = True
    if job.origins != TRUSTED:
        identity["origins"] = list(job.origins)
    samples = sources["data"]
    if samples.subset is not None:
        identity["subset"] = samples.subset._asdict()
    own = next((shard.limits for shard in samples.shards if shard.limits is not None), DecodeLimits())
    if (limits := samples.limits or own) != DecodeLimits():
        identity["limits"] = asdict(limits)
    for name, some in sources.items():
        if some.weights:
            identity[f"{name}_weights"] = some.weights.sha256
    return identity


def finished_card(job: TrainingJob, identity: str) -> dict[str, Any] | None:
    """Return the card of this training if it lies at `job.out` with its weights, else None."""
    store = open_store(job.out, job.options)
    try:
        card = read_json(store, "card.json", Card, "")
        if card["identity"] != identity or store.head(card["key"]).size != card["bytes"]:
            return None
    except (NotFoundError, LedgerError, UserError):  # missing or damaged: the model is trained again
        return None
    return card


def put_files(
    job: TrainingJob, store: Store, identity: Mapping[str, Any], learner: Learner, metrics: str
) -> dict[str, Any]:
    """Write weights, the model's configuration and metrics; return the card's fields about the weights."""
    metadata = {"format": "pt", "model": job.model, "training": json.dumps(identity, sort_keys=True)}
    metadata["preprocess"] = json.dumps(asdict(models.preprocess_for(job.model)), sort_keys=True)
    data = tensors_to_bytes(learner.tensors(), metadata)
    name = sha256(data).hexdigest()
    own = f"-{name[:16]}" if job.shared else ""  # another process at the same training writes other files
    key = f"{job.model}{own}.safetensors"
    store.put(key, data)
    store.put(f"{job.model}.json", config_path(job.model).read_bytes())
    store.put(f"metrics{own}.jsonl", metrics.encode())
    return {"weights": store.location(key), "key": key, "sha256": name, "bytes": len(data)}


def put_card(job: TrainingJob, store: Store, card: dict[str, Any]) -> dict[str, Any]:
    """Write the card, which marks the training as finished. Return the valid card: the first one, where it is shared.

    Models of two machines may differ in their last bits, so the first card wins.
    """
    text = json.dumps(card, indent=2).encode()
    if job.shared and not store.create("card.json", text) and (first := finished_card(job, card["identity"])):
        return {**first, "reused": True}
    store.put("card.json", text)
    return {**card, "reused": False}


def report(card: dict[str, Any]) -> str:
    """Format a card for a person: a few lines."""
    lines = [f"{card['model']}  {card['parameters'] / 1e6:.1f} M parameters, {card['steps']:,} steps"]
    if card["reused"]:
        lines[0] += "  (already trained: nothing done; --force trains again)"
    else:
        lines[0] += f" in {card['seconds']['training']:.0f} s ({card['samples_per_second']:,} samples/s)"
    found = card["evaluation"]
    for name, rate in found.get("retrieval", {}).items():
        lines.append(f"  {name:<14} {_rate(rate)}")
    if "zero_shot" in found:
        lines.append(f"  {'zero-shot':<14} {_rate(found['zero_shot'])}, {found['zero_shot']['classes']} classes")
    return "\n".join(
        [*lines, *skipped.lines(card["skipped"]), f"weights  {card['weights']}", f"sha256   {card['sha256']}"]
    )


def _rate(rate: dict[str, float]) -> str:
    interval = f"{rate['low']:.3f} to {rate['high']:.3f}; by chance {rate['chance']:.4f}"
    return f"{rate['rate']:.3f}  ({interval}) of {rate['total']:,}"
