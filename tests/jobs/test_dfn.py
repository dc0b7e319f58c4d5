"""`curate proxy train --objective dfn`: ranks matching pairs above swapped ones where the pool teaches little."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from curation.models import Weights
from curation.models.dual import load_dual_encoder
from curation.shards.tar_writer import TarWriter
from jobs.commands.proxy import proxy

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 30), "blue": (40, 40, 220), "yellow": (230, 220, 40)}
PLACES = {"top": (32, 16), "bottom": (32, 48), "left": (16, 32), "right": (48, 32)}
KINDS = [(colour, place) for colour in COLOURS for place in PLACES]


def picture(seed: int) -> tuple[np.ndarray[Any, Any], str]:
    """A disc of a colour at a side of a picture, and what one would say of it."""
    generator = np.random.default_rng(seed)
    colour, place = KINDS[int(generator.integers(len(KINDS)))]
    pixels = np.full((64, 64, 3), generator.integers(0, 255, 3), np.uint8)
    cv2.circle(pixels, PLACES[place], int(generator.integers(8, 15)), COLOURS[colour], -1)
    return pixels, f"a {colour} disc at the {place}"


def write(root: Path, seeds: range, swapped: float) -> str:
    """A shard of pictures; a share of them with the caption of another one."""
    root.mkdir()
    with (root / "00000.tar").open("wb") as file:
        writer = TarWriter(file)
        for place, seed in enumerate(seeds):
            other = seed if place >= swapped * len(seeds) else 10**6 + seed
            writer.add(f"{seed:06d}.png", cv2.imencode(".png", picture(seed)[0][..., ::-1])[1].tobytes())
            writer.add(f"{seed:06d}.txt", picture(other)[1].encode())
        writer.close()
    return str(root)


def train(out: Path, *arguments: str) -> dict[str, Any]:
    options = ["--model", "proxy-mu", "--batch", "32", "--threads", "1", "--device", "cpu", "--holdout", "0", "--json"]
    result = CliRunner().invoke(proxy, ["train", "--out", str(out), *options, *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    card: dict[str, Any] = json.loads(result.stdout)
    return card


def auc(card: dict[str, Any]) -> float:
    """The share of cases in which a matching pair scores above a pair that doesn't match."""
    encoder = load_dual_encoder("proxy-mu", Weights(card["weights"], card["sha256"]))
    pixels, captions = zip(*(picture(seed) for seed in range(5000, 5200)), strict=True)
    image, texts = encoder.image(np.stack(pixels)), encoder.text(captions)
    own = torch.tensor([captions[row] == other for row in range(200) for other in captions]).view(200, 200)
    scores = image @ texts.T
    return float((scores[own][:, None] > scores[~own][None, ::17]).float().mean())


@pytest.mark.slow
def test_it_filters_better_than_a_clip_of_the_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    trusted, pool = write(tmp_path / "trusted", range(100), 0), write(tmp_path / "pool", range(1000, 1400), 0.8)
    plain = train(tmp_path / "plain", "--data", pool, "--steps", "120")
    arguments = ("--objective", "dfn", "--data", trusted, "--pool", pool, "--steps", "120")
    dfn = train(tmp_path / "dfn", *arguments)
    assert auc(dfn) > auc(plain) + 0.1
    assert (dfn["data"], dfn["pool"], "pool" in plain) == (trusted, pool, False)
    readme = (tmp_path / "dfn" / "README.md").read_text()
    assert f"- dfn: {{model: proxy-mu, weights: {dfn['weights']}" in readme and f"half of each batch: {pool}" in readme
    assert train(tmp_path / "dfn", *arguments)["reused"]


@pytest.mark.parametrize("given", [("--objective", "dfn"), ("--pool", "somewhere")])
def test_dfn_and_pool_go_together(given: tuple[str, str], tmp_path: Path) -> None:
    result = CliRunner().invoke(proxy, ["train", "--data", str(tmp_path), "--out", str(tmp_path), *given])
    assert result.exit_code == 2 and "--objective dfn requires --pool" in result.output
