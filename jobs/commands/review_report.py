"""`curate review report`: what a review changed, what it cost, and how far the reviewers agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curation.core.printable import printable
from jobs.commands.review_answers import open_queue_at, queue_argument
from jobs.options import html_option, json_option, print_json

if TYPE_CHECKING:
    from curation.review.report_facts import ReviewerCounts, ReviewReport
    from curation.review.status import QueueStatus

MOST_LINES = 20  # classes, changes and reviewers that the text lists


@click.command(
    epilog="\b\nExamples:\n  curate review report demo/queue --html report.html\n"
    "  curate review report demo/queue --truth votes.parquet --json"
)
@queue_argument
@click.option("--truth", metavar="URL", help="True labels: a Parquet table of uid and label, or of uid and votes.")
@html_option("Write a page with the figures, the curve, and the ten corrections of the highest rank as pictures.")
@json_option
def report(queue: str, truth: str | None, html: str | None, as_json: bool) -> None:
    """Report which labels a review changed, what it cost, and how far the reviewers agree.

    With --truth: the labels fixed, made worse and left, and the number of correct labels after each answer. Reads every
    answer once; safe to use while others review. Every line with a figure names recorded or simulated annotators.
    """
    from curation.annotators.true_labels import read_true_labels
    from curation.core.progress import progress
    from curation.review.report import report_of

    opened = open_queue_at(queue)
    known = None
    if truth:
        uids = opened.items.column("uid").to_pylist()
        known = read_true_labels(truth, "--truth", opened.document.classes, uids)
    with progress("Reading answers", opened.document.items.rows, "items") as tick:
        found = report_of(opened, known, tick)
    if html:
        from jobs.pages.review_report import page, pictures_of

        Path(html).write_text(page(found, pictures_of(opened, found)), encoding="utf-8")
    if as_json:
        print_json(found.to_json())
        return
    click.echo("\n".join(map(printable, report_lines(found))))
    warn(found.status, queue)


def warn(found: QueueStatus, queue: str) -> None:
    """Print what is wrong with answers, by reason, to stderr."""
    from curation.annotators.attribution import attributed, who_answered

    lines = [f"{n:>10,}  {why}: curate review verify {queue} lists them" for why, n in sorted(found.findings.items())]
    for line in attributed(who_answered(found.reviewers), lines):
        click.echo(printable(f"  {line}"), err=True)


def report_lines(found: ReviewReport) -> Iterator[str]:
    """Yield the report as lines of text; each names recorded or simulated annotators, if they answered."""
    from curation.annotators.attribution import attributed

    return attributed(found.annotators, _lines(found))


def _lines(found: ReviewReport) -> Iterator[str]:
    status, outcomes = found.status, found.outcomes
    yield f"items      {status.items:>10,}   by {found.ranked_by}"
    yield f"changed    {outcomes['changed']:>10,}   labels"
    yield f"confirmed  {outcomes['confirmed']:>10,}   labels"
    yield f"refused    {outcomes['refused']:>10,}   (a reviewer can't tell)"
    yield f"open       {outcomes['open']:>10,}   ({status.tied:,} with answers, but no class ahead)"
    if found.judgements is not None:
        yield from _truth(found, found.judgements)
    yield f"answers    {status.spent:>10,}   of {status.budget:,}{_kinds(found)}"
    per = {"changed": "a changed label", "corrected": "a corrected label (fixed, less those made worse)"}
    for name, value in found.cost.items():
        yield f"cost       {'-' if value is None else f'{value:.2f}':>10}   answers {per[name]}"
    agreement = found.agreement
    over = f"{agreement.items:,} items with {agreement.labels:,} labels of {agreement.reviewers:,} reviewers"
    if agreement.alpha is None:
        yield f"agreement  {'-':>10}   not defined: {agreement.undefined}"
    else:
        yield f"agreement  {agreement.alpha:>10.3f}   Krippendorff's alpha (nominal), over {over}"
    yield from _tables(found)


def _truth(found: ReviewReport, judged: Mapping[str, int]) -> Iterator[str]:
    before, now = found.correct
    yield f"fixed      {judged['fixed']:>10,}   labels were wrong, and are right now"
    yield f"made worse {judged['worse']:>10,}   labels were right, and are wrong now"
    yield f"left       {judged['left']:>10,}   labels were wrong, and are wrong still"
    yield f"correct    {now:>10,}   of {found.known:,} labels whose truth is known; {before:,} before"
    if found.curve is not None and found.curve.slope is not None:
        last = found.curve.points[-1]
        yield f"random     {last.random:>10,.1f}   correct labels, expected of {last.answers:,} answers in random order"
    for reason, count in found.truth_flaws.items():
        yield f"no truth   {count:>10,}   {reason}"


def _kinds(found: ReviewReport) -> str:
    from curation.annotators.attribution import ABOUT

    parts = [f"{count:,} of {ABOUT[kind]}" for kind, count in found.kinds.items()]
    return f" ({', '.join(parts)})" if parts else ""


def _tables(found: ReviewReport) -> Iterator[str]:
    """Yield the counts by class, the changes, and the counts by reviewer."""
    classes = sorted(found.classes.items(), key=lambda entry: -entry[1]["changed"])
    counts = (", ".join(f"{value:,} {key}" for key, value in row.items() if value) for _, row in classes)
    yield from _first("class", [f"{name[:40]}: {shown}" for (name, _), shown in zip(classes, counts, strict=True)])
    changes = found.changes.items()
    yield from _first("change", [f"{before[:40]} -> {after[:40]}: {n:,}" for (before, after), n in changes])
    yield from _first("reviewer", [f"{name}: {_work(found, one)}" for name, one in found.reviewers.items()])


def _work(found: ReviewReport, one: ReviewerCounts) -> str:
    text = f"{one.labels:,} labels, {one.cannot_tell:,} can't tell, {one.agreeing:,} of {one.decided:,} as decided"
    return text if found.judgements is None else f"{text}, {one.correct:,} of {one.judged:,} correct"


def _first(word: str, lines: Sequence[str]) -> Iterator[str]:
    yield from (f"{word:<10} {line}" for line in lines[:MOST_LINES])
    if len(lines) > MOST_LINES:
        yield f"{word:<10} and {len(lines) - MOST_LINES:,} more: --json lists them"
