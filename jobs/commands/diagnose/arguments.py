"""Options that the commands of `curate diagnose` share."""

from __future__ import annotations

import click

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
scores_option = click.option(
    "--scores", metavar="URL",
    help="Folder of score tables; equal models and data share them. Default: `scores` beside --out.",
)  # fmt: skip


def beside(out: str) -> str:
    """Return the default folder of score tables: `scores` beside `out`."""
    head, slash, _ = out.rstrip("/").rpartition("/")
    return f"{head}{slash}scores"
