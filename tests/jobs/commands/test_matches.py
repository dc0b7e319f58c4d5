"""Decontamination end to end: an evaluation set as a snapshot, a pool with planted copies of it, the report."""

from __future__ import annotations

import json
from pathlib import Path
from string import ascii_lowercase

import click
import cv2
import numpy as np
import pytest
from builders import picture, write_recipe, write_weights
from click.testing import CliRunner
from running import curate

import curation as cu
from curation.core.errors import RecipeError, UserError
from curation.shards.tar_writer import TarWriter
from jobs.commands.matches import matches
from jobs.commands.verify import problems_of
from jobs.commands.what_if import what_if

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("inline")]


def write(path: Path, images: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        writer = TarWriter(file)
        for key, image in images.items():
            writer.add(f"{key}.jpg", image)
            writer.add(f"{key}.txt", f"a picture called {key}".encode())
        writer.close()


def smaller(image: bytes) -> bytes:
    pixels = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
    return cv2.imencode(".jpg", cv2.resize(pixels, None, fx=0.8, fy=0.8), [cv2.IMWRITE_JPEG_QUALITY, 70])[1].tobytes()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, inline: None) -> Path:
    """Pool and evaluation set, the latter curated: 5 of its 20 pictures are in the pool as they are, 5 re-encoded."""
    root = tmp_path_factory.mktemp("matches")
    held_out = {f"eval{n}": picture(n, "jpg") for n in range(20)}
    pool = {f"new{n}": picture(1000 + n, "jpg") for n in range(30)}
    pool |= {f"copy{n}": held_out[f"eval{n}"] for n in range(5)}
    pool |= {f"smaller{n}": smaller(held_out[f"eval{n}"]) for n in range(5, 10)}
    write(root / "eval" / "0.tar", held_out)
    write(root / "pool" / "0.tar", pool)
    sha = write_weights(root / "w.safetensors")
    for name in ("eval", "pool"):
        scorers = [
            {"phash": {}},
            {"embedding": {"model": "proxy-mu", "weights": f"{root}/w.safetensors", "sha256": sha}},
        ]
        filters = [{"decontaminate": {"against": f"{root}/out-eval", "hash": "phash", "distance": 6}}]
        write_recipe(
            root / f"{name}.yaml", f"{root}/{name}", f"{root}/out-{name}", "", "",
            scorers=scorers, filters=filters if name == "pool" else [],
        )  # fmt: skip
    for name in ("eval", "pool"):
        curate(root / f"{name}.yaml")
    return root


def invoke(command: click.Command, *arguments: str) -> str:
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_copies_leave_and_the_report_pairs_them(home: Path, tmp_path: Path) -> None:
    made = cu.open(f"{home}/out-pool")
    assert made.document["samples"]["filtered"] == {"decontaminate.exact": 5, "decontaminate.perceptual": 5}
    assert made.document["against"] == {f"{home}/out-eval": 1}
    found = json.loads(invoke(matches, f"{home}/out-pool", "--json", "--html", str(tmp_path / "m.html")))
    assert found["total"] == len({match["uid"] for match in found["matches"]}) + 5  # exact are near too
    some = json.loads(invoke(matches, f"{home}/out-pool", "--json", "--limit", "7"))
    assert some["matches"] == found["matches"][:7], "first those that a limit decides about"
    assert [match["how"] for match in some["matches"]].count("exact") == max(0, 7 - (found["total"] - 5))
    keys = {}
    for name in ("eval", "pool"):
        rows = cu.open(f"{home}/out-{name}").manifest.to_arrow(["uid", "key"]).to_pylist()
        keys |= {row["uid"]: row["key"] for row in rows}
    for match in found["matches"]:
        assert keys[match["other"]].removeprefix("eval") == keys[match["uid"]].strip(ascii_lowercase)
    page = (tmp_path / "m.html").read_text()
    assert page.count("<img") == 2 * found["total"] and "a picture called eval7" in page
    (home / "eval").rename(home / "away")
    invoke(matches, f"{home}/out-pool", "--html", str(tmp_path / "m.html"))
    (home / "away").rename(home / "eval")
    page = (tmp_path / "m.html").read_text()
    assert page.count("<img") == page.count("(source deleted or changed: ") == found["total"]


def test_it_is_verified_against_the_snapshot_it_was_compared_with(home: Path) -> None:
    """The pinned snapshot is read, since the evaluation set's latest one changes."""
    before = home / "before"
    recipe = home / "pool.yaml"
    curate(recipe, f"output={before}", f"scores={home}/out-pool/scores")
    curate(home / "eval.yaml", "drop=" + _drop_all_but_one(home))
    made = cu.open(str(before))
    assert list(problems_of(made)) == []
    again = curate(recipe, f"output={before}", f"scores={home}/out-pool/scores").snapshot.document
    assert again["snapshot"] == 2, "another evaluation set is another decision"
    assert sum(again["samples"]["filtered"].values()) <= 1
    assert list(problems_of(cu.open(f"{before}@1"))) == []


def _drop_all_but_one(home: Path) -> str:
    uids = cu.open(f"{home}/out-eval@1").manifest.to_arrow(["uid"]).column("uid").to_pylist()
    (home / "drop.txt").write_text("\n".join(uids[1:]))
    return str(home / "drop.txt")


def test_by_embeddings_and_what_if(home: Path) -> None:
    one = f"filters=[{{decontaminate: {{against: {home}/out-eval@1, embedding: embedding, threshold: 0.9999}}}}]"
    (answer,) = json.loads(invoke(what_if, str(home / "pool.yaml"), "--set", one, "--json"))["answers"]
    assert answer["samples"]["filtered"]["decontaminate.exact"] == 5


def test_a_column_made_otherwise_is_one_line(home: Path, tmp_path: Path) -> None:
    sha = write_weights(tmp_path / "other.safetensors", seed=1)
    change = f"scorers=[{{embedding: {{model: proxy-mu, weights: {tmp_path}/other.safetensors, sha256: {sha}}}}}]"
    one = f"filters=[{{decontaminate: {{against: {home}/out-eval@1, embedding: embedding}}}}]"
    with pytest.raises(RecipeError, match="no column made as embedding is"):
        curate(home / "pool.yaml", change, one, f"output={tmp_path}/out", f"scores={tmp_path}/scores")
    assert not (tmp_path / "scores").exists()  # nothing was scored for it


def test_a_snapshot_that_was_compared_with_none_says_so(home: Path) -> None:
    with pytest.raises(UserError, match="compared with no other"):
        invoke(matches, f"{home}/out-eval@1")
