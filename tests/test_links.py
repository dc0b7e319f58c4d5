"""Every relative link of every Markdown page leads to a file of the repository, and to a heading of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path
    for folder in ("", "docs", "docs/results", "curation", "actors", "jobs", "deploy", "tests")
    for path in (ROOT / folder).glob("*.md" if folder in ("", "docs", "docs/results") else "**/*.md")
)
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)")


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target, anchor in LINK.findall(text):
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{target} does not exist"
        assert not anchor or anchor in anchors(path), f"{target} has no heading #{anchor}"


def test_anchors_of_headings() -> None:
    assert "your-first-scorer-in-ten-minutes" in anchors(ROOT / "CONTRIBUTING.md")


def test_the_tests_of_defects_exist() -> None:
    named = set(re.findall(r"`([\w/]*test_\w+\.py)`", (ROOT / "docs/attack.md").read_text(encoding="utf-8")))
    assert named and [name for name in sorted(named) if not (ROOT / "tests" / name).exists()] == []
