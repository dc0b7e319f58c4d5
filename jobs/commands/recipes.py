"""`curate recipes`: published ways to filter, as recipes with a few placeholders."""

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
    """List, show and fill in recipes of published baselines."""


@recipes.command("ls", epilog="\b\nExample:\n  curate recipes ls")
@json_option
def recipes_ls(as_json: bool) -> None:
    """List the recipes: what each does, and its placeholders."""
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
@click.option(
    "--fill",
    "values",
    multiple=True,
    metavar="KEY=VALUE",
    help="Replace the placeholder {KEY} by a value (repeatable).",
)
def recipes_show(name: str, values: tuple[str, ...]) -> None:
    """Print a recipe. Its first lines name its source and what it requires."""
    from curation.core.errors import UnknownNameError
    from curation.recipes.yaml_overrides import nearest_name

    found = recipe_library()
    if name not in found:
        near = nearest_name(name, found)
        fix = f"did you mean {near}?" if near else f"choose one of: {', '.join(found)}"
        raise UnknownNameError(f"no recipe is named {name}", fix=fix)
    click.echo(fill(found[name], values), nl=False)


def recipe_library() -> Mapping[str, str]:
    """Return the text of every recipe in the package, by name."""
    paths = sorted(files("jobs").joinpath("recipes").iterdir(), key=lambda path: path.name)
    return {path.name.removesuffix(".yaml"): path.read_text() for path in paths if path.name.endswith(".yaml")}


def about(text: str) -> str:
    """Return the first sentence of a recipe's leading comment."""
    comment = takewhile(lambda line: line.startswith("#"), text.splitlines())
    return " ".join(line.removeprefix("#").strip() for line in comment).partition(". ")[0]


def needs(text: str) -> list[str]:
    """Return the placeholders of a recipe, in order of appearance."""
    return list(dict.fromkeys(PLACEHOLDER.findall(text)))


def fill(text: str, values: Sequence[str]) -> str:
    """Return the recipe with placeholders replaced by quoted values. Raises `UnknownNameError` for an unknown key.

    `values`: KEY=VALUE, as on the command line.
    """
    from curation.core.errors import UnknownNameError, UserError

    given: dict[str, Any] = {}
    for value in values:
        key, sign, filled = value.partition("=")
        if not sign:
            raise UserError(f"--fill {value} has no value", fix=f"write --fill {value}=VALUE")
        given[key] = filled

    for key in given:
        if key not in needs(text):
            raise UnknownNameError(
                f"the recipe has no placeholder {{{key}}}", fix=f"choose one of: {', '.join(needs(text))}"
            )
    return PLACEHOLDER.sub(
        lambda match: json.dumps(given[match[1]], ensure_ascii=False) if match[1] in given else match[0], text
    )
