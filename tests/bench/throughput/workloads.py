"""The workloads of `make bench`: which corpus, which model, and what each one is limited by."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Workload:
    """Samples of one kind, scored with one model.

    samples: of a whole run and of a `--quick` one. per_shard: samples in a shard. image: extension of the images.
    batch: samples in a model's batch, for us and for every peer. corpus: names the builder in `corpora.py`. forward:
    samples a core that the limit of the forward pass is measured over. packaged: samples for packaged peers at most,
    since they take several times as long. s3: measure on S3 too.
    """

    name: str
    title: str
    corpus: str
    model: str
    image: str
    samples: int
    quick: int
    per_shard: int = 1000
    batch: int = 256
    forward: int = 4096
    packaged: int = 4_000
    s3: bool = False

    def shards(self, samples: int) -> int:
        """Return how many shards hold that many samples."""
        return -(-samples // self.per_shard)


WORKLOADS = {
    item.name: item
    for item in (
        Workload("A", "decode-bound: JPEG pictures of 512 to 768 px, proxy-mu", "pictures", "proxy-mu", "jpg", 12_000,
                 2_000, packaged=2_000, s3=True),
        Workload("B", "model-bound: JPEG pictures of 224 px, ViT-B-32", "small-pictures", "ViT-B-32", "jpg", 384, 128,
                 per_shard=64, batch=64, forward=64, packaged=128),
        Workload("C", "many small images: PNG icons of 64 px, proxy-mu", "icons", "proxy-mu", "png", 30_000, 2_000,
                 s3=True),
        Workload("C-ti", "many small images: PNG icons of 64 px, proxy-ti", "icons", "proxy-ti", "png", 30_000, 2_000),
    )
}  # fmt: skip

#: Two shards of a few icons: what a run costs before and after its samples.
SMALL = Workload(
    "fixed", "fixed cost: 2 shards of 8 icons, proxy-mu", "few-icons", "proxy-mu", "png", 16, 16, per_shard=8
)
