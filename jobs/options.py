"""Options and arguments that several commands share."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

import click

#: A function that becomes a command, or a command already: what click's own decorators take and return.
Command = TypeVar("Command", bound=Callable[..., Any] | click.Command)


class FloatRange(click.FloatRange):
    """A range of finite numbers; rejects `nan`, which click accepts."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(value, param, ctx)
        if not isfinite(found):
            self.fail(f"{value} is not a finite number", param, ctx)
        return found


recipe_argument = click.argument("recipe", type=click.Path(dir_okay=False))
dataset_argument = click.argument("dataset", metavar="OUT[@N]")
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE",
    help="Override a key of the recipe, e.g. filters.top_fraction.fraction=0.2 (repeatable).",
)  # fmt: skip


def _reserve_stdout(context: click.Context, option: click.Parameter, as_json: bool) -> bool:
    """Reserve stdout for the answer: what models and libraries print meanwhile goes to stderr."""
    if as_json:
        context.meta[_STDOUT] = sys.stdout
        context.with_resource(redirect_stdout(sys.stderr))
    return as_json


_STDOUT = f"{__name__}.stdout"
json_option = click.option(
    "--json", "as_json", is_flag=True, callback=_reserve_stdout, help="Print JSON, and nothing else, to stdout.",
)  # fmt: skip


def print_json(document: Any) -> None:
    """Print the answer of a command with `--json`."""
    click.echo(json.dumps(document, indent=2), file=click.get_current_context().meta[_STDOUT])


def html_option(about: str) -> Callable[[Command], Command]:
    """Return the option `--html` of a command; it fails before any work if the page's folder does not exist."""

    def check(context: click.Context, option: click.Parameter, path: str | None) -> str | None:
        if path and not Path(path).resolve().parent.is_dir():
            raise click.BadParameter(f"the folder {Path(path).parent} does not exist", context, option)
        return path

    return click.option("--html", type=click.Path(dir_okay=False, writable=True), callback=check, help=about)
