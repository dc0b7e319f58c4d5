"""`curate diagnose`: from a model's failures to the training samples behind them.

One command a file; `arguments` holds the options that they share. Only `jobs.cli` imports the group.
"""

from __future__ import annotations

import click

from jobs.commands.diagnose.collect import collect
from jobs.commands.diagnose.erase import erase
from jobs.commands.diagnose.failures import failures
from jobs.commands.diagnose.repair import repair
from jobs.commands.diagnose.report import report
from jobs.commands.diagnose.trace import trace
from jobs.commands.diagnose.types import types

__all__ = ["diagnose"]


@click.group(
    epilog="\b\nExamples:\n  curate diagnose failures demo/learned --data s3://field/may --out failures.parquet\n"
    "  curate diagnose trace demo/learned --failures failures.parquet --data demo/curated@2 --out trace\n"
    "  curate diagnose repair demo/learned --failures failures.parquet --data demo/curated@2 --out repaired\n"
    "  curate diagnose erase demo/learned --failures failures.parquet --data demo/curated@2 "
    "--drops trace/drops.parquet --out erased"
)
def diagnose() -> None:
    """Trace a model's failures to the training samples behind them, and repair the model.

    MODEL is a model of `curate learn`: its folder, or its safetensors file. All commands take classifiers; `failures`
    and `trace` also take dual encoders (--against).
    """


for command in (failures, trace, types, collect, repair, erase, report):
    diagnose.add_command(command)
