"""Captions: one line, never empty."""

from __future__ import annotations

from curation.corpora.captions import caption
from curation.corpora.drawing import Drawing, SeededChoices
from curation.corpora.pictures import look


def test_every_caption_is_one_line(drawings: list[Drawing]) -> None:
    for drawing in drawings[::5]:
        dice = SeededChoices(0, drawing.key)
        text = caption(drawing, look(drawing, dice), dice)
        assert len(text.splitlines()) == 1
        assert text.strip() == text
