"""Files of reference vectors: a corpus's images and captions as one dual encoder encodes them, or cluster centres.

A file of vectors is a safetensors file of two tensors, `image` and `text`, each float16 [R, D] of unit length, row by
row a pair. A file of centres has one tensor, `centres`, float32 [K, D] of unit length, and names in its header whether
they are centres of images or of captions. Both headers have the sha256 of the encoder's weights, because vectors of two
encoders can't be compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from curation.core.errors import WeightsError
from curation.models.dual import MIN_ROWS
from curation.models.towers import pad_rows
from curation.models.weights import Weights, read_metadata, read_tensors, tensors_to_bytes

if TYPE_CHECKING:
    from curation.storage.store import StoreOptions

ENCODER_KEY = "tutelage_encoder"  # of the header: sha256 of the encoder's weights
CENTRES_KEY = "tutelage_centres_of"  # of the header of centres: image or text
COLUMNS = 1 << 16  # reference vectors in one matrix product: [N, COLUMNS] floats
BATCH = 1024  # rows in one matrix product when a whole set is compared: [BATCH, COLUMNS] floats are 256 MB


class Vectors(NamedTuple):
    """Vectors of R pairs, float32 [R, D] each, row by row a pair."""

    image: Tensor
    text: Tensor


def vectors_file(image: Tensor, text: Tensor, encoder_sha256: str) -> bytes:
    """Bytes of a file of vectors [R, D]: a pure function of the arguments."""
    tensors = {name: part.half().cpu().contiguous() for name, part in (("image", image), ("text", text))}
    return tensors_to_bytes(tensors, {ENCODER_KEY: encoder_sha256})


def read_vectors(
    file: Weights, encoder_sha256: str, device: torch.device, options: StoreOptions | None = None
) -> Vectors:
    """Read a file of vectors onto `device`.

    Raises `WeightsError` for a file of another kind, and for vectors of another encoder than `encoder_sha256`.
    """
    tensors, _ = _read(file, encoder_sha256, ("image", "text"), "curate proxy vectors", options)
    return Vectors(*(tensors[name].to(device).float() for name in ("image", "text")))


def centres_file(centres: Tensor, of: str, encoder_sha256: str) -> bytes:
    """Bytes of a file of cluster centres [K, D] of images or captions (`of`): a pure function of the arguments."""
    return tensors_to_bytes({"centres": centres.float()}, {ENCODER_KEY: encoder_sha256, CENTRES_KEY: of})


def read_centres(
    file: Weights, encoder_sha256: str, of: str, device: torch.device, options: StoreOptions | None = None
) -> Tensor:
    """Read a file of centres onto `device`, float32 [K, D].

    Raises `WeightsError` for a file of another kind, for centres of another encoder than `encoder_sha256`, and for
    centres of captions where `of` is `image`, or the reverse.
    """
    command = "curate proxy clusters"
    tensors, header = _read(file, encoder_sha256, ("centres",), command, options)
    if header[CENTRES_KEY] != of:
        text = f"{file.url} has centres of {header[CENTRES_KEY]} vectors, the scorer clusters {of} vectors"
        raise WeightsError(text, fix=f"set `of: {header[CENTRES_KEY]}`, or create other centres: {command} --of {of}")
    return tensors["centres"].to(device)


def _read(
    file: Weights, encoder_sha256: str, names: Sequence[str], command: str, options: StoreOptions | None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header of a file that `command` creates."""
    path = file.fetch(options)
    header, fix = read_metadata(path, file.url), f"create the file again: {command}"
    encoder = header.get(ENCODER_KEY)
    tensors = read_tensors(path, file.url) if encoder is not None else {}
    if encoder is None or set(tensors) != set(names):
        kind = "centres" if "centres" in names else "vectors"
        raise WeightsError(f"{file.url} is not a file of {kind}", fix=fix)
    if encoder != encoder_sha256:
        text = f"{file.url} was created with the weights {encoder[:12]}..., the scorer has {encoder_sha256[:12]}..."
        raise WeightsError(text, fix=fix)
    return tensors, header


def nearest(vectors: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Index of each vector's nearest centre (int64 [N], the lowest of equals) and its cosine (float32 [N])."""
    best = torch.full((len(vectors),), -torch.inf, device=vectors.device)
    at = torch.zeros(len(vectors), dtype=torch.int64, device=vectors.device)
    for number, part in enumerate(similarities(vectors, centres)):
        found = part.max(1)
        at = torch.where(found.values > best, found.indices + number * COLUMNS, at)
        best = torch.maximum(best, found.values)
    return at, best


def similarities(vectors: Tensor, references: Tensor) -> Iterator[Tensor]:
    """Yield the cosines of `vectors` [N, D] and `references` [R, D] as matrices [N, up to COLUMNS].

    A row does not depend on the other rows of the batch.
    """
    rows = len(vectors)
    for start in range(0, len(references), COLUMNS):
        part = references[start : start + COLUMNS]
        yield (pad_rows(vectors, MIN_ROWS) @ part.T)[:rows] if rows else vectors @ part.T
