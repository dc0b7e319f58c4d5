"""`curate learn`: train a learner on a curated snapshot and say how good it got."""

from __future__ import annotations

import json
from typing import Any

import click

from jobs.proxy import training_options


@click.command(epilog="\b\nExamples:\n  curate learn demo/curated --out demo/learned\n"
               "  curate learn s3://curated/everyday@7 --model ViT-B-32 --device cuda --precision bf16 "
               "--eval s3://pool/test --out s3://runs/7")  # fmt: skip
@click.argument("snapshot", metavar="SNAPSHOT[@N]")
@click.option("--model", default="proxy-mu", show_default=True, help="`curate proxy ls --all` lists them.")
@click.option("--out", required=True, metavar="URL", help="Directory for weights, metrics.jsonl and summary.json.")
@click.option("--eval", "evaluation", metavar="URL", help="Evaluate on the held-out part of this corpus instead.")
@click.option("--steps", default=500, show_default=True, type=click.IntRange(1), help="Updates.")
@training_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
def learn(snapshot: str, as_json: bool, **arguments: Any) -> None:
    """Train a CLIP on a snapshot with uniform sampling, and evaluate retrieval and zero-shot accuracy.

    The split is by the hash of a sample's name, so that what a proxy trained with the same --holdout has not seen, the
    learner doesn't see either, and two snapshots of one corpus are compared on the same names with --eval CORPUS.
    """
    from jobs.proxy import training_job

    job = training_job(data=snapshot, **arguments)
    from curation.store import open_store
    from jobs.training import report, run

    card = run(job)
    store = open_store(job.out)
    if not card["reused"]:
        store.put("summary.json", json.dumps(card, indent=2).encode())
    click.echo(json.dumps(card, indent=2) if as_json else f"{report(card)}\nmetrics  {store.location('metrics.jsonl')}")
