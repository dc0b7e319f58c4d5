"""The bench's corpora and weights: deterministic, cached below one folder, and built once, shard by shard.

A shard is a function of (corpus, its number); a run that needs more shards adds them to those that exist. Cost on two
idle cores: 12,000 pictures 4 minutes and 1 GB, 30,000 icons 30 s and 130 MB.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path

from bench.throughput.pictures import SIZES, SMALL_SIZES, icon, picture
from bench.throughput.workloads import Workload

EDITION = 1  # increase it with any change that changes a byte


def build(folder: Path, workload: Workload, shards: int, photographs: Path | None = None) -> list[Path]:
    """Return the paths of the first `shards` shards of a workload's corpus, and build those that are missing."""
    found = images(photographs) if photographs and workload.image == "jpg" else []
    tag = f"-{sha256(repr(found).encode()).hexdigest()[:8]}" if found else ""
    place = folder / f"{workload.corpus}-{EDITION}{tag}"
    place.mkdir(parents=True, exist_ok=True)
    paths = [place / f"{number:05d}.tar" for number in range(shards)]
    missing = [(number, path) for number, path in enumerate(paths) if not path.exists()]
    if missing:
        print(f"building {len(missing)} shards of {workload.corpus} in {place}", file=sys.stderr)
        with ProcessPoolExecutor(len(os.sched_getaffinity(0)), get_context("spawn"), _path, (sys.path,)) as pool:
            calls = [pool.submit(build_shard, workload, number, path, found) for number, path in missing]
            for call in calls:
                call.result()
    return paths


def build_shard(workload: Workload, number: int, path: Path, photographs: Sequence[Path] = ()) -> None:
    """Write one shard; an interrupted build leaves no file of that name."""
    from curation.shards.tar_writer import TarWriter

    scratch = path.with_suffix(f".{os.getpid()}")
    with scratch.open("wb") as file:
        tar = TarWriter(file)
        for index in range(number * workload.per_shard, (number + 1) * workload.per_shard):
            data, caption = sample(workload, index, photographs)
            tar.add(f"{index:08d}.{workload.image}", data)
            tar.add(f"{index:08d}.txt", caption.encode())
        tar.close()
    scratch.rename(path)


def sample(workload: Workload, index: int, photographs: Sequence[Path] = ()) -> tuple[bytes, str]:
    """Return the bytes of one image, and its caption."""
    if workload.image == "png":
        return icon(index)
    return picture(index, SIZES if workload.corpus == "pictures" else SMALL_SIZES, photographs)


def images(folder: Path) -> list[Path]:
    """Return the JPEG and PNG files below a folder, sorted. Raises `ValueError` where there are none."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    if not found:
        raise ValueError(f"{folder} contains no .jpg or .png files; name another folder with --pictures")
    return found


def weights(folder: Path, model: str) -> Path:
    """Return a safetensors file with random weights of a model (seed 0); speed doesn't depend on their values."""
    path = folder / "weights" / f"{model}-{EDITION}.safetensors"
    if not path.exists():
        from curation.models.dual import load_dual_encoder
        from curation.models.weights import tensors_to_bytes

        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(f".{os.getpid()}")
        scratch.write_bytes(tensors_to_bytes(load_dual_encoder(model, None).module.state_dict(), {}))
        scratch.rename(path)
    return path


def _path(entries: list[str]) -> None:
    sys.path[:] = entries
