"""How good a dual encoder is on samples it has not seen: retrieval and zero-shot classification, with intervals.

The held-out part is chosen by the hash of a sample's group (`curation.core.holdout`: all samples of one name), so that
the same picture in another weight or pack can't be on both sides. Of each group one sample is a retrieval candidate:
five weights of one icon would make recall@1 a lottery. Intervals are Wilson's, 95 %: they count the chance in the
choice of candidates, not in the training. Cost: one forward pass a sample, and a K x K product.
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

# Of what `evaluate` measures, on which samples and how: it names a figure that is kept.
EVALUATION_VERSION = (3, HOLDOUT_RULE)
MAX_EVALUATED = 4000  # held-out samples that are looked at: +-1.5 points at recall 0.5
CANDIDATES = 1000  # of retrieval, at most
TEMPLATES = ("{}", "{} icon", "an icon of {}", "a picture of {}")


def evaluate(
    encoder: DualEncoder, examples: Examples, *, candidates: int = CANDIDATES, classes: int = 200
) -> dict[str, Any]:
    """Everything at once, as a JSON object: `retrieval` with recall@1 and @5 both ways, `zero_shot` accuracy.

    The fewer candidates or classes, the easier: compare only figures with the same `chance`.
    """
    chosen = one_per_group(examples, candidates)
    found: dict[str, Any] = {"samples": len(examples), "candidates": len(chosen)}
    if len(chosen) > 1:
        some = examples.take(chosen)
        image, text = encode_images(encoder, some), encode_captions(encoder, some.captions)
        found["retrieval"] = {name: asdict(rate) for name, rate in retrieval(image, text).items()}
    counts = most_common(examples.labels)
    repeated = [name for name, count in counts if count > 1][:classes]
    names = repeated or [name for name, _ in counts][:candidates]  # where no name repeats, each is a class
    if len(names) > 1:
        known = set(names)
        some = examples.take([row for row, label in enumerate(examples.labels) if label in known])
        truth = torch.tensor([names.index(label) for label in some.labels])
        vectors = class_vectors(encoder, names)
        found["zero_shot"] = {"classes": len(names), **asdict(zero_shot(encode_images(encoder, some), vectors, truth))}
    return found


def retrieval(image: Tensor, text: Tensor, ks: Sequence[int] = (1, 5)) -> dict[str, HitRate]:
    """recall@k of each image's own caption among all captions (`i2t`), and the other way round (`t2i`).

    A tie counts against: an encoder that maps everything to one point recalls nothing.
    """
    similarity = (image @ text.T).float().cpu()
    assert similarity.isfinite().all()
    own = similarity.diagonal()
    # Candidates at least as good as the own one, which is itself among them.
    ranks = {"i2t": (similarity >= own[:, None]).sum(1), "t2i": (similarity >= own[None, :]).sum(0)}
    total = len(similarity)
    return {
        f"{way}_recall@{k}": wilson(int((rank <= k).sum()), total, min(1.0, k / total))
        for way, rank in ranks.items()
        for k in ks
    }


def zero_shot(image: Tensor, classes: Tensor, truth: Tensor) -> HitRate:
    """Share of images whose nearest class vector is the right one; by chance, that of the most frequent class."""
    guess = (image @ classes.T).float().argmax(1).cpu()
    return wilson(int((guess == truth).sum()), len(truth), int(truth.bincount().max()) / len(truth))


def class_vectors(encoder: DualEncoder, names: Sequence[str], templates: Sequence[str] = TEMPLATES) -> Tensor:
    """One unit vector a class: the mean of its prompts' vectors (Radford et al. 2021, section 3.1.4)."""
    words = [name.replace("-", " ").replace("_", " ") for name in names]
    per_template = [encode_captions(encoder, [template.format(word) for word in words]) for template in templates]
    return normalize(torch.stack(per_template).mean(0), dim=-1)


def encode_images(encoder: DualEncoder, examples: Examples, batch: int = 256) -> Tensor:
    """Vectors of all images, in batches."""
    return torch.cat([encoder.image(examples.pixels[at : at + batch]) for at in range(0, len(examples), batch)])


def encode_captions(encoder: DualEncoder, captions: Sequence[str], batch: int = 256) -> Tensor:
    """Vectors of all captions, in batches."""
    return torch.cat([encoder.text(captions[at : at + batch]) for at in range(0, len(captions), batch)])


def one_per_group(examples: Examples, limit: int) -> list[int]:
    """Rows of at most `limit` samples, no two of one group or one caption; in the order of their uids."""
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
    """Labels that are not empty with their counts, the most frequent first, ties by name."""
    return sorted(Counter(label for label in labels if label).items(), key=lambda item: (-item[1], item[0]))
