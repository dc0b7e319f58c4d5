"""`make bench-filters`: how the time and the memory of each filter grow with the number of rows.

    python tests/bench/filters.py [--rows 1000000,10000000] [--only NAME,NAME]

Each measurement is a process of its own: SQL makes the columns that the filter reads (words of captions and clusters as
skewed as in real corpora, a tenth of copies) in a decision engine with the default memory of 2 GB; then the filter
decides. Seconds are the filter's alone: wall time, and CPU time of all threads, which busy neighbours change little.
Memory is the peak of the process. Bars: ten times the rows take at most 12 times the CPU, and memory stays below 4 GB.
A measurement of less than SHORT seconds is taken three times and the median reported: otherwise a little other work on
the machine would change the growth by a tenth.

`what-if` is the first answer over cached columns, with everything that it computes beforehand: below 5 s and 2 GB at
the larger size. Loading the columns from score tables on local disk, which the first command does for all, is reported
beside it, as is a second answer. `decontaminate` compares the rows with evaluation sets of 100,000 samples,
`decontaminate as many` with as many samples as there are rows: ten times the rows are then a hundred times the pairs.

A run of all filters at the default sizes replaces the figures of docs/results/filters.md. Takes half an hour and more
on two busy cores.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the commands do
HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE.parent), str(ROOT)]

from bench.lists import listed, write_list  # noqa: E402
from bench.record import facts, write  # noqa: E402

ROWS = "1000000,10000000"
SHORT = 2.0  # seconds of CPU
GROWTH, MEMORY = 12.0, 4.0  # the bars: times as long for ten times the rows; GB
EVALUATED, AS_MANY = 100_000, "as many"  # samples of compared snapshots: evaluation sets, or as many as there are rows
WHAT_IF, ASK_SECONDS, ASK_MEMORY = "what-if", 5.0, 2.0  # one answer over the larger number of rows
ASKED = {"image_size": {"min_side": 200}, "top_fraction": {"score": "score", "fraction": 0.3}}


def _chance(salt: int) -> str:
    """SQL of a number in [0, 1) that depends on the row's number."""
    return f"(hash(i * 64 + {salt}) % 1000003 / 1000003)"


def _word(number: str) -> str:
    """SQL of one of 200,000 words, some much more frequent than others, chosen by `number`."""
    return f"'w' || (200000 * pow(hash({number}) % 1000003 / 1000003, 3))::INTEGER"


def _run(number: str, words: str) -> str:
    """SQL of a caption of so many words."""
    return f"array_to_string([{_word(f'({number}) * 64 + k')} for k in range(({words})::BIGINT)], ' ')"


SOURCE = "i - i % 10 // 9"  # every tenth row is a copy of the one before
COLUMNS = {
    "caption": _run(SOURCE, f"4 + hash({SOURCE}) % 13"),
    "content_hash": f"md5(({SOURCE})::VARCHAR)",
    "width": "(64 + hash(i) % 900)::INTEGER",
    "height": "(64 + hash(-i) % 900)::INTEGER",
    "length": "(512 * (3 + hash(i) % 400))::BIGINT",
    "score": f"{_chance(50)}::FLOAT",
    "cluster": f"(10000 * pow({_chance(51)}, 4))::INTEGER",
    "phash": f"(hash({SOURCE}) >> 1)::BIGINT",
    "format": "CASE WHEN hash(i) % 5 = 0 THEN 'webp' ELSE 'jpeg' END",
}
# The compared snapshot: a tenth of its samples has the bytes of ours, another tenth their perceptual hash.
ELSEWHERE = {
    "content_hash": f"CASE i % 10 WHEN 0 THEN {COLUMNS['content_hash']} ELSE md5((-i)::VARCHAR) END",
    "phash": f"CASE i % 10 WHEN 1 THEN {COLUMNS['phash']} ELSE (hash(-i) >> 1)::BIGINT END",
}
VECTOR, DIMENSIONS, TOPICS = (
    "embedding",
    64,
    500,
)  # float16 around topics; a tenth are copies, up to rounding
BATCH = 250_000  # rows with vectors made at once
UNIT = 10_000  # rows of a score table
# 500,000 words, pairs and longer runs, as MetaCLIP's metadata is; and 5,000 rare words.
PHRASES = f"""SELECT 'w' || i AS text FROM range(150000) t(i) UNION SELECT {_run("i", "2")} FROM range(220000) t(i)
    UNION SELECT {_run("-i", "3 + i % 6")} FROM range(150000) t(i) ORDER BY 1"""
NAMES = "SELECT 'w' || i AS text FROM range(100000, 105000) t(i)"


def filters(rows: int, phrases: dict[str, str], names: dict[str, str]) -> dict[str, dict[str, Any]]:
    """name -> fields; `phrases` and `names`: files. Limits grow with the rows, so that the same share is dropped."""
    elsewhere = {"against": ["elsewhere"], "hash": "phash"}
    parts = [{"threshold": {"score": "score", "min": 0.2}}, {"image_size": {"min_side": 200}}]
    return {
        "all": {"of": parts},
        "any": {"of": parts},
        "boilerplate": {"most": 1},
        "budget": {"samples": rows // 2, "score": "score"},
        "caption": {"min_words": 5, "max_repetition": 0.5},
        "cluster_balance": {"column": "cluster", "most": rows // 10_000, "prefer": "score"},
        "decontaminate": elsewhere,
        f"decontaminate {AS_MANY}": elsewhere,
        "exact_duplicates": {},
        "image_size": {"min_side": 200, "max_aspect": 3},
        "mentions": names,
        "metaclip_balance": {**phrases, "t": rows // 5000},
        "near_duplicates": {},
        "not": {"of": parts[:1]},
        "one_of": {"column": "format", "values": ["webp"]},
        "semantic_duplicates": {"embedding": VECTOR},
        "soft_cap": {"column": "cluster", "cap": rows // 10_000},
        "soft_cap_sampling": {"score": "score", "gain": 5.0},
        "threshold": {"score": "score", "min": 0.3},
        "top_fraction": {"score": "score", "fraction": 0.3},
        WHAT_IF: {},
    }


def decide(name: str, fields: dict[str, Any], rows: int) -> dict[str, float]:
    """One measurement: seconds, gigabytes, samples kept."""
    from pydantic import TypeAdapter

    from curation.curating import decision_results
    from curation.filters import FILTERS, ComparingFilter
    from curation.filters.named import NamedFilter, columns_needed

    kind, _, how = name.partition(" ")
    item = NamedFilter(kind, TypeAdapter(FILTERS[kind]).validate_python(fields))
    index, scores = columns_needed([item])
    with loaded(index, scores, rows) as engine:
        if isinstance(item.filter, ComparingFilter):
            load_elsewhere(engine, item.filter, rows if how == AS_MANY else EVALUATED)
        began, spent = time.monotonic(), time.process_time()
        engine.decide([item])
        seconds, cpu = time.monotonic() - began, time.process_time() - spent
        kept = decision_results.totals(engine)["kept"]
    return {"seconds": seconds, "cpu": cpu, "kept": kept, "gb": _peak()}  # type: ignore[dict-item]


def ask(rows: int) -> dict[str, float]:
    """The first answer of `curate what-if` over cached columns, and a second one with another fraction.

    The seconds of the first answer include opening the file of columns and reading the manifest of a compared snapshot
    with half of the samples. Those of loading include reading score tables of 10,000 rows from local disk, counting the
    words of captions meanwhile, checking uids for repeats, and writing the cache.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from curation.curating.decisions import Decisions
    from curation.curating.what_if import MADE, WhatIf
    from curation.filters import FILTERS
    from curation.filters.named import NamedFilter
    from curation.ledger import score_tables as scores

    def chosen(fraction: float) -> list[NamedFilter]:
        fields = ASKED | {"top_fraction": {"score": "score", "fraction": fraction}}
        return [NamedFilter(name, FILTERS[name](**values)) for name, values in fields.items()]

    index, kinds = ["caption", "width", "height"], {"score": pa.float32(), "cluster": pa.int32()}
    with tempfile.TemporaryDirectory() as folder:
        spool, file, snapshot = Path(folder), Path(folder) / "kept.duckdb", Path(folder) / "snapshot.parquet"
        scored, shards, columns = score_tables(spool / "store", list(kinds), rows)
        with Decisions(spool, index, kinds, made=MADE) as engine:
            began, spent = time.monotonic(), time.process_time()
            units = scores.load_units(scored, shards, columns, index)
            engine.load((ordinal, unit.table) for ordinal, unit in enumerate(units))
            engine.keep(file)
            load = {"load": time.monotonic() - began, "load_cpu": time.process_time() - spent}
            before = f"SELECT md5(i::VARCHAR) AS uid, 'kept' AS decision FROM range({rows // 2}) t(i)"
            engine.db.execute(f"COPY ({before}) TO '{snapshot}'")
        began, spent = time.monotonic(), time.process_time()
        with Decisions(spool, index, kinds, made=MADE, kept=file) as engine, pq.ParquetFile(snapshot) as manifest:
            batches = manifest.iter_batches(100_000)
            asked = WhatIf(engine, pa.RecordBatchReader.from_batches(manifest.schema_arrow, batches))
            answer = asked.ask("as it is", chosen(0.3))
            seconds, cpu = time.monotonic() - began, time.process_time() - spent
            began, spent = time.monotonic(), time.process_time()
            asked.ask("another", chosen(0.2))
            again = {"again": time.monotonic() - began, "again_cpu": time.process_time() - spent}
    return {"seconds": seconds, "cpu": cpu, "kept": answer.samples["kept"], "gb": _peak(), **load, **again}


def score_tables(root: Path, names: Sequence[str], rows: int) -> tuple[Any, list[Any], list[Any]]:
    """(ledger, shards, columns) of a score store: the index and these columns, made by the SQL of `COLUMNS`."""
    import duckdb
    import pyarrow as pa

    from curation.core.types import ShardRef
    from curation.ledger.ledger import Ledger
    from curation.ledger.score_tables import INDEX, Column, commit_index, commit_score
    from curation.shards.unit_reader import INDEX_SCHEMA
    from curation.storage.store import open_store

    ledger = Ledger(open_store(str(root)))
    index, *columns = (Column(name, name) for name in (INDEX, *names))
    shards = [ShardRef(f"{number:05d}.tar", UNIT, "etag") for number in range(-(-rows // UNIT))]
    known = [name for name in COLUMNS if name in INDEX_SCHEMA.names or name in names]
    made = ", ".join(f"{COLUMNS[name]} AS {name}" for name in known)
    with duckdb.connect() as db:
        for number, shard in enumerate(shards):
            within = f"range({number * UNIT}, {min(number * UNIT + UNIT, rows)})"
            query = f"SELECT i % {UNIT} AS row, md5(i::VARCHAR) AS uid, {made} FROM {within} t(i)"
            table = db.sql(query).to_arrow_table()
            nothing = {field.name: pa.nulls(len(table), field.type) for field in INDEX_SCHEMA}
            columns_of = dict(zip(table.column_names, table.columns, strict=True))
            commit_index(ledger, shard, index, pa.table(nothing | columns_of), None)
            for column in columns:
                commit_score(ledger, shard, column, table.column("uid"), table.column(column.name))
    return ledger, shards, [index, *columns]


@contextmanager
def loaded(index: Sequence[str], scores: Sequence[str], rows: int) -> Iterator[Any]:
    """A decision engine whose columns SQL has made."""
    import pyarrow as pa

    from curation.curating.decisions import Decisions

    kinds = {"cluster": pa.int32(), "phash": pa.int64(), "score": pa.float32()}
    blobs = [name for name in scores if name == VECTOR]
    typed = {name: kinds[name] for name in scores if name != VECTOR}
    columns = "".join(f", {COLUMNS[name]} AS {name}" for name in [*index, *typed])
    columns += "".join(f", {name}" for name in blobs)
    with tempfile.TemporaryDirectory() as spool, Decisions(Path(spool), index, typed, blobs) as engine:
        for some in _vectors(engine.db, rows) if blobs else [f"range({rows}) t(i)"]:
            engine.db.execute(
                f"INSERT INTO loaded.pool SELECT i, i // 10000, i % 10000, md5(i::VARCHAR), NULL{columns} FROM {some}"
            )
        engine.rows = rows
        engine.decide([])  # checks the uids, once for each load
        engine.clear()
        yield engine


def load_elsewhere(engine: Any, item: Any, rows: int) -> None:
    """Load so many samples of a compared snapshot, all of them kept."""
    import duckdb

    columns = ", ".join(f"{ELSEWHERE[name]} AS {name}" for name in ("content_hash", *item.compared_columns()))
    with duckdb.connect() as one, duckdb.connect() as other:
        kept = one.sql(f"SELECT md5('e' || i) AS uid, 'kept' AS decision FROM range({rows}) t(i)")
        parts = (
            other.sql(f"SELECT md5('e' || i) AS uid, {columns} FROM range({at}, {min(at + BATCH, rows)}) t(i)")
            for at in range(0, rows, BATCH)
        )
        tables = (part.to_arrow_table() for part in parts)
        engine.load_others(
            item.compared_table(), item.compared_columns(), [(False, kept.to_arrow_reader(100_000), tables)]
        )


def _vectors(db: Any, rows: int) -> Iterator[str]:
    """Names of tables with row numbers `i` and vectors, BATCH rows at a time."""
    import numpy as np
    import pyarrow as pa

    generator = np.random.default_rng(0)
    topics = generator.standard_normal((TOPICS, DIMENSIONS), np.float32)
    for start in range(0, rows, BATCH):
        numbers = np.arange(start, min(start + BATCH, rows))
        vectors = generator.standard_normal((len(numbers), DIMENSIONS), np.float32)
        vectors += topics[generator.integers(0, TOPICS, len(numbers))]
        copies = numbers % 10 == 9
        vectors[copies] = vectors[np.flatnonzero(copies) - 1] * 1.01
        halves = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
        blobs = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(2 * DIMENSIONS), len(numbers), [None, pa.py_buffer(halves.tobytes())]
        )
        db.register("incoming", pa.table({"i": numbers, VECTOR: blobs.cast(pa.binary())}))
        yield "incoming"
        db.unregister("incoming")


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # GB; Linux counts KB


def selected(path: Path, query: str) -> dict[str, str]:
    """Write the texts that a query selects to a file; returns its `url` and `sha256`."""
    import duckdb

    with duckdb.connect() as db:
        write_list(path, (text for (text,) in db.execute(query).fetchall()))
    return listed(path)


def measure(name: str, fields: dict[str, Any], rows: int) -> dict[str, float]:
    """Measure in a process of its own; the median of three where it is short."""
    runs = [_process(name, fields, rows)]
    if runs[0]["cpu"] < SHORT:
        runs += [_process(name, fields, rows) for _ in range(2)]
    said = sorted(runs, key=lambda run: run["cpu"])[len(runs) // 2]
    line = f"  {name:<18} {rows:>12,} rows {said['seconds']:8.1f} s {said['cpu']:8.1f} CPU {said['gb']:5.2f} GB"
    if "load" in said:
        line += f"; loading, not included: {said['load']:.1f} s {said['load_cpu']:.1f} CPU"
    print(line, file=sys.stderr)
    return said


def _process(name: str, fields: dict[str, Any], rows: int) -> dict[str, float]:
    command = [sys.executable, str(Path(__file__)), "--child", json.dumps([name, fields, rows])]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{name}, {rows:,} rows, failed:\n{done.stderr[-3000:]}")
    said: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return said


def report(found: dict[str, list[dict[str, float]]], rows: Sequence[int]) -> list[str]:
    """One line of Markdown for each filter: seconds and memory at each size, the growth of CPU time, and the bars."""
    heads = [f"{n:,} rows: {what}" for n in rows for what in ("s", "CPU s", "GB", "kept")]
    lines = ["| " + " | ".join(["filter", *heads, "growth", "bars"]) + " |", "| --- |" + " ---: |" * (len(heads) + 2)]
    for name, said in found.items():
        cells = [
            text
            for s in said
            for text in (f"{s['seconds']:.1f}", f"{s['cpu']:.1f}", f"{s['gb']:.2f}", f"{s['kept']:,}")
        ]
        growth = said[-1]["cpu"] / max(said[0]["cpu"], 1e-9)
        met = growth <= GROWTH * rows[-1] / rows[0] / 10 and max(s["gb"] for s in said) < MEMORY
        if name == WHAT_IF:
            met = said[-1]["seconds"] < ASK_SECONDS and said[-1]["gb"] < ASK_MEMORY
        lines.append("| " + " | ".join([name, *cells, f"{growth:.1f}x", "met" if met else "MISSED"]) + " |")
    if WHAT_IF in found:
        load, again = (
            "; ".join(f"{s[name]:.1f} s, {s[f'{name}_cpu']:.1f} CPU s" for s in found[WHAT_IF])
            for name in ("load", "again")
        )
        lines += ["", f"The seconds of `{WHAT_IF}` exclude loading the columns from score tables on local disk and "
                      f"caching them, which happens once for all commands: {load}. "
                      f"A second answer takes {again}."]  # fmt: skip
    return lines


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", default=ROWS)
    parser.add_argument("--only", default="")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, fields, rows = json.loads(arguments.child)
        print(json.dumps(ask(rows) if name == WHAT_IF else decide(name, fields, rows)))
        return
    rows = [int(part) for part in arguments.rows.split(",")]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as home:
        lists = [selected(Path(home) / f"{n}.txt", query) for n, query in enumerate((PHRASES, NAMES))]
        tables = {n: filters(n, *lists) for n in rows}
        chosen = arguments.only.split(",") if arguments.only else list(tables[rows[0]])
        found = {name: [measure(name, tables[n][name], n) for n in rows] for name in chosen}
    about = "seconds of the filter alone; peak memory of its process, with DuckDB's limit at the default 2 GB"
    lines = report(found, rows)
    print("\n".join(lines))
    if not arguments.only and arguments.rows == ROWS:
        write("filters", "filters", [*facts(time.monotonic() - began), about], lines)


if __name__ == "__main__":
    main()
