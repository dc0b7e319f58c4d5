"""One run of `make bench-online`: an arm, a seed, a workload. Its result is kept under all that decides it."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from bench.online import data
from safetensors.torch import load_file, save_file

from curation.learners.classification import ClassLearner, accuracy, labelled, shared_labels
from curation.learners.contrastive import ClipLearner
from curation.learners.learner import Learner
from curation.learners.training import Training
from curation.learning.model_flops import forward_flops, training_flops, trimmed
from curation.learning.participants import text_lengths
from curation.models.architecture import model_config
from curation.models.batches import Examples
from curation.models.retrieval import class_vectors, encode_captions, encode_images, retrieval, zero_shot
from curation.models.tokenizer import tokenizer_for
from curation.models.towers import bucket_lengths
from curation.selection.flops import ComputeLedger, Prices
from curation.selection.online import Roles, TableScores, online_selection
from curation.selection.pool import Pool
from curation.selectors import SELECTORS
from curation.selectors.blend import Blend
from curation.selectors.schedule import Ramp
from curation.selectors.selection_settings import SelectionSettings

EDITION = 2  # raise it when this file's loop changes; part of every run's identity
LR = 2e-3
PROXY = "proxy-mu"
REFERENCE_STEPS, REFERENCE_BATCH = 800, 128
AMONG = 4096  # samples of the pool that a contrastive score table compares each one with
CHUNK = 8192  # so many of them at once: floats by AMONG twice, 0.3 GB
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all arms of a workload share."""

    data: str  # pairs or classes
    steps: int
    short: int  # updates of a short run: 51 % (pairs) or 46 % (classes) fewer
    learner: str = "proxy-ti"
    batch: int = 128
    every: int = 40  # updates between two evaluations
    precision: Literal["fp32", "bf16"] = "fp32"  # of all models


SETTINGS = {
    "pairs": Setting(data="pairs", steps=1500, short=735),
    "classes": Setting(data="classes", steps=800, short=432),
    # The classes for nine epochs instead of two. `long` has a larger learner, for which the same small models choose,
    # and needs a GPU.
    "epochs": Setting(data="classes", steps=3900, short=2106, every=130),
    "long": Setting(data="classes", steps=1000, short=540, learner="proxy-s", batch=512, every=50, precision="bf16"),
}


@dataclass(frozen=True, kw_only=True)
class Arm:
    """The settings that differ between arms. Everything else (b, learner, data) is the same for all."""

    selector: str = "uniform"
    fields: tuple[tuple[str, Any], ...] = ()  # of the selector; a Ramp as (start, end, until)
    filtering_ratio: float | tuple[float, float, float] = 0.5
    stop: float = 1.0
    online: str = PROXY  # or "learner": RHO
    reference: str = PROXY
    reference_steps: int = REFERENCE_STEPS
    references: int = 1  # trained alike with seeds of their own; their losses are averaged
    contrastive: bool = False  # these scores: contrastive losses (negCLIPLoss) for -z_img . z_txt
    cached: bool = False  # the reference scores the pool once, as score tables do; else every super-batch again
    scoring_size: int = 0  # of the online model's pictures when it scores (Flexi-JEST); half of its batch learns at it
    pool: str = "pool"  # or "pool+trusted", or "static": the share that the reference likes best, once
    share: float = 0.5  # of the pool, where it is static
    short: bool = False  # as many updates as the bars of the workload leave, and a schedule that ends with them
    schedule: str = "cosine"
    averaging: float = 0.0
    lr: float = LR


def identity(workload: str, arm: Arm, seed: int, held_out: str) -> str:
    setting = SETTINGS[workload]
    steps = [setting.steps, setting.short if arm.short else 0, setting.every]
    changed = {name: value for name, value in asdict(arm).items() if value != getattr(Arm(), name)}
    edition = data.EDITION[setting.data]
    about = [edition, EDITION, setting.batch, steps, setting.learner, workload, changed, seed, held_out]
    return sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:20]


def cached(workload: str, arm: Arm, seed: int, held_out: str, folder: Path) -> dict[str, Any] | None:
    """The cached result of a run, or None."""
    file = folder / "runs" / f"{identity(workload, arm, seed, held_out)}.json"
    return json.loads(file.read_text()) if file.exists() else None


def result(workload: str, arm: Arm, seed: int, held_out: str, folder: Path) -> dict[str, Any]:
    """The result of a run, from the cache or computed and cached."""
    found = cached(workload, arm, seed, held_out, folder)
    if found is None:
        found = run(workload, arm, seed, held_out, folder)
        file = folder / "runs" / f"{identity(workload, arm, seed, held_out)}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(f".{seed}.tmp")
        temporary.write_text(json.dumps(found))
        temporary.rename(file)
    return found


def run(workload: str, arm: Arm, seed: int, held_out: str, folder: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    began = time.monotonic()
    setting = SETTINGS[workload]
    steps = setting.short if arm.short else setting.steps
    load = data.load(setting.data, held_out, folder)
    training = Training(
        steps=steps,
        batch=setting.batch,
        precision=setting.precision,
        lr=arm.lr,
        seed=seed,
        schedule=arm.schedule,
        averaging=arm.averaging,  # type: ignore[arg-type]
    )
    learner = make(workload, load, setting.learner, training)
    selector = SELECTORS[arm.selector](**{name: _field(name, value) for name, value in arm.fields})
    selection = SelectionSettings(selector=selector, filtering_ratio=_schedule(arm.filtering_ratio), stop=arm.stop)
    needs = selector.roles()
    seeds = range(seed, seed + 100_000 * arm.references, 100_000)
    wanted = "reference" in needs or arm.pool == "static"
    references = [reference_of(workload, load, arm, its, folder) for its in seeds] if wanted else []
    reference = references[0] if references else None
    online = None
    if "online" in needs:
        online = learner
        if arm.online != "learner":
            own = replace(
                training, seed=seed + 1000, averaging=0.0, scoring_size=arm.scoring_size,
                reduced=0.5 if arm.scoring_size else 0.0,
            )  # fmt: skip
            online = make(workload, load, arm.online, own)
    losses = None
    if references and (arm.cached or arm.pool == "static"):
        pairs = zip(references, seeds, strict=True)
        losses = torch.stack([table_of(workload, load, arm, one, its, folder) for one, its in pairs]).mean(0)
    candidates = _candidates(load, arm, losses)
    pool = pool_of(workload, load, candidates, seed, folder, losses if arm.cached else None)
    ledger = ComputeLedger(prices(workload, arm, bool(references), online, len(load.pool)))
    scored = needs
    if losses is not None:
        ledger.scored["reference"] += len(load.pool)
        ledger.texts["reference_scoring"] = _caption_lengths(workload, arm.reference, load.pool)
        scored = needs - {"reference"}
    cached_scores = arm.cached and losses is not None
    roles = Roles(learner=learner, online=online, reference=TableScores() if cached_scores else reference)
    curve = []
    tagged = np.array([_tag(workload, uid) for uid in candidates.uids])
    shares: list[float] = []
    for step in online_selection(roles, pool, selection, steps=steps, batch=setting.batch, seed=seed):
        scorers = {role: {"online": online, "reference": reference}[role] for role in scored}
        ledger.add(step, roles, scored, text_lengths(step, pool, scorers))
        shares.append(float(tagged[step.choice.rows.numpy()].mean()))
        if (step.number + 1) % setting.every == 0 or step.number + 1 == steps:
            point = {"updates": step.number + 1, "totals": ledger.totals(), **quality(learner, load.held_out)}
            point["tagged"] = float(np.mean(shares))
            point["seconds"] = time.monotonic() - began
            shares.clear()
            curve.append(point)
    return {"workload": workload, "arm": asdict(arm), "seed": seed, "held_out": held_out, "curve": curve}


def make(workload: str, load: data.Workload, model: str, training: Training) -> Learner:
    """Build a learner of the workload's kind."""
    if SETTINGS[workload].data == "classes":
        return ClassLearner(model, shared_labels(load.pool.labels), training, DEVICE)
    return ClipLearner(model, training, DEVICE)


def pool_of(
    workload: str, load: data.Workload, examples: Examples, seed: int, folder: Path, losses: torch.Tensor | None = None
) -> Pool:
    """Candidates with their classes, or with their captions' token ids, which are cached; `losses`: the reference's
    losses of these candidates, float32 `[N]`, if they are known."""
    if SETTINGS[workload].data == "classes":
        return Pool.of(*labelled(examples, shared_labels(load.pool.labels)), seed, losses=losses)
    name = sha256("\n".join(examples.captions).encode()).hexdigest()[:20]
    model = SETTINGS[workload].learner
    ids = _kept(
        folder / "tokens" / f"{model}-{name}.safetensors",
        lambda: {"ids": tokenizer_for(model)(examples.captions).to(torch.int32)},
    )["ids"]
    return Pool.of(examples, ids, seed, losses=losses)


def reference_of(workload: str, load: data.Workload, arm: Arm, seed: int, folder: Path) -> Learner:
    """The reference model, trained once on the trusted set with this seed."""
    training = Training(steps=arm.reference_steps, batch=REFERENCE_BATCH, lr=LR, seed=seed + 2000)
    learner = make(workload, load, arm.reference, training)

    def trained() -> dict[str, torch.Tensor]:
        pool = pool_of(workload, load, load.trusted, seed + 2000, folder)
        for _ in range(arm.reference_steps):
            learner.step(pool.draw(REFERENCE_BATCH).batch)
        return learner.tensors()

    learner.module.load_state_dict(_kept(_of_reference(workload, arm, seed, folder), trained))
    return learner


def table_of(workload: str, load: data.Workload, arm: Arm, reference: Learner, seed: int, folder: Path) -> torch.Tensor:
    """The reference's loss of each sample of the pool, computed once for all arms that read it, as a score table is."""
    kind = f"{load.part}-{'contrastive' if arm.contrastive else 'pointwise'}"
    path = _of_reference(workload, arm, seed, folder).with_suffix(f".{kind}.safetensors")
    return _kept(path, lambda: {"losses": losses_of(workload, load, reference, arm.contrastive, folder)})["losses"]


def _of_reference(workload: str, arm: Arm, seed: int, folder: Path) -> Path:
    kind = SETTINGS[workload].data
    name = f"{data.EDITION[kind]}-{kind}-{arm.reference}-{arm.reference_steps}-{seed}.safetensors"
    return folder / "references" / name


def _kept(file: Path, make: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Read the tensors of a file, or make and write them if it does not exist."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(f".{time.monotonic_ns()}")
        save_file(make(), temporary)
        temporary.rename(file)
    return load_file(file)


def _tag(workload: str, uid: str) -> bool:
    """Whether the reported share of the chosen counts a sample: emoji (pairs), names without a modifier (classes)."""
    place, _, name = uid.partition(":")
    return place in data.EMOJI if SETTINGS[workload].data == "pairs" else not set(name.split("-")) & data.MODIFIERS


def prices(workload: str, arm: Arm, reference: bool, online: Learner | None, pool: int) -> Prices:
    """FLOPs of a forward pass by role, for pairs of both towers. Captions are priced at their trimmed length, except in
    the reference's training, where they have the context's full length."""
    setting = SETTINGS[workload]
    text = setting.data == "pairs"
    own = forward_flops(arm.reference, text=text)
    trained = arm.reference_steps * REFERENCE_BATCH
    matrices = 4 * pool * AMONG * int(model_config(arm.reference)["embed_dim"]) if arm.contrastive else 0
    return Prices(
        learner=forward_flops(setting.learner, text=text),
        online=training_flops(online.model, online.training, text=text) if online else 0.0,
        online_scoring=forward_flops(online.model, text=text, size=online.training.scoring_size) if online else None,
        reference=arm.references * own,
        reference_training=arm.references * (3 * own * trained + matrices) if reference else 0.0,
        trimmed={
            "learner": trimmed(setting.learner),
            "online": trimmed(online.model) if online else {},
            "reference": {length: arm.references * less for length, less in trimmed(arm.reference).items()},
        }
        if text
        else {},
    )


def _caption_lengths(workload: str, model: str, examples: Examples) -> dict[int, int]:
    """Length -> number of captions, at the lengths that a scorer computes; empty for classes."""
    if SETTINGS[workload].data != "pairs":
        return {}
    return Counter(bucket_lengths(tokenizer_for(model)(examples.captions)).tolist())


def quality(learner: Learner, examples: Examples) -> dict[str, float]:
    """Accuracy; or recall@1 and @5, the mean of both directions, and zero-shot accuracy over all names."""
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


def losses_of(workload: str, load: data.Workload, reference: Learner, contrastive: bool, folder: Path) -> torch.Tensor:
    """The reference's loss of each sample of the pool, float32 `[N]`."""
    pool, count = pool_of(workload, load, load.pool, 0, folder), len(load.pool)
    outputs = [reference.outputs(pool.rows(part)) for part in torch.arange(count).split(256)]
    if not contrastive:
        return torch.cat([part.losses() for part in outputs]).cpu()
    image, text = (torch.cat([getattr(part, way) for part in outputs]) for way in ("image", "text"))
    scale = outputs[0].temperature
    among = torch.randperm(count, generator=torch.Generator().manual_seed(0))[:AMONG]
    losses = []
    for one, other in zip(image.split(CHUNK), text.split(CHUNK), strict=True):
        rows, columns = scale * one @ text[among].T, scale * other @ image[among].T
        losses.append((rows.logsumexp(1) + columns.logsumexp(1)) / 2 - scale * (one * other).sum(1))
    return torch.cat(losses).cpu()


def _candidates(load: data.Workload, arm: Arm, losses: torch.Tensor | None) -> Examples:
    if arm.pool == "pool+trusted":
        return Examples.concatenated([load.pool, load.trusted])
    if arm.pool == "static":
        assert losses is not None
        kept = losses.argsort()[: round(len(losses) * arm.share)].sort().values
        return load.pool.take(kept.tolist())
    return load.pool


def _field(name: str, value: Any) -> Any:
    return Blend(**dict(value)) if name == "of" else _schedule(value)


def _schedule(value: Any) -> Any:
    return Ramp(start=value[0], end=value[1], until=value[2]) if isinstance(value, tuple | list) else value
