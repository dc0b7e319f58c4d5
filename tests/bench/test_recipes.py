"""The bench of recipes in small: what is planted is what is written, and each of its steps on made-up pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bench import planted, recipes
from bench.online import data

from curation.dataset.loader import SampleStream
from curation.dataset.open_shards import open_shards
from curation.models.batches import Examples


def examples(count: int, source: str, side: int = 64) -> Examples:
    """Smooth pictures, no two alike, a name each."""
    import cv2

    generator = np.random.default_rng(sum(source.encode()))
    small = generator.integers(0, 255, (count, 8, 8, 3), np.uint8)
    pixels = np.stack([cv2.resize(one, (side, side), interpolation=cv2.INTER_CUBIC) for one in small])
    names = [f"thing {row} of {source}" for row in range(count)]
    return Examples(pixels, names, [f"{source}:{row}" for row in range(count)], names)


@pytest.mark.slow
def test_what_is_planted(tmp_path: Path) -> None:
    pool = examples(60, "pool")
    truth = planted.write_pool(pool, planted.Counts(5, 6, 5, 0.2), tmp_path).to_pylist()
    kinds = [row["kind"] for row in truth]
    assert [kinds.count(kind) for kind in planted.KINDS] == [5, 6, 5, 12] and len(truth) == 60 + 16
    assert planted.write_pool(pool, planted.Counts(5, 6, 5, 0.2), tmp_path).to_pylist() == truth
    read = {example.caption: example for example in SampleStream(open_shards(str(tmp_path)), size=64, shuffle=0)}
    assert len(read) == 60, "captions only change places"
    copies = {row["key"] for row in truth if row["original"]}
    originals = {row["original"] for row in truth if row["original"]}
    assert {row["key"] for row in truth if row["same"]} == originals | copies and len(originals) == len(copies) == 16
    assert not originals & {row["key"] for row in truth if row["kind"] == "recaptioned"}


def test_keys_fit_a_tar_and_differ() -> None:
    long = "set:" + "person-" * 20
    keys = {planted.key_of(name) for name in ("set:a.b", "set:a", long, long + "x")}
    assert len(keys) == 4 and all(key.isascii() and "." not in key and len(key) <= 80 for key in keys)


def test_an_unknown_recipe_is_an_error_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="unknown recipe 'nonsense'; recipes: no filter; exact"):
        recipes.main(["--recipes", "no filter; nonsense", "--folder", str(tmp_path)])
    assert not list(tmp_path.iterdir())


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    "more", [(), pytest.param(("near duplicates", "decontaminated", "soft-cap sampling, DFN"), marks=pytest.mark.soak)]
)
def test_recipes_are_run_once_and_reported(
    more: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workload = data.Workload(examples(160, "pool"), examples(40, "trusted"), examples(30, "test"))
    monkeypatch.setattr(data, "load", lambda name, held_out, folder: workload)
    names = ("no filter", "exact duplicates", *more)
    small = "--pool 160 --model proxy-mu --steps 2 --batch 16 --seeds 2 --jobs 1 --no-record"
    small += " --proxy-steps 2 --proxy-batch 16"
    options = ["--recipes", ";".join(names), "--folder", str(tmp_path), *small.split()]
    text = recipes.main(options)
    rows = {line.split(" | ")[0][2:]: line.strip("| ").split(" | ") for line in text.splitlines() if line[:2] == "| "}
    assert rows["no filter"][1] == "220" and rows["no filter"][7:] == ["0.0%", "0.0%", "0.0%", "0.0%", "-", "-"]
    exact = rows["exact duplicates"]
    assert exact[1] == "180" and exact[7] == "100.0%" and exact[11] == "100.0%"
    assert not more or float(rows["near duplicates"][8].rstrip("%")) > 60
    assert "Not shown to be: " in text
    assert recipes.main(options) == text
    with pytest.raises(SystemExit, match="no recipe keeps a batch: 220 samples at most, and --batch is 9,999"):
        recipes.main([*options, "--batch", "9999", "--recipes", "no filter"])
