"""One run of `make bench-online`: an arm, a seed, a workload. Its result is kept under all that decides it."""

from __future__ import annotations

import json
import time
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
from curation.learners.classification import ClassLearner, accuracy, classes_of, labelled
from curation.learners.contrastive import ClipLearner
from curation.learners.learner import Learner, Training
from curation.models import cost
from curation.models.tokenizer import tokenizer_for
from curation.online import Roles, Selection, online_selection
from curation.pool import Pool
from curation.selectors import SELECTORS
from curation.selectors.blend import Blend
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
    learner = make(workload, load, LEARNER, training)
    selector = SELECTORS[arm.selector](**{name: _field(name, value) for name, value in arm.fields})
    selection = Selection(selector=selector, filtering_ratio=_schedule(arm.filtering_ratio), stop=arm.stop)
    needs = selector.roles()
    reference = reference_of(workload, arm, seed, folder) if "reference" in needs or arm.pool == "static" else None
    online = None
    if "online" in needs:
        online = learner
        if arm.online != "learner":
            online = make(workload, load, arm.online, replace(training, seed=seed + 1000, averaging=0.0))
    pool = pool_of(workload, load, _candidates(workload, load, arm, reference), seed)
    ledger = ComputeLedger(prices(workload, arm, reference is not None, online is not None))
    if arm.pool == "static":
        ledger.scored["reference"] += len(load.pool)
    roles = Roles(learner=learner, online=online, reference=reference)
    curve = []
    tagged = np.array([_tag(workload, uid) for uid in pool.examples.uids])
    shares: list[float] = []
    for step in online_selection(roles, pool, selection, steps=arm.steps, batch=BATCH, seed=seed):
        ledger.add(step.choice, roles, needs)
        shares.append(float(tagged[step.choice.rows.numpy()].mean()))
        if (step.number + 1) % EVERY == 0:
            point = {"updates": step.number + 1, "totals": ledger.totals(), **quality(learner, examples)}
            point["tagged"] = float(np.mean(shares))
            point["seconds"] = time.monotonic() - began
            shares.clear()
            curve.append(point)
    return {"workload": workload, "arm": asdict(arm), "seed": seed, "held_out": held_out, "curve": curve}


def make(workload: str, load: data.Workload, model: str, training: Training) -> Learner:
    """A learner of the workload's kind."""
    if workload == "classes":
        return ClassLearner(model, classes_of(load.pool.labels), training)
    return ClipLearner(model, training)


def pool_of(workload: str, load: data.Workload, examples: Examples, seed: int) -> Pool:
    """Candidates with what belongs to them."""
    if workload == "classes":
        return Pool(*labelled(examples, classes_of(load.pool.labels)), seed)
    return Pool(examples, tokenizer_for(LEARNER), seed)


def reference_of(workload: str, arm: Arm, seed: int, folder: Path) -> Learner:
    """The reference, trained once on the trusted set with this seed."""
    load = data.load(workload, folder)
    training = Training(steps=arm.reference_steps, batch=BATCH, lr=LR, seed=seed + 2000)
    learner = make(workload, load, arm.reference, training)
    name = f"{data.EDITION}-{workload}-{arm.reference}-{arm.reference_steps}-{seed}.safetensors"
    file = folder / "references" / name
    if not file.exists():
        pool = pool_of(workload, load, load.trusted, seed + 2000)
        for _ in range(arm.reference_steps):
            learner.step(pool.draw(BATCH).batch)
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(f".{time.monotonic_ns()}")
        save_file(learner.tensors(), temporary)
        temporary.rename(file)
    learner.module.load_state_dict(load_file(file))
    return learner


def _tag(workload: str, uid: str) -> bool:
    """Of which the share among the chosen is told: emoji (pairs), or names without a modifier (classes)."""
    place, _, name = uid.partition(":")
    return place in data.POOL_EMOJI if workload == "pairs" else not set(name.split("-")) & data.MODIFIERS


def prices(workload: str, arm: Arm, reference: bool, online: bool) -> Prices:
    """FLOPs of a forward pass by role; of pairs both towers, captions at the context's full length."""

    def flops(model: str) -> float:
        found = cost(model)
        return float(found.image_flops + (found.text_flops if workload == "pairs" else 0))

    trained = 3 * flops(arm.reference) * BATCH * arm.reference_steps if reference else 0.0
    scoring = flops(LEARNER) if arm.online == "learner" else flops(arm.online)
    return Prices(
        learner=flops(LEARNER), online=scoring if online else 0.0, reference=flops(arm.reference),
        reference_training=trained,
    )  # fmt: skip


def quality(learner: Learner, examples: Examples) -> dict[str, float]:
    """Accuracy; or recall@1 and @5, the mean of both ways, and zero-shot accuracy over all names."""
    if isinstance(learner, ClassLearner):
        rate = accuracy(learner, examples).rate
        return {"quality": rate, "accuracy": rate}
    assert isinstance(learner, ClipLearner)
    encoder = learner.encoder()
    image, text = encode_images(encoder, examples), encode_captions(encoder, examples.captions)
    found = {name: rate.rate for name, rate in retrieval(image, text).items()}
    names = sorted(set(examples.labels))
    truth = torch.tensor([names.index(label) for label in examples.labels])
    correct = zero_shot(image, class_vectors(encoder, names), truth).rate
    recall = {k: (found[f"i2t_recall@{k}"] + found[f"t2i_recall@{k}"]) / 2 for k in (1, 5)}
    return {"quality": recall[5], "recall@1": recall[1], "recall@5": recall[5], "zero_shot": correct}


def _candidates(workload: str, load: data.Workload, arm: Arm, reference: Learner | None) -> Examples:
    if arm.pool == "pool+trusted":
        return Examples.joined([load.pool, load.trusted])
    if arm.pool == "static":
        assert reference is not None
        pool = pool_of(workload, load, load.pool, 0)
        rows = torch.arange(len(pool))
        losses = torch.cat([reference.outputs(pool.rows(part)).losses() for part in rows.split(256)])
        kept = losses.argsort()[: len(pool) // 2].sort().values
        return pool.examples.take(kept.tolist())
    return load.pool


def _field(name: str, value: Any) -> Any:
    return Blend(**dict(value)) if name == "of" else _schedule(value)


def _schedule(value: Any) -> Any:
    return Ramp(start=value[0], end=value[1], until=value[2]) if isinstance(value, tuple | list) else value
