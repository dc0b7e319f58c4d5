"""`curate review rerank`: rank the items of a queue that are left again, by classifiers fine-tuned on the answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from jobs.options import Command, json_option, print_json

if TYPE_CHECKING:
    from curation.review.orders import Order
    from curation.review.queue import Queue

_OPTIONS = (
    click.option("--weights", metavar="URL", help="Classifiers of folds that rank, fine-tuned on the answers. Default: "
                 "those that the queue was built with."),
    click.option("--sha256", metavar="SHA256", help="SHA-256 of --weights."),
    click.option("--by", type=click.Choice(["active", "error", "margin", "disagreement"]),
                 help="Priority, as of the filter doubtful_labels. Default: that of the queue, else active."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ..."),
    click.option("--threads", default=0, help="CPU threads. Default: one per core, at most 8."),
)  # fmt: skip


def classifier_options(command: Command) -> Command:
    """Add the options that name what ranks again; `rerank` and `annotate` share them."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def ranking(
    queue: Queue, *, weights: str | None, sha256: str | None, by: Any, device: str, threads: int
) -> Callable[[], Order]:
    """Return a function that ranks the items left of a queue, and stores the order."""
    from curation.core.progress import progress
    from curation.models import Weights
    from curation.models.devices import pick_device, use_threads
    from curation.review.reranking import rank_again, ranker_of

    if (weights is None) != (sha256 is None):
        raise click.UsageError("--weights and --sha256 must be given together")
    file = None if weights is None or sha256 is None else Weights(weights, sha256)
    ranker = ranker_of(queue, pick_device(device), weights=file, priority=by)

    def rank() -> Order:
        use_threads(threads)
        with progress("Ranking again", queue.document.items.rows, "items") as tick:
            return rank_again(queue, ranker, tick)

    return rank


@click.command(
    epilog="\b\nExamples:\n  curate review rerank demo/queue --every 1000\n"
    "  curate review rerank demo/queue --weights demo/folds/proxy-mu-folds.safetensors --sha256 9f2c..."
)
@click.argument("queue", metavar="QUEUE")
@click.option("--every", default=0, metavar="N", type=click.IntRange(0),
              help="Rank only if N more answers are there than at the last ranking. Default: rank now.")  # fmt: skip
@classifier_options
@json_option
def rerank(queue: str, every: int, as_json: bool, **classifiers: Any) -> None:
    """Rank the items that are left again, by classifiers that are fine-tuned on the answers.

    No classifier trains on a picture that it judges. The order is stored in the queue: servers and annotators pick it
    up. Run it by hand or from a schedule, beside any number of servers. Repeated without new answers, it changes
    nothing. The line on changes counts the next 100 items that are others than before.
    """
    from curation.annotators.attribution import attributed, who_answered
    from curation.review.orders import is_due, newest_order
    from curation.review.queue import open_queue
    from curation.review.reranking import change_lines
    from curation.review.status import status_of

    opened = open_queue(queue)
    rank = ranking(opened, **classifiers)
    newest = newest_order(opened)
    status = status_of(opened)
    due = not every or is_due(newest, status.spent, every)
    order = rank() if due else newest
    about = who_answered(status.reviewers)
    if as_json:
        document = None if order is None else order.document.to_json()
        print_json(
            {
                "queue": opened.sha256,
                "annotators": about,
                "created": order is not None and order.created,
                "order": document,
            }
        )
    elif order is None or not order.created:
        last = "none yet" if order is None else f"the last one: order {order.document.number}"
        click.echo(f"nothing to rank again ({last})")
    else:
        click.echo("\n".join(attributed(about, change_lines(order))))
