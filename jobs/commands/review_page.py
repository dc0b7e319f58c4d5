"""`curate review serve`: the review page in a browser."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import click

from jobs.commands.review_answers import open_queue_at, queue_argument

TOKEN = "CURATE_CONSOLE_TOKEN"


@click.command(
    epilog="\b\nExamples:\n  curate review serve demo/queue --reviewer ann\n"
    "  curate review serve s3://curated/queue --host 0.0.0.0 --token-file token.txt"
)
@queue_argument
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS",
              help="Address to bind to. One that is not loopback needs a token.")  # fmt: skip
@click.option("--port", default=8787, show_default=True, type=click.IntRange(0, 65535), help="0: any free port.")
@click.option("--reviewer", default="", metavar="NAME", help="Reviewer who answers. Default: the page asks.")
@click.option("--token-file", type=click.Path(dir_okay=False, exists=True),
              help=f"File with the token that the page asks for. Default: the variable {TOKEN}.")  # fmt: skip
@click.option("--every", type=click.IntRange(0), metavar="N",
              help="Rank the items left again after every N answers, in another process. 0: never; `curate review "
              "rerank` does it from elsewhere. Default: as the queue says.")  # fmt: skip
def serve(queue: str, host: str, port: int, reviewer: str, token_file: str | None, every: int | None) -> None:
    """Serve a page on which reviewers label the items of a queue, by keyboard.

    One key a label, Space for "can't tell", Backspace to undo. A killed server loses no answer; several servers may
    serve one queue. A server picks up a newer order of the items within seconds, also of another process. Speaks HTTP:
    elsewhere than on this machine, put a proxy with TLS in front.
    """
    from curation.core.errors import UserError
    from curation.core.progress import progress
    from curation.review.documents import reviewer_name
    from curation.review.session import Session

    try:
        from jobs.console import ranking, server
    except ModuleNotFoundError as error:
        fix = "install the extra: pip install 'tutelage[console]'"
        raise UserError(f"the page needs {error.name}, which is not installed", fix=fix) from None

    token = Path(token_file).read_text(encoding="utf-8").strip() if token_file else os.environ.get(TOKEN, "")
    name = reviewer_name(reviewer) if reviewer else ""
    opened = open_queue_at(queue)
    pin = opened.document.reranking
    if every and pin is None:
        fix = "build the queue with --every, or serve it without, and run: curate review rerank QUEUE --weights ..."
        raise UserError(f"{queue} names no classifiers that could rank it again", fix=fix)
    every = every if every is not None else pin.every if pin is not None else 0
    with progress("Reading answers", opened.document.items.rows, "items") as tick:
        session = Session(opened, tick)
    with closing(session), ranking.background(session, queue, every):
        server.serve(session, host, port, token=token, reviewer=name, ready=_say)


def _say(url: str) -> None:
    click.echo(f"review page: {url} (Ctrl-C stops it)")
