"""Phrases of a list in captions, against the published sub-string matching."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from balanced_rows import ENTRIES, decided, kept, rows_of
from brute_balancing import brute_mentions, brute_metaclip, matched
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.core.errors import PinnedFileError, RecipeError
from curation.filters import FileReadingFilter, WeightingFilter
from curation.filters.algebra import AnyOf
from curation.filters.cluster_balance import ClusterBalance
from curation.filters.mentions import Mentions
from curation.filters.metaclip_balance import MetaclipBalance
from curation.filters.phrases import Phrases
from curation.filters.soft_cap import SoftCap

pytestmark = pytest.mark.slow


def mentions(db: duckdb.DuckDBPyConnection, item: Phrases, captions: list[str | None], *, once: bool) -> list[Any]:
    """(number of the caption, entry) in order."""
    db.register("alive", pa.table({"id": range(len(captions)), "caption": pa.array(captions, pa.string())}))
    item.prepare(db)
    return db.execute(
        f"SELECT id, text FROM ({item.mentioned(db, once=once)}) JOIN {item._table} USING (entry) ORDER BY 1, 2"
    ).fetchall()


@pytest.mark.parametrize("ignore_case", [False, True])
def test_mentions_are_those_of_the_published_matching(ignore_case: bool) -> None:
    rows = rows_of(600)
    item = Phrases(entries=ENTRIES, ignore_case=ignore_case)
    with duckdb.connect() as db:
        captions = [row["caption"] for row in rows]
        found = mentions(db, item, captions, once=True)
        often = mentions(db, item, captions, once=False)
    wanted = [(i, entry) for i, row in enumerate(rows) for entry in matched(item, row["caption"])]
    assert found == sorted(wanted)
    assert len(often) > len(found) and set(often) == set(found)
    seen = {entry.lower() for _, entry in found}
    assert {"dog", "red dog", "b a", "cat ,", "new york"} <= seen
    assert not seen & {"zebra", "st. bernard"}  # the mark is given spaces of its own in captions, not in entries


def test_any_text_is_matched_as_published() -> None:
    """Spaces and marks wherever they can be, in captions and in entries; words and runs that occur again."""
    text = st.lists(st.sampled_from(["a", "b", "ab", " ", " ", ",", ".", "\n"]), max_size=12).map("".join)
    with duckdb.connect() as db:

        @settings(max_examples=40)
        @given(st.lists(text, min_size=1, max_size=20), st.lists(text.filter(str.strip), min_size=1, max_size=20))
        def holds(captions: list[str], entries: list[str]) -> None:
            item = Phrases(entries=tuple(entries))
            wanted = [(i, entry) for i, caption in enumerate(captions) for entry in matched(item, caption)]
            assert mentions(db, item, [*captions, None], once=True) == sorted(wanted)
            assert sorted(set(mentions(db, item, [None, *captions], once=False))) == [
                (i + 1, e) for i, e in sorted(wanted)
            ]

        holds()


@pytest.mark.parametrize(
    ("item", "brute"),
    [
        (Mentions(entries=("a b a b a", "zebra", "b b")), brute_mentions),
        (MetaclipBalance(entries=("a b a b a", "dog", "b b"), t=1), brute_metaclip),
    ],
)
def test_a_caption_of_any_length_takes_memory_by_its_words_alone(item: Any, brute: Any, tmp_path: Path) -> None:
    """64 KB, each pair of whose words begins an entry: with a list of them all for each, that was 2 GB."""
    rows = rows_of(40)
    rows[0]["caption"] = "a b " * (1 << 14)
    usable = {i for i, row in enumerate(rows) if not row["reason"]}
    assert kept(decided(tmp_path, rows, item)) == usable - brute(item, rows)


def test_a_list_in_a_file_is_the_list(tmp_path: Path) -> None:
    text = "\n".join([*ENTRIES, "", "  dog "]).encode()
    (tmp_path / "list.txt").write_bytes(text)
    file = {"url": f"{tmp_path}/list.txt", "sha256": sha256(text).hexdigest()}
    rows = rows_of(200)
    assert decided(tmp_path, rows, Mentions(**file)) == decided(tmp_path, rows, Mentions(entries=ENTRIES))
    either = AnyOf(of=(Mentions(**file), ClusterBalance(column="cluster", most=1)))
    assert isinstance(either, FileReadingFilter) and either.files() == Mentions(**file).files()
    assert not isinstance(either, WeightingFilter) and isinstance(SoftCap(column="cluster", cap=1), WeightingFilter)
    with pytest.raises(PinnedFileError, match="has sha256"):
        decided(tmp_path, rows, Mentions(url=file["url"], sha256="1" * 64))
    assert decided(tmp_path, rows, Mentions(entries=("\tdog ",))) == decided(tmp_path, rows, Mentions(entries=("dog",)))
    (tmp_path / "empty.txt").write_bytes(b"\n  \n")
    with pytest.raises(RecipeError, match=r"empty\.txt has no phrases"):
        decided(tmp_path, rows, Mentions(url=f"{tmp_path}/empty.txt", sha256=sha256(b"\n  \n").hexdigest()))
    (tmp_path / "latin.txt").write_bytes(b"\xef\xbb\xbfdog\ncaf\xe9\n")
    with pytest.raises(RecipeError, match=r"latin\.txt:2: the list is not UTF-8"):
        decided(
            tmp_path,
            rows,
            Mentions(url=f"{tmp_path}/latin.txt", sha256=sha256(b"\xef\xbb\xbfdog\ncaf\xe9\n").hexdigest()),
        )
    text = "\ufeffdog\n".encode()  # as some editors write it
    (tmp_path / "mark.txt").write_bytes(text)
    marked = Mentions(url=f"{tmp_path}/mark.txt", sha256=sha256(text).hexdigest())
    assert decided(tmp_path, rows, marked) == decided(tmp_path, rows, Mentions(entries=("dog",)))
    text = "red\u2028dog\r\nred\rzebra\n".encode()  # lines end as text files' do, and nowhere else
    (tmp_path / "odd.txt").write_bytes(text)
    odd = Mentions(url=f"{tmp_path}/odd.txt", sha256=sha256(text).hexdigest())
    assert decided(tmp_path, rows, odd) == decided(tmp_path, rows, Mentions(entries=("red\u2028dog", "red", "zebra")))
