"""The scale part: seconds a sample of gradient scoring, and seconds and memory of one question to many gradients.

Scoring: gradients of small pictures by the product's scorer and executor, for growing numbers of pictures.
Questions: `trace` over score tables of random numbers, committed as the scorer commits them, in a process of its own:
a pass over the index, one over gradients, and the files of `curate diagnose trace`. The first question to a model and
its data takes another pass, which draws the samples for the Fisher information.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
from bench.diagnosis.bars import Bar, is_quick, table

from curation.core.types import ShardRef, uid
from curation.curating.pipeline import pipeline
from curation.diagnosis.finding import find_failures
from curation.diagnosis.subject import Subject, open_subject, subject_scores
from curation.gradients import GradientSketch, class_losses
from curation.learners.classification import ClassLearner
from curation.learners.training import Training
from curation.ledger import score_tables
from curation.models.trained_classifier import load_classifier
from curation.models.weights import tensors_to_bytes
from curation.recipes.curation_recipe import parse_recipe
from curation.shards.tar_writer import TarWriter
from curation.shards.unit_reader import INDEX_SCHEMA

SCRIPT = Path(__file__).with_name("scale_ask.py")
MODEL, CLASSES, LABEL = "proxy-mu", ["left", "right"], "label"
PICTURES, SHARD = (2_000, 4_000, 16_000), 500  # pictures that are scored, and those of a shard
ROWS, UNIT = (100_000, 1_000_000), 10_000  # gradients that are asked, and those of a unit
FEWER = 250_000  # gradients where the disk is too small for a million
NUMBERS = 2_000  # of a sample's gradient, at least
QUESTIONS = {"first": "the first question", "later": "another question"}
SECONDS, MEMORY, FLAT = 60, 4e9, 1.25


def measure(seed: int) -> dict[str, float]:
    """Return the figures: `scoring|pictures|seconds`; `first` and `later|rows|seconds`, `cpu`, `bytes`; `numbers`."""
    pictures, rows = ((500, 1_000), (20_000,)) if is_quick() else (PICTURES, ROWS)
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_model(root / "model.safetensors")
        write_pictures(root / "pictures", max(pictures))
        subject = open_subject(str(root / "model.safetensors"), LABEL)
        scoring(root, subject, SHARD, "first")  # the first scoring starts processes, which later ones find
        for count in pictures:
            found[f"scoring|{count}|seconds"] = scoring(root, subject, count, f"scores-{count}")
        wide, width = widened(subject)
        found["numbers"] = width
        write_failures(root, wide)
        for count in rows:
            needed = 1.2 * 4 * width * count
            asked = count if shutil.disk_usage(folder).free > needed + 5e9 else FEWER
            for question, figures in ask(root, wide, width, asked).items():
                found |= {f"{question}|{asked}|{what}": value for what, value in figures.items()}
    return found


def write_model(path: Path) -> None:
    """Write an untrained classifier as `curate learn` writes a trained one: its gradients cost the same."""
    learner = ClassLearner(MODEL, CLASSES, Training())
    metadata = {"format": "pt", "model": MODEL, **learner.metadata()}
    path.write_bytes(tensors_to_bytes(learner.tensors(), metadata))


def write_pictures(folder: Path, count: int) -> None:
    """Write shards of labelled pictures of 64 pixels, blurred noise."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for start in range(0, count, SHARD):
        with (folder / f"{start // SHARD:05}.tar").open("wb") as file:
            writer = TarWriter(file)
            for number in range(start, start + SHARD):
                pixels = cv2.resize(random.integers(0, 256, (8, 8, 3), np.uint8), (64, 64))
                writer.add(f"{number:06}.json", json.dumps({LABEL: CLASSES[number % 2]}).encode())
                writer.add(f"{number:06}.png", cv2.imencode(".png", pixels)[1].tobytes())
                writer.add(f"{number:06}.txt", b"noise")
            writer.close()


def scoring(root: Path, subject: Subject, count: int, name: str) -> float:
    """Return the seconds that the scores of some pictures take, in a new folder of this name."""
    shards = f"{root}/pictures/{{00000..{count // SHARD - 1:05}}}.tar"
    began = time.monotonic()
    with subject_scores(subject, shards, f"{root}/{name}", gradients=True):
        seconds = time.monotonic() - began
    shutil.rmtree(root / name)
    return seconds


def widened(subject: Subject) -> tuple[Subject, int]:
    """Return the subject with sketches of at least `NUMBERS` numbers in all, and how many they have."""
    module, _ = load_classifier(MODEL, subject.weights)
    for numbers in range(subject.numbers, NUMBERS):
        width = GradientSketch(module, class_losses, numbers=numbers).width
        if width >= NUMBERS:
            return replace(subject, numbers=numbers), width
    raise ValueError(f"{MODEL} has too few weights for sketches of {NUMBERS} numbers")


def write_failures(root: Path, subject: Subject) -> None:
    """Find the failures among the first pictures, half of which are wrong by chance."""
    shards = f"{root}/pictures/00000.tar"
    with subject_scores(subject, shards, f"{root}/field", gradients=False) as scored:
        found = find_failures(subject, shards, scored)
    (root / "failures.parquet").write_bytes(found.failures.to_bytes())


def ask(root: Path, subject: Subject, width: int, rows: int) -> dict[str, dict[str, float]]:
    """Ask so many gradients twice what explains the failures; returns seconds, CPU seconds and peak bytes of each."""
    place, found = root / f"asked-{rows}", {}
    write_gradients(place, subject, width, rows)
    words = [str(root / "model.safetensors"), str(root / "failures.parquet"), str(place), str(subject.numbers)]
    env = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    for question in QUESTIONS:
        command = [sys.executable, str(SCRIPT), *words]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env)
        found[question] = json.loads(done.stdout.splitlines()[-1])
    shutil.rmtree(place)
    return found


def write_gradients(place: Path, subject: Subject, width: int, rows: int) -> None:
    """Commit the score tables of samples with random gradients, 10,000 a unit, as the scorers would."""
    (place / "corpus").mkdir(parents=True)
    for number in range(rows // UNIT):
        (place / f"corpus/{number:05}.tar").write_bytes(b"nothing reads this: all scores are there" + bytes([number]))
    scores = f"{place}/scores"
    scorers = subject.scorers(gradients=True)
    document = {"corpus": f"{place}/corpus", "output": scores, "scores": f"{scores}/scores", "scorers": scorers}
    random = np.random.default_rng(0)
    base, ends = random.normal(size=(UNIT, width)).astype(np.float32), np.arange(UNIT + 1, dtype=np.int32) * width
    guesses = pa.array([CLASSES[row % 2] for row in range(UNIT)])
    with pipeline(parse_recipe(json.dumps(document), "scorers"), dry=True) as work:
        index, *columns = work.columns
        for number in range(rows // UNIT):
            head = work.corpus.store().head(f"{number:05}.tar")
            shard = ShardRef(head.key, head.size, head.etag)
            about = index_rows(shard)
            score_tables.commit_index(work.scored, shard, index, about, None)
            gradients = pa.ListArray.from_arrays(pa.array(ends), pa.array(np.roll(base, number, 1).reshape(-1)))
            loss = pa.array(random.random(UNIT, np.float32))
            values = {
                "label": guesses, "phash": pa.array(random.integers(-(2**63), 0, UNIT)), "gradient_0": gradients,
                "prediction": pa.StructArray.from_arrays([guesses, loss], ["guess", "loss"]),
            }  # fmt: skip
            for column in columns:
                score_tables.commit_score(work.scored, shard, column, about.column("uid"), values[column.name])


def index_rows(shard: ShardRef) -> pa.Table:
    """Return the index of a unit, with uids of its own."""
    uids = [uid(shard.key, shard.etag, 1024 * row) for row in range(UNIT)]
    given = {
        "row": range(UNIT), "uid": uids, "key": [f"{row:05}" for row in range(UNIT)], "format": ["png"] * UNIT,
        "offset": [1024 * row for row in range(UNIT)], "length": [1024] * UNIT, "caption": ["noise"] * UNIT,
        "width": [64] * UNIT, "height": [64] * UNIT, "content_hash": [text[::-1] for text in uids],
    }  # fmt: skip
    columns = [pa.array(given[one.name], one.type) if one.name in given else pa.nulls(UNIT, one.type)
               for one in INDEX_SCHEMA]  # fmt: skip
    return pa.table(columns, schema=INDEX_SCHEMA)


def lines(found: Sequence[Mapping[str, float]]) -> list[str]:
    """Return the lines of the page: bars, then a table."""
    return [*table(bars(found[0])), *_costs(found[0])]


def bars(found: Mapping[str, float]) -> Iterator[Bar]:
    """Yield the bars: cost a sample is flat, and a question is answered in time and memory."""
    costs = {count: 1000 * seconds / count for count, seconds in _figures(found, "scoring", "seconds").items()}
    few, many = min(costs), max(costs)
    yield Bar(
        f"scoring: a sample of {many:,} costs at most {FLAT} times one of {few:,}",
        f"{costs[many]:.2f} ms against {costs[few]:.2f}", costs[many] <= FLAT * costs[few],
    )  # fmt: skip
    for question, what in QUESTIONS.items():
        seconds, peaks = (_figures(found, question, one) for one in ("seconds", "bytes"))
        rows = max(seconds)
        title = f"{what} to {rows:,} samples of {found['numbers']:,.0f} numbers"
        yield Bar(f"{title}: under {SECONDS} s", f"{seconds[rows]:.0f} s", seconds[rows] < SECONDS)
        yield Bar(f"{title}: under {MEMORY / 1e9:.0f} GB", f"{peaks[rows] / 1e9:.2f} GB", peaks[rows] < MEMORY)


def _costs(found: Mapping[str, float]) -> Iterator[str]:
    yield "| step | samples | seconds | ms a sample | CPU seconds | peak of memory |"
    yield "|---|---:|---:|---:|---:|---:|"
    for count, seconds in _figures(found, "scoring", "seconds").items():
        yield f"| score gradients, with start | {count:,} | {seconds:.1f} | {1000 * seconds / count:.2f} | | |"
    for question, what in QUESTIONS.items():
        cpu, peaks = (_figures(found, question, one) for one in ("cpu", "bytes"))
        for count, seconds in _figures(found, question, "seconds").items():
            costs = f"{seconds:.1f} | {1000 * seconds / count:.3f} | {cpu[count]:.1f} | {peaks[count] / 1e9:.2f} GB"
            yield f"| {what}, with start | {count:,} | {costs} |"
    yield ""


def _figures(found: Mapping[str, float], step: str, what: str) -> dict[int, float]:
    keys = [key.split("|") for key in found]
    return {int(key[1]): found["|".join(key)] for key in keys if key[0] == step and key[2] == what}
