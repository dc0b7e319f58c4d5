"""`curate rooms`, and the pages that are made from the same tables."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from curation.errors import UnknownNameError
from jobs import rooms

ROOT = Path(__file__).parents[2]


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(rooms.rooms, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_pages_are_up_to_date(tmp_path: Path) -> None:
    for room in rooms.ROOMS:
        (tmp_path / "curation" / room).mkdir(parents=True)
        shutil.copy(ROOT / "curation" / room / "README.md", tmp_path / "curation" / room)
    assert rooms.write_pages(tmp_path) == [], "make docs"


def test_all_rooms_and_one_and_one_entry() -> None:
    everything = invoke()
    for room in rooms.ROOMS:
        listing = invoke(room)
        for name, cls in rooms.table(room).items():
            assert name in everything and f"{name} " in listing
            text = invoke(room, name)
            assert text.startswith(f"### {name}\n") and rooms.first_line(cls) in text
            assert all(f"| `{field}` |" in text for field in getattr(cls, "__dataclass_fields__", {}))


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(UnknownNameError) as error:
        invoke("scorers", "clip_skore")
    assert error.value.fix == "did you mean clip_score?"
