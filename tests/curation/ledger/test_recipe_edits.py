"""A recipe's lists as one table of edits: the short forms are edits, and contradictions name both lists."""

from __future__ import annotations

import pyarrow as pa
import pytest
from edits_given import ONE, OTHER, edits, of_lists, replaced
from services import one_line

from curation.core.errors import ContradictingEditsError
from curation.ledger.edit_lists import EditList, edit_list
from curation.ledger.recipe_edits import adds_samples, list_name, merged, parse_named, place_of
from curation.ledger.uid_lists import UidList, parse_list

KEEP = parse_list("keep", ONE.encode(), "keep.txt")


def test_short_forms_and_edit_lists_are_one_table() -> None:
    table = edit_list(edits(replaced(ONE, "label", '"cat"'), (OTHER, "drop")))
    found = merged({"keep": KEEP, list_name(0): table}, {}, last_wins=False)
    assert found.table.column("verb").to_pylist() == ["keep", "replace", "drop"]
    assert found and not found.only_weighted and not merged({}, {}, last_wins=False)


def test_a_list_of_weights_is_complete() -> None:
    found = of_lists(weights=pa.table({"uid": [ONE], "weight": [0.5]}))
    assert found.only_weighted and found.table.column("value").to_pylist() == ["0.5"]
    assert of_lists(weights=pa.table({"uid": pa.array([], pa.string()), "weight": pa.array([], pa.float32())}))


def test_a_contradiction_between_a_short_form_and_an_edit_list_names_both() -> None:
    lists: dict[str, UidList | EditList] = {"keep": KEEP, list_name(0): edit_list(edits((ONE, "drop")))}
    urls = {"keep": "s3://lists/keep.txt", list_name(0): "s3://lists/a.parquet"}
    with pytest.raises(ContradictingEditsError) as caught:
        merged(lists, urls, last_wins=False)
    expected = f"uid {ONE}: the keep list s3://lists/keep.txt says keep, but s3://lists/a.parquet says drop"
    assert one_line(caught.value).startswith(expected)
    assert merged(lists, urls, last_wins=True).table.column("verb").to_pylist() == ["drop"]


def test_edit_lists_are_merged_in_the_order_of_the_recipe() -> None:
    lists: dict[str, UidList | EditList] = {
        list_name(place): edit_list(edits(replaced(ONE, "label", str(place)))) for place in (10, 2, 9)
    }
    assert merged(lists, {}, last_wins=True).table.column("value").to_pylist() == ["10"]


def test_all_edits_of_an_added_sample_are_apart() -> None:
    added = edit_list(edits((ONE, "keep"), (OTHER, "add", None, "a/0.tar")))
    other = edit_list(edits(replaced(OTHER, "label", "1"), (OTHER, "weight", None, "2"), replaced(ONE, "label", "1")))
    found = merged({list_name(0): added, list_name(1): other}, {}, last_wins=False)
    assert found.table.column("uid").to_pylist() == [ONE, ONE]
    assert found.added.column("verb").to_pylist() == ["add", "replace", "weight"]
    assert found.adds.column("value").to_pylist() == ["a/0.tar"]
    assert adds_samples(added) and not adds_samples(other)


def test_a_sample_is_added_from_one_shard() -> None:
    lists: dict[str, UidList | EditList] = {
        list_name(place): edit_list(edits((ONE, "add", None, f"{place}.tar"))) for place in range(2)
    }
    with pytest.raises(ContradictingEditsError) as caught:
        merged(lists, {}, last_wins=False)
    assert one_line(caught.value).startswith(f"uid {ONE}: edits_0000 adds it from 0.tar, but edits_0001 adds it from 1")
    assert merged(lists, {}, last_wins=True).adds.column("value").to_pylist() == ["1.tar"]


def test_names_of_lists_in_documents() -> None:
    assert [place_of(list_name(place)) for place in (0, 12)] == [0, 12]
    assert [place_of(name) for name in ("keep", "edits", "edits_", "edits_x", "edits_\u0661")] == [None] * 5
    found = edit_list(edits((ONE, "keep")))
    assert parse_named(list_name(0), found.data, "a") == found
    assert parse_named("keep", ONE.encode(), "a") == KEEP
