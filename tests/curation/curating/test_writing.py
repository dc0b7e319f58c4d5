"""The ends of groups, the splits of samples, and the bytes of a json into which uid and source are spliced."""

from __future__ import annotations

import io
import json

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from curation.core.types import ShardRef
from curation.curating.annotation import annotate
from curation.curating.writing import _even_split, group_units, written_lengths
from curation.shards.tar_writer import TarWriter
from curation.shards.unit_reader import INDEX_SCHEMA

SHARD = ShardRef("a.tar", 1, "e")


def units(counts: list[tuple[str, int]]) -> list[tuple[ShardRef, int, int]]:
    return [(ShardRef(key, 1, "e"), kept, kept * 2) for key, kept in counts]


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(1, 50))
def test_groups_cover_all_units_in_order(kept: list[int], samples: int) -> None:
    groups = list(group_units(units([(f"{i:05d}", n) for i, n in enumerate(kept)]), samples))
    covered = [ordinal for first, last in groups for ordinal in range(first, last + 1)]
    assert covered == list(range(len(kept)))
    for first, last in groups:
        assert first == last or sum(kept[first : last + 1]) <= samples


def test_a_new_unit_changes_the_groups_around_it_only() -> None:
    counts = [(f"{i:05d}", 30 + i % 7) for i in range(400)]

    def names(items: list[tuple[str, int]]) -> set[tuple[str, ...]]:
        return {tuple(k for k, _ in items[first : last + 1]) for first, last in group_units(units(items), 200)}

    before = names(counts)
    for position in (0, 17, 200, 399):
        after = names([*counts[:position], (f"{position:05d}x", 33), *counts[position:]])
        assert len(after - before) <= 12, "a new shard rewrites its surroundings, not the dataset"
        assert len(after) >= 70


@given(st.integers(0, 500), st.integers(1, 60))
def test_splits_are_even_and_as_few_as_can_be(n: int, most: int) -> None:
    sizes = [stop - start for start, stop in _even_split(n, most)]
    assert sum(sizes) == n and len(sizes) == -(-n // most)
    assert not sizes or (max(sizes) <= most and max(sizes) - min(sizes) <= 1)


@given(
    st.lists(st.tuples(st.integers(0, 3000), st.none() | st.integers(0, 1500), st.booleans()), max_size=12),
    st.integers(1, 5),
    st.sampled_from(["a.tar", "a/very/long/" * 20 + "0.tar", "日本.tar"]),
)
def test_written_lengths_are_never_less_than_what_is_written(
    given_: list[tuple[int, int | None, bool]], samples_per_shard: int, key: str
) -> None:
    """For samples without a json, with one, and with one that had an entry before; over several shards."""
    shard, rows, bodies = ShardRef(key, 10**12, "e" * 32), [], []
    for n, (size, json_size, before) in enumerate(given_):
        parts = {"png": bytes(size), "txt": b"words"}
        if json_size is not None:
            body = json.dumps({"a": "x" * json_size, "b": list(range(json_size // 9))}, separators=(",", ":")).encode()
            parts["json"] = annotate(body, "f" * 32, shard, 0, 512) if before else body
        members = [{"extension": extension, "offset": 0, "length": len(data)} for extension, data in parts.items()]
        rows.append({"offset": n * 10**10, "length": 9999, "members": members})
        bodies.append(parts)
    schema = pa.schema([INDEX_SCHEMA.field(name) for name in ("offset", "length", "members")])
    told = written_lengths(pa.Table.from_pylist(rows, schema), shard, samples_per_shard=samples_per_shard).to_pylist()
    spent = 0
    for start in range(0, len(bodies), samples_per_shard):
        file = io.BytesIO()
        writer = TarWriter(file)
        for row, parts in list(zip(rows, bodies, strict=True))[start : start + samples_per_shard]:
            body = annotate(parts.get("json", b"{}"), "f" * 32, shard, row["offset"], row["length"])
            for extension, data in {**parts, "json": body}.items():
                writer.add(f"{'f' * 32}.{extension}", data)
        spent += writer.close()
    assert len(told) == len(rows)
    assert spent - 1024 <= sum(told) <= spent + 3000 * len(rows)
