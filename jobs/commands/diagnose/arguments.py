"""Options that the commands of `curate diagnose` share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from curation.core.executor import Executor
from jobs.engine import Choice, connected, connected_executor, executor_option, named

Command = TypeVar("Command", bound=Callable[..., Any])

model_argument = click.argument("model")
failures_option = click.option(
    "--failures", "failures_file", required=True, metavar="FILE", help="Of `curate diagnose failures`."
)
data_option = click.option("--data", required=True, metavar="URL", help="Shards, or a snapshot (URL@N).")
label_option = click.option(
    "--label", default="name", show_default=True, metavar="FIELD", help="Field of a sample's json that holds its label."
)
against_option = click.option(
    "--against", metavar="PAIRS", help="For a dual encoder: the fixed pairs among which a pair's loss is taken, a file "
    "of `curate proxy vectors` with the same weights.",
)  # fmt: skip


def failed_model_options(command: Command) -> Command:
    """Add MODEL, its failures, the data that it was trained on, and the field of their labels."""
    return model_argument(failures_option(data_option(label_option(command))))


def scores_option(command: Command) -> Command:
    """Add --scores, and where scoring works: --executor and --address."""
    options = (
        click.option(
            "--scores", metavar="URL",
            help="Folder of score tables; equal models and data share them. Default: `scores` beside --out.",
        ),
        executor_option,
        click.option("--address", help="Ray cluster to score on. Default: RAY_ADDRESS, else this machine."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@contextmanager
def scoring_on(executor: str, address: str | None) -> Iterator[Executor]:
    """Use the executor that the options name; by default this machine, or the cluster of this process."""
    choice = named(executor, address) or connected() or Choice("local", "no cluster is named")
    click.echo(str(choice), err=True)
    with connected_executor(choice, address) as on:
        yield on


def beside(out: str) -> str:
    """Return the default folder of score tables: `scores` beside `out`."""
    head, slash, _ = out.rstrip("/").rpartition("/")
    return f"{head}{slash}scores"
