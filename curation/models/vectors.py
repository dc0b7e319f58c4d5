"""Sets of vectors that scores are measured against: the images and captions of a corpus, through one dual encoder.

A safetensors file of two tensors, `image` and `text`, each float16 [R, D] of unit length, row by row a pair; or of one,
`centres`, float32 [K, D] of unit length, whose header says of what they are. Both headers name the sha256 of the
weights that made them, since vectors of two encoders can't be compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from curation.core.errors import WeightsError
from curation.models.dual import MIN_ROWS, at_least
from curation.models.weights import Weights, fetch_weights, read_metadata, read_tensors, tensors_to_bytes

if TYPE_CHECKING:
    from curation.storage.store import StoreOptions

MADE_BY = "tutelage_encoder"  # key of the header: sha256 of the encoder's weights
CENTRES_OF = "tutelage_centres_of"  # key of the header of centres: image or text
COLUMNS = 1 << 16  # vectors compared at once: [N, COLUMNS] floats
BATCH = 1024  # rows at a time of who compares a whole set: [BATCH, COLUMNS] floats are 256 MB


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
    tensors, _ = _read(file, encoder_sha256, ("image", "text"), "curate proxy vectors", options)
    return Vectors(*(tensors[name].to(device).float() for name in ("image", "text")))


def centres_file(centres: Tensor, of: str, encoder_sha256: str) -> bytes:
    """The file of cluster centres of images or of captions (`of`): a pure function of them."""
    return tensors_to_bytes({"centres": centres.float()}, {MADE_BY: encoder_sha256, CENTRES_OF: of})


def read_centres(
    file: Weights, encoder_sha256: str, of: str, device: torch.device, options: StoreOptions | None = None
) -> Tensor:
    """The centres of a file, float32 [K, D]. Raises `WeightsError` when they are of something else or other weights."""
    command = "curate proxy clusters"
    tensors, header = _read(file, encoder_sha256, ("centres",), command, options)
    if header[CENTRES_OF] != of:
        text = f"{file.url} has centres of {header[CENTRES_OF]} vectors, the scorer clusters {of} vectors"
        raise WeightsError(text, fix=f"of: {header[CENTRES_OF]}, or other centres: {command} --of {of}")
    return tensors["centres"].to(device)


def _read(
    file: Weights, encoder_sha256: str, names: Sequence[str], command: str, options: StoreOptions | None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the header of a file that `command` makes."""
    path = fetch_weights(file, options)
    header, fix = read_metadata(path, file.url), f"make them again: {command}"
    made_by = header.get(MADE_BY)
    tensors = read_tensors(path, file.url) if made_by is not None else {}
    if made_by is None or set(tensors) != set(names):
        raise WeightsError(f"{file.url} is no set of {'centres' if 'centres' in names else 'vectors'}", fix=fix)
    if made_by != encoder_sha256:
        text = f"{file.url} was made with the weights {made_by[:12]}..., the scorer has {encoder_sha256[:12]}..."
        raise WeightsError(text, fix=fix)
    return tensors, header


def nearest(vectors: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """The centre nearest to each vector (int64 [N], the first of equals) and its cosine (float32 [N])."""
    best = torch.full((len(vectors),), -torch.inf, device=vectors.device)
    at = torch.zeros(len(vectors), dtype=torch.int64, device=vectors.device)
    for number, part in enumerate(similarities(vectors, centres)):
        found = part.max(1)
        at = torch.where(found.values > best, found.indices + number * COLUMNS, at)
        best = torch.maximum(best, found.values)
    return at, best


def similarities(vectors: Tensor, others: Tensor) -> Iterator[Tensor]:
    """Cosines of `vectors` [N, D] and `others` [R, D], some columns at a time; a row doesn't depend on the others."""
    rows = len(vectors)
    for start in range(0, len(others), COLUMNS):
        part = others[start : start + COLUMNS]
        yield (at_least(vectors, MIN_ROWS) @ part.T)[:rows] if rows else vectors @ part.T
