"""Peak memory of a local run: of the driver and of its largest worker (Linux), and corpora to measure it on.

python tests/memory_peaks.py RECIPE.yaml     run the recipe as the driver of `peaks`
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

PERIOD = 0.05  # seconds between two looks; a process' own peak is remembered by the kernel
PICTURES = 16  # different pictures of a corpus


class Peaks(NamedTuple):
    """Peak resident bytes of the driver, and of the largest worker process."""

    driver: int
    worker: int


def peaks(recipe: Path, env: Mapping[str, str] | None = None) -> Peaks:
    """Run a recipe in a process of its own, with workers of the local executor, and return the peaks."""
    command = [sys.executable, __file__, str(recipe)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})
    worker = 0
    while process.poll() is None:
        worker = max([worker, *_workers(process.pid)])
        time.sleep(PERIOD)
    assert process.stdout is not None
    answer = process.stdout.read().strip().splitlines()
    assert process.returncode == 0, answer
    return Peaks(json.loads(answer[-1]), worker)


def _workers(driver: int) -> Iterator[int]:
    """Yield the peaks of the processes whose parent is a child of the driver: those that its server has forked."""
    parents = dict(_parents())
    for pid, parent in parents.items():
        if parents.get(parent) == driver:
            with suppress(OSError, StopIteration):
                yield peak(str(pid))


def _parents() -> Iterator[tuple[int, int]]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            yield int(path.parent.name), int(path.read_text().rpartition(")")[2].split()[1])


def peak(pid: str = "self") -> int:
    """Return the peak resident bytes of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def write_photographs(folder: Path, shards: int, samples: int, side: int = 384) -> int:
    """Write shards of `samples` JPEGs of noise; return the bytes of one. A side of 384 pixels makes 100 kB each."""
    import cv2
    import numpy as np

    from curation.shards.tar_writer import TarWriter

    folder.mkdir(parents=True)
    noise = np.random.default_rng(0)
    pictures = [
        cv2.imencode(".jpg", noise.integers(0, 256, (side, side, 3), np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
        for _ in range(PICTURES)
    ]
    for shard in range(shards):
        with (folder / f"{shard:05d}.tar").open("wb") as file:
            writer = TarWriter(file)
            for number in range(samples):
                writer.add(f"{number:07d}.jpg", pictures[number % PICTURES].tobytes())
                writer.add(f"{number:07d}.txt", f"picture {number} of shard {shard}".encode())
            writer.close()
    return (folder / "00000.tar").stat().st_size


def main(recipe: str) -> None:
    """Run a recipe and print this process' peak."""
    import curation as cu

    cu.curate(recipe)
    print(json.dumps(peak()))


if __name__ == "__main__":
    main(sys.argv[1])
