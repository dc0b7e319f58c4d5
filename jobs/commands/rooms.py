"""`curate rooms`: the entries that a recipe can name, read from the rooms' tables; also generates the docs pages."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import click

from jobs.options import json_option, print_json

ROOMS = {
    "scorers": "compute a column of numbers for all samples",
    "filters": "drop samples, each with a reason",
    "learners": "train one kind of model on the chosen samples",
    "selectors": "choose the part of each super-batch that a learner trains on",
}
#: Rooms of which a recipe names one entry, below this key; a recipe lists the entries of the others.
KEYS = {"learners": "learner", "selectors": "selector"}

WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "nothing"}


@click.command(epilog="\b\nExamples:\n  curate rooms\n  curate rooms scorers\n  curate rooms filters top_fraction")
@click.argument("room", required=False, type=click.Choice(sorted(ROOMS)))
@click.argument("name", required=False)
@json_option
def rooms(room: str | None, name: str | None, as_json: bool) -> None:
    """List scorers, filters, learners and selectors, or explain one of them."""
    if room is None:
        if as_json:
            print_json({title: {"about": about, "entries": sorted(table(title))} for title, about in ROOMS.items()})
            return
        for title, about in ROOMS.items():
            click.echo(f"{title}: {about}\n  {', '.join(sorted(table(title)))}")
        return
    if name is None:
        entries = sorted(table(room).items())
        if as_json:
            print_json([document(room, key, cls) for key, cls in entries])
            return
        width = max(len(key) for key, _ in entries)
        for key, cls in entries:
            click.echo(f"{key:<{width}}  {first_line(cls)}")
        return
    cls = _named(room, name)
    if as_json:
        print_json(document(room, name, cls))
    else:
        click.echo(entry(room, name, cls))


def _named(room: str, name: str) -> type[Any]:
    """Return an entry's class. Raises `UnknownNameError` with the nearest name."""
    entries = table(room)
    if name not in entries:
        from curation.core.errors import UnknownNameError
        from curation.recipes.yaml_overrides import nearest_name

        near = nearest_name(name, entries)
        fix = f"did you mean {near}?" if near else f"choose one of: {', '.join(sorted(entries))}"
        raise UnknownNameError(f"the room {room} has no entry {name}", fix=fix)
    return entries[name]


def table(room: str) -> Mapping[str, type[Any]]:
    """Return the classes of a room, by name."""
    from importlib import import_module

    found: Mapping[str, type[Any]] = getattr(import_module(f"curation.{room}"), room.upper())
    return found


def page(room: str) -> str:
    """Return all entries of a room as Markdown: the generated part of its README."""
    return "\n\n".join(entry(room, name, cls) for name, cls in sorted(table(room).items())) + "\n"


def write_pages(root: Path) -> list[Path]:
    """Update the generated part of each room's README; return the files that changed."""
    changed = []
    for room in ROOMS:
        path = root / "curation" / room / "README.md"
        text = path.read_text()
        head, _, _ = text.partition("\n## All of them\n")
        intro = f"\n`make docs` generates this part from the table; `curate rooms {room} NAME` prints one entry.\n\n"
        wanted = head.rstrip("\n") + "\n\n## All of them\n" + intro + page(room)
        if wanted != text:
            path.write_text(wanted)
            changed.append(path)
    return changed


def entry(room: str, name: str, cls: type[Any]) -> str:
    """Return one entry as Markdown: its description, its example, then its fields."""
    fields = dataclasses.fields(cls)
    about, example = parts(room, cls)
    lines = [f"### {name}", "", about]
    if example:
        lines += ["", "```yaml", example, "```"]
    if fields:
        lines += ["", "| field | kind | default |", "|---|---|---|"]
        kinds = get_type_hints(cls)
        lines += [f"| `{item.name}` | {_kind(kinds[item.name])} | {_default(item)} |" for item in fields]
    return "\n".join(lines)


def document(room: str, name: str, cls: type[Any]) -> dict[str, Any]:
    """Return one entry for `--json`: name, description, example, and each field's kind and default."""
    kinds = get_type_hints(cls)
    about, example = parts(room, cls)
    fields = []
    for item in dataclasses.fields(cls):
        required = item.default is dataclasses.MISSING
        value = {} if required else {"default": item.default}
        kind = _kind(kinds[item.name]).replace("`", "")
        fields.append({"name": item.name, "kind": kind, "required": required, **value})
    return {"room": room, "name": name, "description": about, "example": example, "fields": fields}


def parts(room: str, cls: type[Any]) -> tuple[str, str]:
    """Return an entry's description and its example, as a recipe would contain it; "" for an entry without one."""
    about, _, example = inspect.cleandoc(cls.__doc__ or "").partition("Example: ")
    if not example:
        return about.rstrip(), ""
    key = KEYS.get(room)
    return about.rstrip(), f"{key}: {{{example.rstrip()}}}" if key else f"- {example.rstrip()}"


def first_line(cls: type[Any]) -> str:
    """Return the first line of an entry's description."""
    return inspect.cleandoc(cls.__doc__ or "").partition("\n")[0]


def _kind(kind: Any) -> str:
    if dataclasses.is_dataclass(kind):
        return "{" + ", ".join(f"`{item.name}`" for item in dataclasses.fields(kind)) + "}"
    if get_origin(kind) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(kind))
    if get_origin(kind) is tuple:
        return f"list of {_kind(get_args(kind)[0])}"
    if get_args(kind):
        return " or ".join(map(_kind, get_args(kind)))
    return WORDS.get(kind, str(getattr(kind, "__name__", kind)).lower())


def _default(item: dataclasses.Field[Any]) -> str:
    if item.default is dataclasses.MISSING:
        return "required"
    if item.default is None:
        return "nothing"
    return f"`{item.default if isinstance(item.default, str) else json.dumps(item.default)}`"  # as in YAML


if __name__ == "__main__":
    for changed_page in write_pages(Path(__file__).parents[2]):
        print(f"updated: {changed_page}")
