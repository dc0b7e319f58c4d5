"""Planted wrong labels: an exact share, by a confusion that is checked by hand, the same for equal seeds."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from builders import picture

from curation.core.errors import UserError
from curation.core.types import uid
from curation.corpora.label_noise import (
    TRUTH,
    Planted,
    caption_confusion,
    confusion_table,
    plant_wrong_labels,
    wrong_labels,
)
from curation.corpora.relabelled_shards import FIELD
from curation.shards.tar_samples import read_samples
from curation.shards.tar_writer import TarWriter
from curation.storage.store import open_store

CAPTIONS = {"cat": "a small animal", "dog": "a small animal", "car": "red wheels"}


def test_a_confusion_checked_by_hand() -> None:
    """Here a = (x 1, y 1), b = (x 1), c = (y 2, z 2), s(a, b) = 1/sqrt 2, s(a, c) = 2/(sqrt 2 sqrt 8), s(b, c) 0."""
    found = caption_confusion(["a", "b", "c"], ["x Y", "X", "y y z z"], ["a", "b", "c"], 0.3)
    ab, ac = 1 / np.sqrt(2), 0.5
    expected = [
        [0.7, 0.3 * ab / (ab + ac), 0.3 * ac / (ab + ac)],
        [0.3, 0.7, 0.0],
        [0.3, 0.0, 0.7],
    ]
    assert found == pytest.approx(np.array(expected)) and found.sum(axis=1) == pytest.approx(1)


def test_a_class_like_no_other_is_mixed_up_with_each() -> None:
    found = caption_confusion(["a", "b", "c"], ["x", "x", "z"], ["a", "b", "c"], 0.2)
    assert found[2] == pytest.approx([0.1, 0.1, 0.8]) and found[0] == pytest.approx([0.8, 0.2, 0.0])
    with pytest.raises(ValueError, match="share is 1"):
        caption_confusion(["a", "b"], ["x", "x"], ["a", "b"], 1.0)


@pytest.mark.parametrize("share", [0.0, 0.15, 0.5])
def test_the_share_is_exact_and_the_draw_follows_the_confusion(share: float) -> None:
    keys, classes = [f"k{n}" for n in range(4000)], ["a", "b", "c"]
    labels = ["a"] * 4000
    confusion = np.array([[1 - share, 0.75 * share, 0.25 * share], [share, 1 - share, 0], [share, 0, 1 - share]])
    found = wrong_labels(keys, labels, classes, confusion, share, 0)
    counts = Counter(found)
    assert 4000 - counts["a"] == round(share * 4000)
    if share:
        assert counts["b"] / (counts["b"] + counts["c"]) == pytest.approx(0.75, abs=0.04)
        assert found == wrong_labels(keys, labels, classes, confusion, share, 0)
        assert found != wrong_labels(keys, labels, classes, confusion, share, 1)
        order = np.random.default_rng(0).permutation(4000)
        moved = wrong_labels([keys[n] for n in order], labels, classes, confusion, share, 0)
        assert [found[n] for n in order] == moved, "whatever the order of the samples"


def write(folder: Path, n: int = 30) -> None:
    """Two shards; every tenth sample has no label."""
    folder.mkdir()
    for shard in range(2):
        file = io.BytesIO()
        writer = TarWriter(file)
        for i in range(shard * n // 2, (shard + 1) * n // 2):
            name = list(CAPTIONS)[i % 3]
            fields = {"extra": i} if i % 10 == 9 else {"kind": name, "extra": i}
            writer.add(f"{i:04d}.json", json.dumps(fields).encode())
            writer.add(f"{i:04d}.png", picture(i, "png", 16))
            writer.add(f"{i:04d}.txt", CAPTIONS[name].encode())
        writer.close()
        (folder / f"{shard:05d}.tar").write_bytes(file.getvalue())


def planted(root: Path, name: str, **more: object) -> Planted:
    source, target = open_store(str(root / "in")), open_store(str(root / name))
    return plant_wrong_labels(source, target, label="kind", share=0.2, **more)  # type: ignore[arg-type]


def test_a_corpus_keeps_everything_but_gets_labels(tmp_path: Path) -> None:
    write(tmp_path / "in")
    found = planted(tmp_path, "out")
    assert (found.samples, found.changed, found.classes) == (27, round(0.2 * 27), ["car", "cat", "dog"])
    truth = {row["uid"]: row for row in pq.read_table(tmp_path / "out" / TRUTH).to_pylist()}
    store, seen = open_store(str(tmp_path / "out")), 0
    for key in ("00000.tar", "00001.tar"):
        data = store.get(key)
        for sample in read_samples(iter([data]), len(data)):
            parts = {part.extension: part.data for part in sample.parts}
            fields, row = json.loads(parts["json"]), truth[uid(key, store.head(key).etag, sample.start)]
            assert fields["kind"] == row["label"] and fields[FIELD] == row["given"]
            assert parts["txt"].decode() == CAPTIONS[fields["kind"]] and parts["png"] == picture(
                fields["extra"], "png", 16
            )
            seen += 1
    assert seen == len(truth) == 27
    assert sum(row["label"] != row["given"] for row in truth.values()) == found.changed
    assert {row["given"] for row in truth.values() if row["label"] == "cat" != row["given"]} <= {"dog"}, (
        "alike captions"
    )


def test_equal_arguments_give_equal_bytes(tmp_path: Path) -> None:
    write(tmp_path / "in")
    for name, more in (("a", {}), ("b", {}), ("c", {"seed": 1}), ("d", {"limit": 10})):
        found = planted(tmp_path, name, **more)
        assert found.samples == (10 if name == "d" else 27)
    texts = [(tmp_path / name / "00000.tar").read_bytes() for name in ("a", "b", "c")]
    assert texts[0] == texts[1] != texts[2]
    assert pq.read_table(tmp_path / "d" / TRUTH).num_rows == 10 and not (tmp_path / "d/00001.tar").exists()


def test_labels_that_are_none(tmp_path: Path) -> None:
    write(tmp_path / "in")
    with pytest.raises(UserError, match="0 different labels in `name`"):
        plant_wrong_labels(open_store(str(tmp_path / "in")), open_store(str(tmp_path / "out")), label="name", share=0.2)


def test_the_table_that_annotators_read() -> None:
    table = confusion_table(["a", "b"], np.array([[0.9, 0.1], [0.2, 0.8]]))
    assert table.to_pylist() == [{"label": "a", "a": 0.9, "b": 0.1}, {"label": "b", "a": 0.2, "b": 0.8}]
