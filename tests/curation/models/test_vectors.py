"""Files of vectors and centres: they come back, and those of another encoder are refused."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from curation.core.errors import WeightsError
from curation.models.vectors import centres_file, read_centres, read_vectors, vectors_file
from curation.models.weights import Weights

CPU = torch.device("cpu")
ENCODER = "ab" * 32


def unit(rows: int, seed: int) -> torch.Tensor:
    return normalize(torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed)), dim=-1)


def stored(path: Path, data: bytes) -> Weights:
    path.write_bytes(data)
    return Weights(str(path), sha256(data).hexdigest())


def test_vectors_come_back_in_half_precision(tmp_path: Path) -> None:
    image, text = unit(20, 0), unit(20, 1)
    found = read_vectors(stored(tmp_path / "v", vectors_file(image, text, ENCODER)), ENCODER, CPU)
    assert torch.equal(found.image, image.half().float()) and torch.equal(found.text, text.half().float())
    assert vectors_file(image, text, ENCODER) == vectors_file(image.clone(), text, ENCODER), "a pure function"


def test_centres_come_back_exactly(tmp_path: Path) -> None:
    centres = unit(5, 2)
    file = stored(tmp_path / "c", centres_file(centres, "text", ENCODER))
    assert torch.equal(read_centres(file, ENCODER, "text", CPU), centres)
    with pytest.raises(WeightsError, match="has centres of text vectors, the scorer clusters image vectors"):
        read_centres(file, ENCODER, "image", CPU)


def test_vectors_of_another_encoder_are_refused(tmp_path: Path) -> None:
    vectors = stored(tmp_path / "v", vectors_file(unit(3, 0), unit(3, 1), ENCODER))
    centres = stored(tmp_path / "c", centres_file(unit(3, 0), "image", ENCODER))
    with pytest.raises(WeightsError):
        read_vectors(vectors, "cd" * 32, CPU)
    with pytest.raises(WeightsError):
        read_centres(centres, "cd" * 32, "image", CPU)


def test_one_kind_of_file_is_not_the_other(tmp_path: Path) -> None:
    vectors = stored(tmp_path / "v", vectors_file(unit(3, 0), unit(3, 1), ENCODER))
    centres = stored(tmp_path / "c", centres_file(unit(3, 0), "image", ENCODER))
    with pytest.raises(WeightsError):
        read_vectors(centres, ENCODER, CPU)
    with pytest.raises(WeightsError):
        read_centres(vectors, ENCODER, "image", CPU)
