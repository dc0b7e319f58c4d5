"""Packs of icons: only licences that a corpus may hold."""

from __future__ import annotations

from curation.corpora.icon_packs import simple_icons


def test_no_logo_that_may_not_be_sold_or_changed() -> None:
    licences = {drawing.licence for drawing in simple_icons()}
    assert "CC0-1.0" in licences
    assert not [licence for licence in licences if "-NC" in licence or "-ND" in licence or "/" in licence]
