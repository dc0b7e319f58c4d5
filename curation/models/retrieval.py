"""Evaluation of a dual encoder on held-out samples: retrieval and zero-shot classification, with intervals.

The hash of a sample's group (`curation.core.holdout`: all samples of one name) selects the held-out part, so that one
image in another stroke weight or pack can't be on both sides. One sample of each group is a retrieval candidate: with
five stroke weights of one icon, recall@1 would be chance. Intervals are Wilson's, 95 %: they cover the choice of the
candidates and not the variation between trainings. Cost: one forward pass a sample, and a K x K product.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from curation.core.holdout import HOLDOUT_RULE, group_of
from curation.core.intervals import HitRate, wilson
from curation.models.batches import Examples
from curation.models.dual import DualEncoder

# Version of what `evaluate` measures and on which samples: part of the key under which a result is cached.
EVALUATION_VERSION = (3, HOLDOUT_RULE)
MAX_EVALUATED = 4000  # held-out samples that are evaluated: +-1.5 points at recall 0.5
CANDIDATES = 1000  # candidates of retrieval, at most
TEMPLATES = ("{}", "{} icon", "an icon of {}", "a picture of {}")


def evaluate(
    encoder: DualEncoder, examples: Examples, *, candidates: int = CANDIDATES, classes: int = 200
) -> dict[str, Any]:
    """Evaluate `encoder` on `examples`; returns a JSON object.

    `retrieval` has recall@1 and recall@5 in both directions, `zero_shot` the accuracy. Either is missing where there
    are fewer than two candidates or classes. Fewer candidates or classes make the task easier: compare only results
    with the same `chance`.
    """
    chosen = one_per_group(examples, candidates)
    found: dict[str, Any] = {"samples": len(examples), "candidates": len(chosen)}
    if len(chosen) > 1:
        some = examples.take(chosen)
        image, text = encode_images(encoder, some), encode_captions(encoder, some.captions)
        found["retrieval"] = {name: asdict(rate) for name, rate in retrieval(image, text).items()}
    counts = most_common(examples.labels)
    repeated = [name for name, count in counts if count > 1][:classes]
    names = repeated or [name for name, _ in counts][:candidates]  # where no name repeats, each name is a class
    if len(names) > 1:
        known = set(names)
        some = examples.take([row for row, label in enumerate(examples.labels) if label in known])
        truth = torch.tensor([names.index(label) for label in some.labels])
        vectors = class_vectors(encoder, names)
        found["zero_shot"] = {"classes": len(names), **asdict(zero_shot(encode_images(encoder, some), vectors, truth))}
    return found


def retrieval(image: Tensor, text: Tensor, ks: Sequence[int] = (1, 5)) -> dict[str, HitRate]:
    """Compute recall@k of each image's own caption among all captions (`i2t`), and of captions' images (`t2i`).

    `image`, `text`: unit vectors, float32 [K, D], row by row a pair. Ties count as misses: an encoder that maps
    everything to one point has recall 0.
    """
    similarity = (image @ text.T).float().cpu()
    assert similarity.isfinite().all()
    own = similarity.diagonal()
    # Candidates at least as similar as the own one, including itself.
    ranks = {"i2t": (similarity >= own[:, None]).sum(1), "t2i": (similarity >= own[None, :]).sum(0)}
    total = len(similarity)
    return {
        f"{way}_recall@{k}": wilson(int((rank <= k).sum()), total, min(1.0, k / total))
        for way, rank in ranks.items()
        for k in ks
    }


def zero_shot(image: Tensor, classes: Tensor, truth: Tensor) -> HitRate:
    """Compute the share of images whose nearest class vector is the true one.

    `image`: unit vectors [N, D]; `classes`: unit vectors [C, D]; `truth`: int64 [N]. `chance` is the share of the most
    frequent class.
    """
    guess = (image @ classes.T).float().argmax(1).cpu()
    return wilson(int((guess == truth).sum()), len(truth), int(truth.bincount().max()) / len(truth))


def class_vectors(encoder: DualEncoder, names: Sequence[str], templates: Sequence[str] = TEMPLATES) -> Tensor:
    """Compute one unit vector a class, [C, D]: the mean of its prompts' vectors.

    Source: Radford et al. 2021 (2103.00020), section 3.1.4.
    """
    words = [name.replace("-", " ").replace("_", " ") for name in names]
    per_template = [encode_captions(encoder, [template.format(word) for word in words]) for template in templates]
    return normalize(torch.stack(per_template).mean(0), dim=-1)


def encode_images(encoder: DualEncoder, examples: Examples, batch: int = 256) -> Tensor:
    """Encode all images in batches, float32 [N, D]."""
    return torch.cat([encoder.image(examples.pixels[at : at + batch]) for at in range(0, len(examples), batch)])


def encode_captions(encoder: DualEncoder, captions: Sequence[str], batch: int = 256) -> Tensor:
    """Encode all captions in batches, float32 [N, D]."""
    return torch.cat([encoder.text(captions[at : at + batch]) for at in range(0, len(captions), batch)])


def one_per_group(examples: Examples, limit: int) -> list[int]:
    """Rows of at most `limit` samples in the order of their uids, no two with the same group or the same caption."""
    groups: set[str] = set()
    captions: set[str] = set()
    rows: list[int] = []
    for row in sorted(range(len(examples)), key=examples.uids.__getitem__):
        group = group_of(examples.labels[row], examples.pixels[row].tobytes())
        if len(rows) < limit and group not in groups and examples.captions[row] not in captions:
            groups.add(group)
            captions.add(examples.captions[row])
            rows.append(row)
    return rows


def most_common(labels: Sequence[str]) -> list[tuple[str, int]]:
    """Non-empty labels with their counts, the most frequent first, ties by name."""
    return sorted(Counter(label for label in labels if label).items(), key=lambda item: (-item[1], item[0]))
