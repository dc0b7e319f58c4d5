"""Sets of vectors that scores are measured against: the images and captions of a corpus, through one dual encoder.

A safetensors file of two tensors, `image` and `text`, each float16 [R, D] of unit length, row by row a pair. Its header
names the sha256 of the weights that made it, since vectors of two encoders can't be compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from curation.errors import WeightsError
from curation.models.dual import MIN_ROWS, at_least
from curation.models.weights import Weights, fetch_weights, read_metadata, read_tensors, tensors_to_bytes

if TYPE_CHECKING:
    from curation.store import StoreOptions

MADE_BY = "tutelage_encoder"  # key of the header: sha256 of the encoder's weights
COLUMNS = 1 << 16  # vectors compared at once: [N, COLUMNS] floats


class Vectors(NamedTuple):
    """float32 [R, D] each, row by row a pair."""

    image: Tensor
    text: Tensor


def vectors_file(image: Tensor, text: Tensor, encoder_sha256: str) -> bytes:
    """The file's bytes: a pure function of the vectors."""
    tensors = {name: part.half().cpu().contiguous() for name, part in (("image", image), ("text", text))}
    return tensors_to_bytes(tensors, {MADE_BY: encoder_sha256})


def read_vectors(
    file: Weights, encoder_sha256: str, device: torch.device, options: StoreOptions | None = None
) -> Vectors:
    """The vectors of a file. Raises `WeightsError` when other weights than `encoder_sha256` made them."""
    path = fetch_weights(file, options)
    made_by = read_metadata(path).get(MADE_BY)
    fix = "make them again: curate proxy vectors"
    if made_by is None:
        raise WeightsError(f"{file.url} is no set of vectors", fix=fix)
    if made_by != encoder_sha256:
        text = f"{file.url} was made with the weights {made_by[:12]}..., the scorer has {encoder_sha256[:12]}..."
        raise WeightsError(text, fix=fix)
    tensors = read_tensors(path, file.url)
    return Vectors(*(tensors[name].to(device).float() for name in ("image", "text")))


def similarities(vectors: Tensor, others: Tensor) -> Iterator[Tensor]:
    """Cosines of `vectors` [N, D] and `others` [R, D], some columns at a time; a row doesn't depend on the others."""
    rows = len(vectors)
    for start in range(0, len(others), COLUMNS):
        part = others[start : start + COLUMNS]
        yield (at_least(vectors, MIN_ROWS) @ part.T)[:rows] if rows else vectors @ part.T
