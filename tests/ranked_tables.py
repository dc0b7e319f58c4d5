"""Score tables of many labelled samples without models: what `curate review build` ranks.

Each shard is the same tar under another name (a link), so that a million samples take the disk of ten thousand. The
scores are random numbers.

python tests/ranked_tables.py RECIPE OUT     build a queue of 100 items, and print this process' peak of memory
"""

from __future__ import annotations

import io
import json
import os
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 10_000  # of a shard
CLASSES = [f"class{n}" for n in range(10)]


def write_tables(root: Path, shards: int) -> Path:
    """Write shards, and their index and scores; return a recipe that ranks them. 0.2 CPU seconds a shard."""
    from curation.core.types import ShardRef
    from curation.curating.pipeline import pipeline
    from curation.ledger import score_tables
    from curation.recipes.curation_recipe import load_recipe

    places = _write_corpus(root / "corpus", shards)
    recipe = _write_recipe(root)
    random = np.random.default_rng(0)
    with pipeline(load_recipe(str(recipe), ()), dry=True) as work:
        index, *columns = work.columns
        for number in range(shards):
            head = work.corpus.store().head(f"{number:05d}.tar")
            shard = ShardRef(head.key, head.size, head.etag)
            rows = _index(shard, places)
            score_tables.commit_index(work.scored, shard, index, rows, None)
            lists = pa.array(random.dirichlet(np.ones(10), ROWS).astype(np.float32).reshape(-1))
            posterior = pa.ListArray.from_arrays(pa.array(np.arange(ROWS + 1) * 10, pa.int32()), lists)
            for column in columns:
                drawn = pa.array(random.random(ROWS).astype(np.float32))
                values = posterior if column.name == "label_posterior" else drawn
                score_tables.commit_score(work.scored, shard, column, rows.column("uid"), values)
    return recipe


def _write_corpus(folder: Path, shards: int) -> list[tuple[int, int]]:
    """Write the shards; return offset and length of the samples of each."""
    from builders import picture

    from curation.shards.tar_samples import read_samples
    from curation.shards.tar_writer import TarWriter

    folder.mkdir(parents=True)
    file = io.BytesIO()
    writer = TarWriter(file)
    image = picture(1, "png", 16)
    for n in range(ROWS):
        writer.add(f"{n:05d}.json", json.dumps({"label": CLASSES[n % 10]}).encode())
        writer.add(f"{n:05d}.png", image)
        writer.add(f"{n:05d}.txt", b"a thing")
    writer.close()
    data = file.getvalue()
    (folder / "00000.tar").write_bytes(data)
    for number in range(1, shards):
        os.link(folder / "00000.tar", folder / f"{number:05d}.tar")
    return [(one.start, one.stop - one.start) for one in read_samples(iter([data]), len(data))]


def _write_recipe(root: Path) -> Path:
    table = root / "probabilities.parquet"
    pq.write_table(pa.table({"uid": ["none"], "probabilities": [[0.1] * 10]}), table)
    source = {"probabilities": str(table), "sha256": sha256(table.read_bytes()).hexdigest(), "classes": CLASSES}
    document = {
        "corpus": str(root / "corpus"), "output": str(root / "out"), "scores": str(root / "scores"),
        "scorers": [
            {"label_error": {**source, "label": "label"}}, {"label_ambiguity": source}, {"label_posterior": source},
        ],
        "filters": [{"doubtful_labels": {"by": "active", "count": 100}}],
    }  # fmt: skip
    (root / "recipe.yaml").write_text(json.dumps(document))  # JSON is YAML
    return root / "recipe.yaml"


def _index(shard: object, places: list[tuple[int, int]]) -> pa.Table:
    """Return the index of a shard's samples, with captions and content hashes of their own."""
    from curation.core.types import uid
    from curation.shards.unit_reader import INDEX_SCHEMA

    key, etag = shard.key, shard.etag  # type: ignore[attr-defined]
    uids = [uid(key, etag, offset) for offset, _ in places]
    given = {
        "row": range(ROWS), "uid": uids, "key": [f"{n:05d}" for n in range(ROWS)], "format": ["png"] * ROWS,
        "offset": [offset for offset, _ in places], "length": [length for _, length in places],
        "caption": [f"thing {n} of {key}" for n in range(ROWS)], "width": [16] * ROWS, "height": [16] * ROWS,
        "content_hash": [text[::-1] for text in uids],
    }  # fmt: skip
    columns = [pa.array(given[f.name], f.type) if f.name in given else pa.nulls(ROWS, f.type) for f in INDEX_SCHEMA]
    return pa.table(columns, schema=INDEX_SCHEMA)


def main(recipe: str, out: str) -> None:
    from memory_peaks import peak

    from jobs.cli import _main

    assert _main(["review", "build", recipe, "--budget", "100", "--label", "label", "--out", out]) == 0
    print(peak())


if __name__ == "__main__":
    main(*sys.argv[1:])
