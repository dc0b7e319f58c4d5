"""`curate recipes`: the published ways to filter, as recipes that are ready to be filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from itertools import takewhile
from typing import Any

import click

from jobs.options import json_option, print_json

PLACEHOLDER = re.compile(r'"\{(\w+)\}"')


@click.group()
def recipes() -> None:
    """Recipes of published baselines, to begin with: list, show, fill in."""


@recipes.command("ls", epilog="\b\nExample:\n  curate recipes ls")
@json_option
def recipes_ls(as_json: bool) -> None:
    """List the recipes: what each does, and what has to be filled in."""
    rows = [{"name": name, "about": about(text), "needs": needs(text)} for name, text in recipe_library().items()]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        click.echo(f"{row['name']}\n  {row['about']}\n  to fill in: {', '.join(row['needs']) or 'nothing'}")


SHOW_EXAMPLES = """\b
Examples:
  curate recipes show datacomp-basic > recipe.yaml
  curate recipes show datacomp-basic --fill corpus=demo/corpus --fill output=demo/basic > recipe.yaml
"""


@recipes.command("show", epilog=SHOW_EXAMPLES)
@click.argument("name")
@click.option("--fill", "values", multiple=True, metavar="KEY=VALUE", help="Fill in a {key} (repeatable).")
def recipes_show(name: str, values: tuple[str, ...]) -> None:
    """Print a recipe, to be saved and run; it says what it needs, and where it comes from."""
    from curation.core.errors import UnknownNameError
    from curation.recipes.yaml_overrides import nearest

    found = recipe_library()
    if name not in found:
        near = nearest(name, found)
        fix = f"did you mean {near}?" if near else f"there are: {', '.join(found)}"
        raise UnknownNameError(f"there is no recipe {name}", fix=fix)
    click.echo(fill(found[name], values), nl=False)


def recipe_library() -> Mapping[str, str]:
    """Return the text of every recipe in the package, by name."""
    paths = sorted(files("jobs").joinpath("recipes").iterdir(), key=lambda path: path.name)
    return {path.name.removesuffix(".yaml"): path.read_text() for path in paths if path.name.endswith(".yaml")}


def about(text: str) -> str:
    """The first sentence of what a recipe says of itself."""
    comment = takewhile(lambda line: line.startswith("#"), text.splitlines())
    return " ".join(line.removeprefix("#").strip() for line in comment).partition(". ")[0]


def needs(text: str) -> list[str]:
    """The placeholders, in the order in which they stand there."""
    return list(dict.fromkeys(PLACEHOLDER.findall(text)))


def fill(text: str, values: Sequence[str]) -> str:
    """The recipe with placeholders replaced; each value is quoted as YAML wants it. Raises `UnknownNameError`."""
    from curation.core.errors import UnknownNameError, UserError

    given: dict[str, Any] = {}
    for value in values:
        key, sign, filled = value.partition("=")
        if not sign:
            raise UserError(f"--fill {value} has no value", fix=f"--fill {value}=...")
        given[key] = filled

    for key in given:
        if key not in needs(text):
            raise UnknownNameError(f"there is no {{{key}}} in this recipe", fix=f"it has {', '.join(needs(text))}")
    return PLACEHOLDER.sub(
        lambda match: json.dumps(given[match[1]], ensure_ascii=False) if match[1] in given else match[0], text
    )
