"""One run of `make bench-online`: an arm, a seed, a workload. Its result is kept under all that decides it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench.online import data
from safetensors.torch import load_file, save_file

from curation.evaluation import class_vectors, encode_captions, encode_images, retrieval, zero_shot
from curation.examples import Examples
from curation.flops import ComputeLedger, Prices
from curation.learners.contrastive import ClipLearner
from curation.learners.learner import Training
from curation.models import cost
from curation.models.tokenizer import tokenizer_for
from curation.online import Roles, Selection, online_selection
from curation.pool import Pool
from curation.selectors import SELECTORS
from curation.selectors.draw import Ramp

EDITION = 1  # of this file's loop; part of every run's identity
BATCH, LR, EVERY = 128, 2e-3, 40
LEARNER, PROXY = "proxy-ti", "proxy-mu"
REFERENCE_STEPS = 800


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What is compared. Everything else (b, learning rate, learner) is the same for all arms."""

    selector: str = "uniform"
    fields: tuple[tuple[str, Any], ...] = ()  # of the selector; a Ramp as (start, end, until)
    filtering_ratio: float | tuple[float, float, float] = 0.5
    stop: float = 1.0
    online: str = PROXY  # or "learner": RHO
    reference: str = PROXY
    reference_steps: int = REFERENCE_STEPS
    pool: str = "pool"  # or "pool+trusted", or "static": the reference's top half, once
    steps: int = 800
    schedule: str = "cosine"
    averaging: float = 0.0
    lr: float = LR


def identity(workload: str, arm: Arm, seed: int, held_out: str) -> str:
    about = [data.EDITION, EDITION, BATCH, EVERY, LEARNER, workload, asdict(arm), seed, held_out]
    return sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:20]


def result(workload: str, arm: Arm, seed: int, held_out: str, folder: Path) -> dict[str, Any]:
    """The run's result, from the folder if it is there."""
    file = folder / "runs" / f"{identity(workload, arm, seed, held_out)}.json"
    if not file.exists():
        found = run(workload, arm, seed, held_out, folder)
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(f".{seed}.tmp")
        temporary.write_text(json.dumps(found))
        temporary.rename(file)
    return json.loads(file.read_text())


def run(workload: str, arm: Arm, seed: int, held_out: str, folder: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    began = time.monotonic()
    load = data.load(workload, folder)
    examples: Examples = getattr(load, held_out)
    training = Training(
        steps=arm.steps,
        batch=BATCH,
        lr=arm.lr,
        seed=seed,
        schedule=arm.schedule,
        averaging=arm.averaging,  # type: ignore[arg-type]
    )
    learner = ClipLearner(LEARNER, training)
    selector = SELECTORS[arm.selector](**{name: _schedule(value) for name, value in arm.fields})
    selection = Selection(selector=selector, filtering_ratio=_schedule(arm.filtering_ratio), stop=arm.stop)
    needs = selector.roles()
    reference = reference_of(workload, arm, seed, folder) if "reference" in needs or arm.pool == "static" else None
    online = None
    if "online" in needs:
        online = learner if arm.online == "learner" else ClipLearner(arm.online, replace(training, seed=seed + 1000))
    pool = Pool(_candidates(load, arm, reference), tokenizer_for(LEARNER), seed)
    ledger = ComputeLedger(prices(arm, reference is not None, online is not None))
    if arm.pool == "static":
        ledger.scored["reference"] += len(load.pool)
    roles = Roles(learner=learner, online=online, reference=reference)
    curve = []
    sources = np.array([uid.split(":")[0] in data.POOL_EMOJI for uid in pool.examples.uids])
    shares: list[float] = []
    for step in online_selection(roles, pool, selection, steps=arm.steps, batch=BATCH, seed=seed):
        ledger.add(step, roles, needs)
        shares.append(float(sources[step.candidates[step.chosen].numpy()].mean()))
        if (step.number + 1) % EVERY == 0:
            point = {"updates": step.number + 1, "totals": ledger.totals(), **quality(learner, examples)}
            point["emoji"] = float(np.mean(shares))
            point["seconds"] = time.monotonic() - began
            shares.clear()
            curve.append(point)
            print(arm.selector, seed, point["updates"], round(point["quality"], 4), flush=True)
    return {"workload": workload, "arm": asdict(arm), "seed": seed, "held_out": held_out, "curve": curve}


def reference_of(workload: str, arm: Arm, seed: int, folder: Path) -> ClipLearner:
    """The reference, trained once on the trusted set with this seed."""
    training = Training(steps=arm.reference_steps, batch=BATCH, lr=LR, seed=seed + 2000)
    learner = ClipLearner(arm.reference, training)
    file = folder / "references" / f"{data.EDITION}-{workload}-{arm.reference}-{arm.reference_steps}-{seed}.safetensors"
    if not file.exists():
        pool = Pool(data.load(workload, folder).trusted, tokenizer_for(arm.reference), seed + 2000)
        for _ in range(arm.reference_steps):
            learner.step(pool.draw(BATCH).batch)
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(f".{time.monotonic_ns()}")
        save_file(learner.tensors(), temporary)
        temporary.rename(file)
    learner.module.load_state_dict(load_file(file))
    return learner


def prices(arm: Arm, reference: bool, online: bool) -> Prices:
    flops = {model: float(sum(cost(model)[1:])) for model in {LEARNER, arm.reference, PROXY}}
    trained = 3 * flops[arm.reference] * BATCH * arm.reference_steps if reference else 0.0
    if arm.pool == "pool+trusted":
        trained = 0.0
    scoring = flops[LEARNER] if arm.online == "learner" else flops[PROXY]
    return Prices(
        learner=flops[LEARNER], online=scoring if online else 0.0, reference=flops[arm.reference],
        reference_training=trained,
    )  # fmt: skip


def quality(learner: ClipLearner, examples: Examples) -> dict[str, float]:
    """recall@1 and @5, the mean of both ways, and zero-shot accuracy over all names."""
    encoder = learner.encoder()
    image, text = encode_images(encoder, examples), encode_captions(encoder, examples.captions)
    found = {name: rate.rate for name, rate in retrieval(image, text).items()}
    names = sorted(set(examples.labels))
    truth = torch.tensor([names.index(label) for label in examples.labels])
    accuracy = zero_shot(image, class_vectors(encoder, names), truth).rate
    recall = {k: (found[f"i2t_recall@{k}"] + found[f"t2i_recall@{k}"]) / 2 for k in (1, 5)}
    return {"quality": recall[5], "recall@1": recall[1], "recall@5": recall[5], "zero_shot": accuracy}


def _candidates(load: data.Workload, arm: Arm, reference: ClipLearner | None) -> Examples:
    if arm.pool == "pool+trusted":
        return Examples.joined([load.pool, load.trusted])
    if arm.pool == "static":
        assert reference is not None
        pool = Pool(load.pool, tokenizer_for(LEARNER))
        rows = torch.arange(len(pool))
        losses = torch.cat([reference.outputs(pool.rows(part)).losses() for part in rows.split(256)])
        kept = losses.argsort()[: len(pool) // 2].sort().values
        return load.pool.take(kept.tolist())
    return load.pool


def _schedule(value: Any) -> Any:
    return Ramp(start=value[0], end=value[1], until=value[2]) if isinstance(value, tuple | list) else value


def arm_from(value: Mapping[str, Any]) -> Arm:
    fields = tuple((name, tuple(v) if isinstance(v, list) else v) for name, v in value.get("fields", ()))
    return Arm(**{**value, "fields": fields})
