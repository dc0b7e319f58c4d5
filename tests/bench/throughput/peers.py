"""The peers: what each one runs, in which environment, and which settings it is tuned over."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.throughput.places import ROOT, Place
from bench.throughput.workloads import Workload

PEERS = ROOT / "tests/bench/peers"
Setting = tuple[str, ...]


@dataclass(frozen=True)
class Peer:
    """A peer. script: in `peers/`, called with URLs, model, weights, output, batch and one of `settings`.

    requirements: the file in `peers/` that pins its environment. packaged: a published product, unlike our own loop; it
    runs on fewer samples. s3: it reads presigned URLs. same_pixels: it decodes as we do, so scores must agree.
    """

    name: str
    title: str
    script: str
    requirements: str
    settings: Sequence[Setting]
    names: str  # of the settings, for the report
    packaged: bool = True
    s3: bool = False
    same_pixels: bool = True


LOOP_SETTINGS = [("2", "1"), ("2", "2"), ("1", "1"), ("1", "2")]
PEERS_BY_NAME = {
    peer.name: peer
    for peer in (
        Peer("tuned", "tuned loop", "tuned_loop.py", "tuned", [(*s, "0") for s in LOOP_SETTINGS],
             "workers/threads/trim", packaged=False, s3=True),
        Peer("tuned-trim", "tuned loop, captions trimmed", "tuned_loop.py", "tuned", [(*s, "1") for s in LOOP_SETTINGS],
             "workers/threads/trim", packaged=False, s3=True),
        Peer("clip-retrieval", "clip-retrieval 2.45", "clip_retrieval_run.py", "clip-retrieval",
             [("2", "1"), ("2", "2"), ("1", "2")], "workers/threads", same_pixels=False),
        Peer("ray-data", "Ray Data 2.60", "ray_data.py", "ray-data", [("2", "1"), ("1", "2")], "actors/threads"),
        Peer("data-juicer", "Data-Juicer 1.6", "data_juicer_run.py", "data-juicer", [("2",)], "processes",
             same_pixels=False),
        Peer("daft", "Daft 0.7", "daft_run.py", "daft", [("1", "2"), ("2", "1")], "instances/threads"),
    )
}  # fmt: skip


def command(
    peer: Peer, python: str, workload: Workload, place: Place, weights: Path, setting: Setting, work: Path, cache: Path
) -> list[str]:  # fmt: skip
    """Return the command that scores the shards of `place`; its output is `output(peer, work)`."""
    out, script = str(output(peer, work)), str(PEERS / peer.script)
    if peer.name == "data-juicer":
        rows, model = unpacked(place, cache, workload), hugging_face(workload.model, weights, cache)
        return [python, script, str(rows), str(model), out, *setting]
    urls = place.listed(work / "urls.json", place.urls)
    return [python, script, urls, workload.model, str(weights), out, str(workload.batch), *setting]


def output(peer: Peer, work: Path) -> Path:
    """Return the .npz with a peer's scores."""
    return work / f"{peer.name}.npz"


def unpacked(place: Place, cache: Path, workload: Workload) -> Path:
    """Unpack shards for Data-Juicer, once: an image file and a JSON line a sample. Not part of its time."""
    folder = cache / "unpacked" / f"{workload.corpus}-{Path(place.root).name}"
    folder.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    for shard in place.urls:
        rows = folder / f"{Path(shard).stem}.jsonl"
        if not rows.exists():
            rows.write_text("".join(_unpack(Path(shard), folder)))
        lines.append(rows.read_text())
    listed = folder / f"first-{len(place.urls)}.jsonl"
    listed.write_text("".join(lines))
    return listed


def _unpack(shard: Path, folder: Path) -> list[str]:
    lines, image = [], folder
    with tarfile.open(shard) as tar:
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            if member.name.endswith(".txt"):
                text = f"<__dj__image> {file.read().decode()} <|__dj__eoc|>"
                lines.append(json.dumps({"text": text, "images": [str(image)]}) + "\n")
            else:
                image = folder / member.name
                image.write_bytes(file.read())
    return lines


def hugging_face(model: str, weights: Path, cache: Path) -> Path:
    """Return the folder with the model for transformers."""
    from bench.peers.hugging_face import convert

    from curation.models.architecture import model_config

    return convert(model_config(model), weights, cache / "hugging-face" / weights.stem)
