"""The page of `curate review report --html`: figures, the curve of correct labels, and corrections as pictures.

One file that loads nothing. Pictures are decoded and encoded again, at most 144 pixels: ten of them are at most
0.8 MB. Every table row, figure and caption that has a number names recorded or simulated annotators, if they answered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from math import floor, log10
from typing import NamedTuple

from curation.annotators.attribution import ABOUT
from curation.review.answer_curve import AnswerCurve
from curation.review.queue import Queue
from curation.review.report_facts import OUTCOMES, ReviewReport
from curation.shards.sample_reader import SampleReader
from curation.storage.store import open_store
from jobs.pages.rendering import render
from jobs.pages.sample_pictures import Picture, picture_at

MOST_ROWS = 50  # of a table
ROWS_OF_CURVE = 11  # of the table beside the curve
WIDTH, HEIGHT = 760.0, 300.0  # of the curve, in units of its picture
LEFT, RIGHT, TOP, BOTTOM = 56.0, 150.0, 16.0, 46.0  # margins: numbers, names of the lines, nothing, numbers and title
APART = 15.0  # units between the names of two lines, at least


class Tick(NamedTuple):
    """A mark of an axis: its place in the picture, and its number."""

    place: float
    number: int


class Drawing(NamedTuple):
    """A curve as a template draws it. `random`: the points of the straight line, "" if it is not defined.

    `ends`: heights of the names of both lines at their right end.
    """

    correct: str
    random: str
    x: Sequence[Tick]
    y: Sequence[Tick]
    ends: tuple[float, float]
    rows: Sequence[tuple[int, int, float | None]]


def page(report: ReviewReport, pictures: Mapping[int, Picture]) -> str:
    """Return the page of a report. pictures: by item, of its corrections."""
    classes = sorted(report.classes.items(), key=lambda entry: -entry[1]["changed"])
    return render(
        "review_report.html",
        report=report,
        pictures=pictures,
        drawing=None if report.curve is None else draw(report.curve),
        width=WIDTH, height=HEIGHT, left=LEFT, right=WIDTH - RIGHT, top=TOP, bottom=HEIGHT - BOTTOM,
        outcomes=OUTCOMES,
        classes=classes[:MOST_ROWS],
        changes=list(islice(report.changes.items(), MOST_ROWS)),
        reviewers=list(islice(report.reviewers.items(), MOST_ROWS)),
        most=MOST_ROWS,
        about=ABOUT,
    )  # fmt: skip


def pictures_of(queue: Queue, report: ReviewReport) -> dict[int, Picture]:
    """Return the pictures of a report's corrections, by item. Costs a ranged read and a decode each."""
    with SampleReader(open_store(queue.document.corpus, queue.store.options)) as reader:
        limits = queue.document.decoding
        return {one.item: picture_at(reader, queue.row(one.item), limits) for one in report.corrections}


def draw(curve: AnswerCurve) -> Drawing:
    """Return a curve in the units of its picture, and some of its points for a table."""
    points, last = curve.points, curve.points[-1]
    values = [point.correct for point in points] + [round(point.random) for point in points if point.random is not None]
    y = _numbers(min(values), max(values))
    x = _numbers(0, max(1, last.answers))

    def across(n: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * n / max(1, last.answers)

    def up(n: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (n - y[0]) / (y[-1] - y[0])

    def line(pairs: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{across(a):.1f},{up(b):.1f}" for a, b in pairs)

    random = [(float(point.answers), point.random) for point in (points[0], last) if point.random is not None]
    ends = _apart(up(last.correct), up(random[-1][1])) if random else (up(last.correct), 0.0)
    places = sorted({round(n * (len(points) - 1) / (ROWS_OF_CURVE - 1)) for n in range(ROWS_OF_CURVE)})
    return Drawing(
        line([(float(point.answers), float(point.correct)) for point in points]),
        line(random) if len(random) > 1 else "",
        [Tick(across(n), n) for n in x if n <= last.answers],
        [Tick(up(n), n) for n in y],
        ends,
        [points[place] for place in places],
    )


def _numbers(low: int, high: int) -> list[int]:
    """Return round whole numbers, three to seven of them, that cover low to high."""
    rough = max(1.0, (high - low) / 4)
    unit = 10 ** floor(log10(rough))
    step = max(1, next(int(unit * times) for times in (1, 2, 5, 10) if unit * times >= rough))
    first = low // step * step
    return list(range(first, max(-(-high // step), first // step + 1) * step + 1, step))


def _apart(one: float, other: float) -> tuple[float, float]:
    """Return two heights, moved apart to `APART` units if they are closer."""
    missing = APART - abs(one - other)
    if missing <= 0:
        return one, other
    sign = 1 if one > other else -1
    return one + sign * missing / 2, other - sign * missing / 2
