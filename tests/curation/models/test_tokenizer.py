"""Token ids as open_clip's, in bounded time and memory."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from curation.core.errors import UserError
from curation.models import bounded_tokenizer
from curation.models.architecture import hub_errors
from curation.models.bounded_tokenizer import BoundedTokenizer
from curation.models.tokenizer import tokenizer_for


@cache
def reference() -> Any:
    """Return open_clip's tokenizer, whose import takes 8 seconds of CPU."""
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer(context_length=32)


OURS = BoundedTokenizer(context_length=32)


PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=300)


@given(st.text(max_size=300) | PRINTABLE)
@example("<start_of_text> two <END_OF_TEXT>")
@example("it&apos;s   &lt;b&gt;")
@example(" it's\t1984\n")
def test_the_same_ids_as_open_clip(caption: str) -> None:
    assert torch.equal(OURS([caption]), reference()([caption]))


@pytest.mark.parametrize("caption", ["a" * 1_000_000, "漢字" * 100_000, "é" * 50_000, "&amp;" * 100_000, "\0" * 10_000])
def test_hostile_captions_cost_little(caption: str, monkeypatch: pytest.MonkeyPatch) -> None:
    merge, work = BoundedTokenizer.bpe, []

    def counted(self: BoundedTokenizer, symbols: str) -> list[str]:
        work.append(len(symbols) ** 2)  # open_clip's merging is quadratic in the length of a word
        return merge(self, symbols)

    monkeypatch.setattr(BoundedTokenizer, "bpe", counted)
    ids = tokenizer_for("proxy-ti")([caption])
    assert ids.shape == (1, 32)
    assert sum(work) <= 8 * bounded_tokenizer.MAX_WORD_BYTES**2  # 1,024 characters of at most 4 bytes


def test_words_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_tokenizer, "MAX_CACHED_WORDS", 100)
    ours = BoundedTokenizer(context_length=32)
    for number in range(300):
        ours([f"word{chr(97 + number % 26)}{'x' * (number % 50)}{chr(97 + number // 26)}"])
    assert len(ours.ids) <= 101
    assert torch.equal(ours(["<start_of_text> cat"]), reference()(["<start_of_text> cat"]))


@pytest.mark.parametrize("error", [ImportError("No module named 'transformers'"), OSError("offline\nsecond line")])
def test_the_hub_fails_in_one_line(error: Exception) -> None:
    with pytest.raises(UserError, match="SigLIP") as caught, hub_errors("SigLIP", "the tokenizer"):
        raise error
    assert "\n" not in str(caught.value) and caught.value.fix
