"""Queues: their identity, create-only answers, pages; on local disk, in memory and on S3."""

from __future__ import annotations

from pathlib import Path

import pytest
from review_queues import answer, make_queue

from curation.core.errors import LedgerError, UserError
from curation.review.queue import create_queue, is_queue, open_queue


def test_equal_builds_are_one_queue(tmp_path: Path) -> None:
    queue = make_queue(tmp_path)
    document = queue.document.to_json()
    pin = document.pop("items")
    assert create_queue(str(tmp_path / "queue"), document, queue.items).sha256 == queue.sha256
    with pytest.raises(UserError, match="another review queue"):
        create_queue(str(tmp_path / "queue"), {**document, "budget": 7}, queue.items)
    assert open_queue(str(tmp_path / "queue")).document["items"] == pin
    assert is_queue(str(tmp_path / "queue")) and not is_queue(str(tmp_path / "corpus"))
    with pytest.raises(UserError, match="is not a review queue"):
        open_queue(str(tmp_path / "corpus"))


def test_the_losers_items_do_not_replace_the_queues(tmp_path: Path) -> None:
    queue = make_queue(tmp_path)
    document = {name: value for name, value in queue.document.to_json().items() if name != "items"}
    with pytest.raises(UserError, match="another review queue"):
        create_queue(str(tmp_path / "queue"), document, queue.items.slice(0, 3))
    assert open_queue(str(tmp_path / "queue")).items.num_rows == 12


@pytest.mark.parametrize("where", ["local", "memory", pytest.param("s3", marks=pytest.mark.s3)])
def test_the_first_answer_under_a_number_wins(where: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    urls = {
        "local": lambda: "",
        "memory": lambda: f"memory://{tmp_path.name}",
        "s3": lambda: request.getfixturevalue("s3_url"),
    }
    queue = make_queue(tmp_path, url=urls[where]())
    assert answer(queue, 3, "ann", "dog") == "created"
    assert answer(queue, 3, "ann", "dog") == "repeated"
    assert answer(queue, 3, "ann", "cat") == "taken"
    assert answer(queue, 3, "bob", "cat") == "created"
    later = queue.answer("label", 3, "ann", 1, "dog", at="2026-11-30T12:00:00+00:00")
    assert queue.record(later) == "repeated", "the time is information only"
    assert sorted((one.reviewer, one.record.label) for one in queue.answers_of(3)) == [("ann", "dog"), ("bob", "cat")]
    pages = [(page, {item: len(found) for item, found in answers.items()}) for page, answers in queue.answer_pages()]
    assert pages == [(range(12), {3: 2})]


def test_pages_of_a_thousand_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from curation.review import documents, queue

    for module in (documents, queue):
        monkeypatch.setattr(module, "PAGE", 5)
    made = make_queue(tmp_path)
    for item in (0, 4, 5, 11):
        answer(made, item, "ann", "cat")
    assert [(page, list(found)) for page, found in made.answer_pages()] == [
        (range(5), [0, 4]), (range(5, 10), [5]), (range(10, 12), [11]),
    ]  # fmt: skip


def test_limits_of_another_version_are_an_error(tmp_path: Path) -> None:
    document = make_queue(tmp_path).document
    for limits in ({**document.limits, "max_stars": 3}, {"max_bytes": 3}):
        with pytest.raises(LedgerError, match="limits"):
            document.model_copy(update={"limits": limits}).decoding  # noqa: B018


@pytest.mark.parametrize("damage", ["bytes", "gone"])
def test_damaged_items_are_an_error(damage: str, tmp_path: Path) -> None:
    queue = make_queue(tmp_path)
    path = tmp_path / "queue" / queue.document.items.key
    path.write_bytes(b"PAR1") if damage == "bytes" else path.unlink()
    with pytest.raises(LedgerError, match=r"damaged|gone"):
        open_queue(str(tmp_path / "queue")).items  # noqa: B018


@pytest.mark.parametrize("name", ["", "../x", "a/b", "é", "a" * 65, ".hidden"])
def test_names_of_reviewers_that_are_no_keys(name: str, tmp_path: Path) -> None:
    from curation.review.documents import reviewer_name

    with pytest.raises(UserError):
        reviewer_name(name)
    assert reviewer_name(" Ann.Lee+1@x.org ") == "ann.lee+1@x.org"
