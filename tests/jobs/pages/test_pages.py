"""Pages as a browser reads them: hostile text stays text, nothing is loaded from elsewhere, no value is missing."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from jinja2 import UndefinedError

import jobs.pages
from curation.core.errors import NotFoundError
from curation.curating.groups import GroupExample, Member
from curation.curating.what_if import FilterStep, WhatIfAnswer
from jobs.pages import groups, matches, what_if
from jobs.pages.rendering import render, sample_view

HOSTILE = """<script>alert("1")</script>'"><img src=x onerror=alert(1)>&amp;{{ 7 * 7 }}\x1b[2J\u202e"""
SHOWN = HOSTILE.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")
ALLOWED = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "code", "table", "tr", "th", "td"}
ALLOWED |= {"br", "img", "span", "div"}
PIXELS = np.full((400, 200, 3), 128, np.uint8)


class Page(HTMLParser):
    """The tags of a page, their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


class Snapshot:
    """The part of a snapshot that pages read; every text in it is hostile."""

    def __init__(self) -> None:
        self.number = 3
        self.store = SimpleNamespace(url=HOSTILE, options=None)
        self.document = {"samples": {"seen": 10}}


def group(stays: Any, goes: list[Any]) -> Any:
    return {"filter": HOSTILE, "samples": 9, "stays": stays, "goes": goes}


def look(uid: str) -> tuple[Any, str]:
    if uid == "gone":
        raise NotFoundError(HOSTILE)
    return PIXELS, HOSTILE


def page_of_groups(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(groups, "facts", lambda snapshot, uids: {uid: {"uid": uid} for uid in uids})
    monkeypatch.setattr(groups, "content", lambda snapshot, row: look(row["uid"]))
    return groups.page(Snapshot(), [group(HOSTILE, ["gone", HOSTILE])])  # type: ignore[arg-type]


def page_of_matches(monkeypatch: pytest.MonkeyPatch) -> str:
    row = {"filter": HOSTILE, "how": HOSTILE, "value": 0.5, "against": HOSTILE, "uid": HOSTILE, "other": "gone"}
    monkeypatch.setattr(matches.cu, "open", lambda url, options: Snapshot())
    monkeypatch.setattr(matches, "facts", lambda snapshot, uids: {uid: {"source_key": HOSTILE} for uid in uids})
    contents = iter([look("there"), NotFoundError("")])

    def content(snapshot: Any, row: Any) -> Any:
        found = next(contents)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(matches, "content", content)
    return matches.page(Snapshot(), [row], 1234)  # type: ignore[arg-type]


def page_of_what_if(monkeypatch: pytest.MonkeyPatch) -> str:
    answer = WhatIfAnswer(
        HOSTILE,
        {"seen": 10, "kept": 4},
        [FilterStep(HOSTILE, 10, 4)],
        {"entering": 1, "leaving": 2, "jaccard": 0.5},
        {HOSTILE: [{"group": HOSTILE, "of_all": 1.0, "of_kept": 0.25}, {"group": 7, "of_all": 0.0, "of_kept": 0.75}]},
        {HOSTILE: [{"score": 0.5, "kept": True, "caption": HOSTILE, "uid": HOSTILE},
                   {"score": 0.4, "kept": False, "caption": None, "uid": HOSTILE}]},
        [GroupExample(HOSTILE, 9, Member(HOSTILE, 0, 0), [Member("gone", 0, 1)])],
        [HOSTILE],
    )  # fmt: skip
    plain = WhatIfAnswer("as it is", {"seen": 0, "kept": 0}, [])
    return what_if.page(HOSTILE, [answer, plain], 5, look, unreadable=6)


@pytest.mark.parametrize("make", [page_of_groups, page_of_matches, page_of_what_if])
def test_hostile_text_stays_text(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    text = make(monkeypatch)
    page = Page(text)
    assert "<script" not in text and "onerror" not in {name for _, attributes in page.tags for name in attributes}
    assert {tag for tag, _ in page.tags} <= ALLOWED
    assert page.text.count(SHOWN) >= 4, "shown as it is, with control characters made visible"
    assert "49" not in page.text, "no value is taken for a template"


@pytest.mark.parametrize("make", [page_of_groups, page_of_matches, page_of_what_if])
def test_a_page_loads_nothing_from_elsewhere(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    text = make(monkeypatch)
    sources = [attributes["src"] or "" for tag, attributes in Page(text).tags if "src" in attributes]
    assert sources and all(source.startswith("data:image/jpeg;base64,/9j/") for source in sources)
    assert "url(" not in text and "href" not in text and text.startswith("<!doctype html>")


def test_what_a_page_of_settings_says(monkeypatch: pytest.MonkeyPatch) -> None:
    text = Page(page_of_what_if(monkeypatch)).text
    for part in ("5 shards have not been scored", "6 shards are set aside", "40.0%", "75.0%", "0.5000", "dropped"):
        assert part in text
    assert text.count("The largest groups of duplicates") == 1


def test_without_pictures_there_are_no_groups() -> None:
    answer = WhatIfAnswer("a", {"seen": 1, "kept": 1}, [], groups=[GroupExample("f", 2, Member("u", 0, 0), [])])
    assert "groups of duplicates" not in what_if.page("r.yaml", [answer], 0)


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="snapshot"):
        render("matches.html", rows=[], total=0)


def test_a_long_caption_is_cut() -> None:
    assert sample_view("u", None, "x" * 500).caption == "x" * 200


def test_no_html_is_written_in_python() -> None:
    """Templates escape; f-strings don't."""
    for path in Path(jobs.pages.__file__).parents[1].rglob("*.py"):
        text = path.read_text()
        assert not any(f"<{tag}" in text for tag in ("td", "tr>", "div", "html", "span", "table>", "h1", "p>")), path
