"""A queue as CSV: one row an item, to be filled in with a spreadsheet, and read again.

Columns to fill in: `reviewer`, and `answer` or `cannot_tell` (yes). `item` and `queue` identify the row and must stay;
the others are information. A text that a spreadsheet would run as a formula gets an apostrophe in front.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator

from curation.core.errors import UserError
from curation.review.findings import QueueFinding
from curation.review.imports import ForeignAnswer
from curation.review.queue import Queue

COLUMNS = (
    "item", "queue", "uid", "caption", "current_label", "proxy_label", "proxy_probability", "priority", "reviewer",
    "answer", "cannot_tell", "at",
)  # fmt: skip
NEEDED = {"item", "queue", "reviewer", "answer"}
YES = {"yes", "y", "true", "1", "x"}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_lines(queue: Queue, items: Iterable[int]) -> Iterator[str]:
    """Yield the lines of a CSV with these items, the header first."""
    yield _line(COLUMNS)
    for item in items:
        row = queue.row(item)
        best = row["best"][0] if row["best"] else {"label": "", "probability": None}
        probability = "" if best["probability"] is None else f"{best['probability']:.4f}"
        shown = [_inert(text or "") for text in (row["caption"], row["label"], best["label"])]
        yield _line([item, queue.sha256, row["uid"], *shown, probability, f"{row['priority']:.6g}", "", "", "", ""])


def parse_csv(data: bytes, reviewer: str = "") -> Iterator[ForeignAnswer | QueueFinding]:
    """Yield the answers of a CSV; rows without one are skipped. reviewer: of rows that name none.

    Raises `UserError` if the file is not a CSV with the columns `NEEDED`.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError("the file is not UTF-8", fix="save it as CSV in UTF-8") from None
    try:
        rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        if missing := sorted(NEEDED - set(rows.fieldnames or ())):
            fix = "fill in the file that `curate review export --format csv` writes"
            raise UserError(f"the file has no column {', '.join(missing)}", fix=fix)
        for row in rows:
            yield from _answer(row, f"line {rows.line_num}", reviewer)
    except csv.Error as error:
        raise UserError(f"the file is not CSV: {error}", fix="save it as CSV, separated by commas") from None


def _answer(row: dict[str, str | None], where: str, reviewer: str) -> Iterator[ForeignAnswer | QueueFinding]:
    label = (row["answer"] or "").strip()
    cannot_tell = (row.get("cannot_tell") or "").strip().lower() in YES
    if not label and not cannot_tell:
        return
    number = (row["item"] or "").strip()
    if not (number.isascii() and number.isdecimal() and len(number) < 10):
        yield QueueFinding(None, "bad_answer", f"{number[:40]!r} is not the number of an item", where)
    elif label and cannot_tell:
        yield QueueFinding(int(number), "bad_answer", "the row has both an answer and cannot_tell", where)
    else:
        name, at = (row["reviewer"] or "").strip() or reviewer, (row.get("at") or "").strip()
        yield ForeignAnswer(int(number), (row["queue"] or "").strip(), name, label or None, at, where)


def _inert(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _line(values: Iterable[object]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(values)
    return line.getvalue()
