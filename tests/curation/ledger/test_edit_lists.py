"""Edit lists: what the reader accepts, that a wrong row is named by its number, that equal edits give equal bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from edits_given import ONE, OTHER, edits, lists, replaced
from hypothesis import given, settings
from hypothesis import strategies as st
from services import one_line

from curation.core.errors import EditListError
from curation.ledger.edit_lists import (
    EDIT_SCHEMA,
    MAX_VALUE,
    edit_list,
    parse_edit_list,
    read_edit_list,
    write_edit_list,
)
from curation.storage.parquet import to_parquet

GOOD = edits((ONE, "keep"), (OTHER, "weight", None, "0.50"), replaced(OTHER, "label", '"c\\u0061t"', "review", "q1"))


def test_values_are_in_their_shortest_notation_and_rows_sorted() -> None:
    found = edit_list(pa.concat_tables([GOOD.slice(1), GOOD, GOOD]))
    assert found.table.column("value").to_pylist() == [None, '"cat"', "0.5"]
    assert found.table.schema == EDIT_SCHEMA
    assert parse_edit_list(found.data, "list").table.equals(found.table)


@pytest.mark.slow
@settings(max_examples=20)
@given(lists(agree=True), st.randoms(use_true_random=False))
def test_the_order_of_rows_never_decides_a_byte(parts: list[pa.Table], random: Any) -> None:
    whole = pa.concat_tables(parts)
    order = list(range(len(whole)))
    random.shuffle(order)
    assert edit_list(whole).data == edit_list(whole.take(order)).data


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (("A" * 32, "keep"), "uid is not 32 hexadecimal characters"),
        ((None, "keep"), "uid is not 32 hexadecimal characters"),
        ((ONE, "kill"), "verb is not one of"),
        ((ONE, "keep", "label"), "only the verb replace has a field"),
        ((ONE, "drop", None, "1"), "only the verbs replace, weight and add have a value"),
        ((ONE, "keep", None, None, "1"), "only the verbs replace, weight and add have a value"),
        *(
            ((ONE, "add", None, value), "the value of add is not the URL of a shard")
            for value in (None, "1", "s3://a/b.zip", "a\n.tar", "x" * 4093 + ".tar")
        ),
        ((ONE, "add", None, "a.tar", "b.tar"), "add has no from"),
        *(
            ((ONE, "weight", None, value), "value is not a number above 0")
            for value in (None, "nan", "0", "inf", "-1", "x")
        ),
        ((ONE, "weight", None, "1", "none"), "from is not a number above 0"),
        ((ONE, "replace", None, "1"), "field is not the name of a json field"),
        ((ONE, "replace", "la\nbel", "1"), "field is not the name of a json field"),
        ((ONE, "replace", "tutelage", "1"), "the field tutelage can not be replaced"),
        ((ONE, "replace", "label"), "replace has no value"),
        *(((ONE, "replace", "label", value), "value is not JSON") for value in ("", "{", "NaN", "[1,]", "cat", "'a'")),
        ((ONE, "replace", "label", "1", "{"), "from is not JSON"),
        ((ONE, "replace", "label", '"\\ud800"'), "value has half of a surrogate pair"),
        ((ONE, "replace", "label", "[" * 99 + "]" * 99), "value is nested deeper than"),
        ((ONE, "replace", "label", "[" * 9999 + "]" * 9999), "value is not JSON"),
        ((ONE, "replace", "label", '"' + "x" * MAX_VALUE + '"'), "value has more than 65,536 bytes"),
        ((ONE, "replace", "caption", "3"), "the value of a caption is not a JSON string with text"),
        ((ONE, "replace", "caption", '" "'), "the value of a caption is not a JSON string with text"),
        ((ONE, "keep", None, None, None, "a\nb"), "by is empty, too long or has control characters"),
        ((ONE, "keep", None, None, None, None, "x" * 257), "at_run is empty, too long or has control characters"),
    ],
)
def test_a_wrong_row_is_named_by_its_number(row: tuple[Any, ...], why: str) -> None:
    with pytest.raises(EditListError) as caught:
        parse_edit_list(to_parquet(edits((OTHER, "keep"), row)), "s3://lists/one.parquet")
    assert one_line(caught.value).startswith(f"s3://lists/one.parquet: row 1: {why}")


def test_a_list_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(EditListError, match=f"^list: two edits of uid {ONE} contradict each other \\(decision\\)$"):
        edit_list(edits((ONE, "keep"), (ONE, "drop")), "list")


@pytest.mark.parametrize(
    ("table", "why"),
    [
        (GOOD.drop_columns(["by"]), "the columns are not those of an edit list: 'by'"),
        (GOOD.append_column("note", GOOD.column("by")), "the columns are not those of an edit list: 'note'"),
        (GOOD.set_column(3, "value", pa.array([1, 2, 3])), "column value is int64, not string"),
    ],
)
def test_another_table_is_no_edit_list(table: pa.Table, why: str) -> None:
    with pytest.raises(EditListError, match=f"^list: {why}$"):
        parse_edit_list(to_parquet(table), "list")


@pytest.mark.parametrize("cut", [0, 4, 100, -1])
def test_a_damaged_file_is_one_line(cut: int) -> None:
    with pytest.raises(EditListError, match=r"^list is not a Parquet file that can be read") as caught:
        parse_edit_list(edit_list(GOOD).data[:cut], "list")
    one_line(caught.value)


def test_strings_that_are_no_utf8_are_refused() -> None:
    broken = pa.array([b"\xff" * 32] * 3).cast(pa.string(), safe=False)
    with pytest.raises(EditListError, match=r"^list is not a Parquet file that can be read"):
        parse_edit_list(to_parquet(GOOD.set_column(0, "uid", broken)), "list")


def test_a_small_file_that_decodes_to_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    value = '"' + "x" * 60_000 + '"'
    table = edits(*[replaced(ONE, "label", value)] * 200)
    pq.write_table(table, tmp_path / "bomb.parquet", compression="zstd")
    assert (tmp_path / "bomb.parquet").stat().st_size < 10_000
    monkeypatch.setattr("curation.ledger.edit_lists.MAX_BYTES", 1 << 20)
    with pytest.raises(EditListError, match="bytes of values, more than"):
        read_edit_list(f"{tmp_path}/bomb.parquet")
    monkeypatch.setattr("curation.ledger.edit_lists.MAX_ROWS", 100)
    with pytest.raises(EditListError, match="200 rows, more than 100"):
        read_edit_list(f"{tmp_path}/bomb.parquet")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written = write_edit_list(f"{tmp_path}/list.parquet", GOOD)
    assert read_edit_list(f"{tmp_path}/list.parquet") == written
    with pytest.raises(EditListError, match=r"gone\.parquet does not exist"):
        read_edit_list(f"{tmp_path}/gone.parquet")
    with pytest.raises(EditListError, match="row 0"):
        write_edit_list(f"{tmp_path}/wrong.parquet", edits((ONE, "kill")))
    assert not (tmp_path / "wrong.parquet").exists()
