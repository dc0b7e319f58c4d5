"""Small real corpora, models and recipes for tests: made in milliseconds, deterministic, with every kind of flaw."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from curation.shards.tar_writer import TarWriter

FLAWS = {5: "image_truncated", 11: "missing_text", 13: "caption_not_utf8", 17: "bad_json", 19: "image_format"}


def picture(seed: int, extension: str, side: int = 72) -> bytes:
    """A smooth random picture, a few KB."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (6, 6, 3), dtype=np.uint8)
    pixels = cv2.resize(small, (side, side + 8), interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(f".{extension}", pixels)[1].tobytes()


def members(shard: int, n: int, *, flaws: bool = True) -> Iterator[tuple[str, bytes]]:
    """The members of one shard: n samples, one exact duplicate in it, and the flaws of `FLAWS`."""
    for i in range(n):
        key, extension = f"s{shard}-{i:04d}", ("png", "jpg", "webp")[i % 3]
        image = picture(shard * 100_000 + i, extension)
        if i == 8:  # the bytes of sample 2, under the name of another format
            image, extension = picture(shard * 100_000 + 2, "webp"), "png"
        caption = f"a picture of thing {i} in shard {shard}".encode() if i % 10 else b"thing"
        value = json.dumps({"number": i, "name": f"thing-{i % 7}"}).encode()
        flaw = FLAWS.get(i) if flaws else None
        if flaw == "image_truncated":
            image = image[: len(image) // 2]
        elif flaw == "caption_not_utf8":
            caption = b"caf\xe9 \xff"
        elif flaw == "bad_json":
            value = b"[1, 2"
        elif flaw == "image_format":
            image = b"%PDF-1" + image[6:]
        yield f"{key}.{extension}", image
        yield f"{key}.json", value
        if flaw != "missing_text":
            yield f"{key}.txt", caption


def write_shard(path: Path, shard: int, n: int, *, flaws: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        writer = TarWriter(file)
        for name, data in members(shard, n, flaws=flaws):
            writer.add(name, data)
        writer.close()


def write_corpus(root: Path, shards: int = 4, n: int = 60, *, flaws: bool = True) -> Path:
    """`shards` tars of n samples; with flaws, also an error page and a truncated tar."""
    for shard in range(shards):
        write_shard(root / f"{shard:05d}.tar", shard, n, flaws=flaws)
    if flaws:
        (root / "90000.tar").write_bytes(b"<html>503 slow down</html>" + b" " * 1000)
        whole = (root / "00000.tar").read_bytes()
        (root / "90001.tar").write_bytes(whole[: len(whole) // 1024 * 512])
    return root


def write_weights(path: Path, model: str = "proxy-mu", seed: int = 0) -> str:
    """Random weights of a proxy as safetensors; returns their sha256."""
    import torch

    from curation.models.architecture import build_model
    from curation.models.weights import tensors_to_bytes

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        data = tensors_to_bytes(build_model(model).state_dict(), {})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def write_recipe(path: Path, corpus: str, output: str, weights: str, sha256: str, **changes: Any) -> Path:
    """The recipe of most tests; `changes` replace its top-level keys."""
    import yaml

    model: Mapping[str, Any] = {"model": "proxy-mu", "weights": weights, "sha256": sha256}
    recipe = {
        "corpus": corpus,
        "output": output,
        "scorers": [{"clip_score": dict(model)}, {"embedding": dict(model)}],
        "filters": [
            {"caption": {"min_words": 2}},
            {"exact_duplicates": {}},
            {"top_fraction": {"score": "clip_score", "fraction": 0.5}},
        ],
        "shards": {"samples": 40},
        "limits": {"max_quarantined": 1},  # a tenth of the samples has flaws
        "compute": {"batch_size": 64, "max_actors": 1},  # each more is a process more that loads torch
        **changes,
    }
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return path


def score_record(**changes: Any) -> dict[str, Any]:
    """A commit record of a score table; `changes` replace its fields."""
    data = {"key": "data/u-0.parquet", "sha256": "0" * 64, "bytes": 3}
    where = {"key": "0.tar", "size": 1, "etag": "e"}
    return {"kind": "score", "column": "s", "fingerprint": "f", **where, "seen": 1, "data": data, **changes}


def write_record(**changes: Any) -> dict[str, Any]:
    """A commit record of a write unit; `changes` replace its fields."""
    counts = {"seen": 3, "kept": 1, "filtered": {"caption": 1}, "quarantined": {"bad_json": 1}}
    inputs = [{"key": "0.tar", "size": 1, "etag": "e", "reason": None, **counts}]
    shard = {"key": "data/u-0.tar", "sha256": "0" * 64, "bytes": 3, "samples": 1}
    part = {"key": "data/u-1.parquet", "sha256": "0" * 64, "bytes": 3, "rows": 3}
    return {"kind": "write", "inputs": inputs, "shards": [shard], "manifest": part, **counts, **changes}


def snapshot_document(**changes: Any) -> dict[str, Any]:
    """The arguments that a run passes to `Ledger.create_snapshot`; `changes` replace fields."""
    samples = {"seen": 3, "kept": 1, "filtered": {"caption": 1}, "quarantined": {"bad_json": 1}}
    names = {"decision_id": "x", "plan": "0" * 64, "recipe": {}, "recipe_sha256": "0" * 64, "scores_url": "file:///s"}
    data = {
        name: {"key": f"data/{name}-0.parquet", "sha256": "0" * 64, "bytes": 3}
        for name in ("shards", "manifest", "urls")
    }
    return {
        **names, **data, "fingerprints": {"index": "f"}, "scores": [], "units": {"total": 1, "quarantined": 0},
        "samples": samples, **changes,
    }  # fmt: skip


def problems(recipe: Path) -> list[str]:
    """The findings of `verify` about the latest snapshot of a recipe."""
    from curation.dataset.snapshot import open_snapshot
    from curation.recipes.curation_recipe import load_recipe
    from jobs.commands.verify import problems_of

    return [str(found) for found in problems_of(open_snapshot(load_recipe(recipe).output))]


#: Filters that need no scorer: drops a tenth of the captions, and the exact duplicate of every shard.
PLAIN: dict[str, Any] = {
    "scorers": [],
    "filters": [{"caption": {"min_words": 2}}, {"exact_duplicates": {}}],
}
