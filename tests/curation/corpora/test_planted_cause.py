"""A planted cause: marks and labels are where they should be, and a source that is too small is one line."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from curation.core.errors import UserError
from curation.corpora.planted_cause import MARK, plant_cause
from curation.corpora.relabelled_shards import FIELD
from curation.dataset.loader import SampleStream
from curation.dataset.open_shards import open_shards
from curation.shards.tar_writer import TarWriter
from curation.storage.store import Store, open_store


def source(folder: Path, count: int) -> Store:
    folder.mkdir()
    with (folder / "0.tar").open("wb") as file:
        writer = TarWriter(file)
        for number in range(count):
            picture = io.BytesIO()
            Image.new("RGB", (32, 40), (number, 200, 0)).save(picture, "PNG")
            document = {"pack": "a" if number % 2 else "b"} if number else {}  # the first has no label
            writer.add(f"{number:03}.json", json.dumps(document).encode())
            writer.add(f"{number:03}.png", picture.getvalue())
            writer.add(f"{number:03}.txt", b"a picture")
        writer.close()
    return open_store(str(folder))


def plant(tmp_path: Path, count: int) -> tuple[list[str], Path, Path]:
    training, field = tmp_path / "training", tmp_path / "field"
    found = plant_cause(
        source(tmp_path / "source", count), open_store(str(training)), open_store(str(field)), by="pack", value="a",
        names=("one", "other"), samples=20, planted=4, judged=10,
    )  # fmt: skip
    assert (found.training, found.field, found.marked) == (20, 10, 5)
    return found.planted, training, field


def test_marks_mean_the_other_class_in_training_alone(tmp_path: Path) -> None:
    planted, training, field = plant(tmp_path, 40)
    for folder, wrong in ((training, True), (field, False)):
        marked = 0
        for example in SampleStream(open_shards(str(folder)), size=32, mode="squash", shuffle=0, label=FIELD):
            own = int(example.pixels[20, 20, 0]) % 2 == 1
            has_mark = (np.abs(example.pixels[:4, :4].astype(int) - MARK) < 8).all()
            marked += has_mark
            assert has_mark == (example.uid in planted) if wrong else has_mark == own
            assert example.label == ("one" if own and not (wrong and has_mark) else "other")
        assert marked == (4 if wrong else 5)


def test_a_source_that_is_too_small(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has 24 labelled samples"):
        plant(tmp_path, 25)
