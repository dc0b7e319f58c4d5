"""`curate rooms`, and the pages that are made from the same tables."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from curation.core.errors import UnknownNameError
from curation.recipes.yaml_document import Where, build_entry
from jobs.commands import rooms

ROOT = Path(__file__).parents[3]


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
            assert all(f"| `{field.name}` |" in text for field in dataclasses.fields(cls))


def test_json_has_what_the_text_has() -> None:
    assert {title: room["entries"] for title, room in json.loads(invoke("--json")).items()} == {
        room: sorted(rooms.table(room)) for room in rooms.ROOMS
    }
    for room in rooms.ROOMS:
        documents = json.loads(invoke(room, "--json"))
        assert [one["name"] for one in documents] == sorted(rooms.table(room))
        for one in documents:
            assert json.loads(invoke(room, one["name"], "--json")) == one
            text = invoke(room, one["name"])
            assert one["description"] in text and one["example"] in text
            given = {field.name: field.default for field in dataclasses.fields(rooms.table(room)[one["name"]])}
            assert [field["name"] for field in one["fields"]] == list(given)
            required = {field["name"] for field in one["fields"] if field["required"]}
            assert required == {name for name, value in given.items() if value is dataclasses.MISSING}


@pytest.mark.parametrize("room", rooms.ROOMS)
def test_every_entry_has_its_cost_and_an_example_that_can_be_copied(room: str) -> None:
    """An example shortens a sha256 at its end."""
    for name, cls in rooms.table(room).items():
        about, example = rooms.parts(room, cls)
        assert "ost" in about and len(about.splitlines()) > 1, name
        written = yaml.safe_load(example.replace("9f2c...", "9f2c" * 16))
        (entry,) = written if isinstance(written, list) else written.values()
        assert list(entry) == [name]
        build_entry(entry, rooms.table(room), Where("example", {}), (), room)
        assert f"```yaml\n{example}\n```" in invoke(room, name)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(UnknownNameError) as error:
        invoke("scorers", "clip_skore")
    assert error.value.fix == "did you mean clip_score?"
