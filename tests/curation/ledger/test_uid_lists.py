"""Lists of uids: what is read, and that a wrong line is named by its number and never quoted."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
from services import one_line

from curation.core.errors import RecipeError
from curation.ledger.uid_lists import parse_list, read_list
from curation.storage.store import StoreOptions

ONE, OTHER = "a" * 32, "b" * 32


def test_comments_and_empty_lines_are_skipped() -> None:
    found = parse_list("keep", f"# ours\n{ONE}\r\n\n  {OTHER}  \n".encode(), "list.txt")
    assert found.uids.to_pylist() == [ONE, OTHER] and found.weights is None


def test_weights_are_those_behind_each_uid() -> None:
    text = f"# uid\tweight\n{ONE}\t0.1\n{OTHER}\t3\n".encode()
    found = parse_list("weights", text, "list.txt")
    assert found.uids.to_pylist() == [ONE, OTHER] and found.weights.to_pylist() == [pytest.approx(0.1), 3]
    assert found.text == text and found.sha256 == sha256(text).hexdigest(), "the snapshot holds the list as it was"


@pytest.mark.parametrize("name", ["keep", "drop", "weights"])
@pytest.mark.parametrize("line", ["c" * 31, "C" * 32, "g" * 32, f"{ONE} {OTHER}", "é" * 32])
def test_a_line_that_is_no_uid_is_named_by_its_number(name: str, line: str) -> None:
    with pytest.raises(RecipeError, match=r"^list\.txt:2: ") as caught:
        parse_list(name, f"{ONE}\t1\n{line}\t1\n".replace("\t1", "\t1" * (name == "weights")).encode(), "list.txt")
    assert line not in one_line(caught.value)


@pytest.mark.parametrize("weight", ["", "0", "-1", "nan", "inf", "1e99", "many"])
def test_a_weight_is_a_number_above_zero(weight: str) -> None:
    with pytest.raises(RecipeError, match=r"^list\.txt:1: "):
        parse_list("weights", f"{ONE}\t{weight}\n".encode(), "list.txt")


def test_a_uid_has_one_weight() -> None:
    with pytest.raises(RecipeError, match="1 uid"):
        parse_list("weights", f"{ONE}\t1\n{OTHER}\t1\n{ONE}\t2\n".encode(), "list.txt")


def test_a_missing_list_is_a_mistake_in_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "there").write_text(ONE)
    assert read_list("keep", f"{tmp_path}/there", StoreOptions()).uids.to_pylist() == [ONE]
    with pytest.raises(RecipeError, match=r"^keep: .*gone does not exist"):
        read_list("keep", f"{tmp_path}/gone", StoreOptions())
