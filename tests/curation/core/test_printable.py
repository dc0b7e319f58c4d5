"""Text from data on a terminal: nothing that it obeys or hides, and all that people read."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.core.printable import printable, printable_lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text-01.tar", "plain text-01.tar"),
        ("日本の山 café 👩‍💻", "日本の山 café 👩‍💻"),
        ("\x1b[2J\x1b]0;owned\x07", "\\x1b[2J\\x1b]0;owned\\x07"),
        ("a\nb\r\tc", "a\\x0ab\\x0d\\x09c"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\x9b31m\x00", "\\x9b31m\\x00"),
        ("\u2028\ufeff\U000e0041", "\\u2028\\ufeff\\U000e0041"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_a_terminal_obeys_or_hides_is_written_out(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_no_control_character_is_left_and_it_can_be_encoded(text: str) -> None:
    shown = printable(text)
    assert not any(unicodedata.category(letter) in {"Cc", "Zl", "Zp", "Cs"} for letter in shown)
    shown.encode()
    assert printable(shown) == shown


def test_lines_stay_lines() -> None:
    assert printable_lines(["a\nb", 3]) == "a\\x0ab\n3"
