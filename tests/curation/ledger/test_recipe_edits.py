"""A recipe's lists as one table of edits: the short forms are edits, and contradictions name both lists."""

from __future__ import annotations

import pyarrow as pa
import pytest
from edits_given import ONE, OTHER, edits, of_lists, replaced
from services import one_line

from curation.core.errors import ContradictingEditsError, EditListError
from curation.ledger.edit_lists import EditList, edit_list
from curation.ledger.recipe_edits import list_name, merged, parse_named, place_of
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


def test_add_is_not_supported_yet() -> None:
    with pytest.raises(EditListError, match=rf"^a\.parquet: the verb add is not supported yet \(uid {OTHER}\)$"):
        name = list_name(0)
        merged({name: edit_list(edits((ONE, "keep"), (OTHER, "add")))}, {name: "a.parquet"}, last_wins=False)


def test_names_of_lists_in_documents() -> None:
    assert [place_of(list_name(place)) for place in (0, 12)] == [0, 12]
    assert [place_of(name) for name in ("keep", "edits", "edits_", "edits_x", "edits_\u0661")] == [None] * 5
    found = edit_list(edits((ONE, "keep")))
    assert parse_named(list_name(0), found.data, "a") == found
    assert parse_named("keep", ONE.encode(), "a") == KEEP
