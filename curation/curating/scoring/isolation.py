"""One scorer over one batch: samples that make it fail are set aside, and the others keep their scores.

- A scorer that *raises* is called again with halves of the batch until each sample that it raises for is found; then
  once more with the whole batch, in the same shape, with these samples blank (log2(n) + 2 calls for one sample of n).
- A scorer that runs out of memory gets half as many samples at once from then on.
- A call that ends the process (a crash, an exit, a timeout) leaves a note of the samples that were in work
  (`curation.curating.scoring.black_box`); the driver has them tried one by one (`alone`) until a note names one.

The scorer itself is at fault when it raises for more than `LEAST` samples and has returned no value in this process, or
for more than `SHARE` of at least `EVIDENCE` samples; its error then ends the run. Errors of types and shapes and errors
of the store end the run at once. Fewer failing samples are set aside, and `limits.max_quarantined` decides whether a
snapshot is created.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa

from curation.core.errors import StoreError, TutelageError, UserError
from curation.curating.scoring.batches import blanked, padded, part
from curation.curating.scoring.black_box import Box, Span
from curation.ledger import score_values
from curation.ledger.attempts import DIED, RAISED, UNSCORED
from curation.scorers import Batch, PartlyScored, Score

if TYPE_CHECKING:
    import torch

LEAST = 32  # samples that a scorer may fail for before it has returned any value
SHARE, EVIDENCE = 0.25, 1024  # judged after 1,024 samples: the first batches of a corpus may hold all of its bad ones

T = TypeVar("T")
Rows = np.ndarray[Any, Any]
Spans = Callable[[Rows], Sequence[Span]]


@dataclass(frozen=True)
class RowSpans:
    """Where the rows of a batch stand. `units`, `rows`: int `[N]`, the place of each row's unit, and its row there."""

    units: Rows
    rows: Rows

    def __call__(self, rows: Rows) -> list[Span]:
        """Return the span of every unit that has some of these rows of the batch."""
        units = self.units[rows]
        found = {int(unit): self.rows[rows[units == unit]] for unit in dict.fromkeys(units.tolist())}
        return [(unit, int(numbers.min()), int(numbers.max())) for unit, numbers in found.items()]


def at_fault(failed: int, good: int, tried: int) -> bool:
    """Return whether the scorer or decoder is at fault: `failed` of `tried` samples failed, and `good` did not."""
    return failed > LEAST and (not good or (tried >= EVIDENCE and failed > SHARE * tried))


class _RaisedError(Exception):
    """A scorer's own error, on its way to the search for the samples that cause it."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Isolated:
    """A loaded scorer in an actor. `size`: the most samples at once; it halves when memory runs out."""

    def __init__(
        self, name: str, score: Score, kind: pa.DataType, box: Box, seconds: float, pad: bool
    ) -> None:  # fmt: skip
        self.name, self.score, self.kind, self.box, self.seconds, self.pad = name, score, kind, box, seconds, pad
        self.size = 1 << 62
        self.tried = self.raised = self.good = 0  # samples passed in, raised for, and scored
        self.details: dict[int, str] = {}  # row of the last batch -> the error it raised
        self.unscored: dict[int, str] = {}  # row of the last batch -> the reason that the scorer gives
        self.deferred = pad  # on a GPU, which computes while this process goes on

    def trial(self, batch: Batch) -> None:
        """Try the scorer on a batch of blank samples. Any error it raises is its own."""
        rows = np.arange(len(batch.captions))
        try:
            self._values(batch, np.ones(len(rows), bool), rows, lambda rows: [])
        except _RaisedError as raised:
            self._give_up(raised.error)

    def begin(
        self, batch: Batch, valid: Rows, spans: Spans, aside: dict[int, str], alone: Sequence[int] = ()
    ) -> Callable[[], tuple[pa.Array, dict[int, str]]]:
        """Begin to score a batch, and return a function that waits for what `column` returns.

        On a GPU the scorer's work and the copy of its values are queued, so that a batch costs one wait and not one for
        each scorer. Batches with samples to try alone or to set aside are scored at once, and so is a batch again that
        raises: `column` finds the samples at fault.
        """

        def column() -> tuple[pa.Array, dict[int, str]]:
            return self.column(batch, valid, spans, aside, alone)

        if not self.deferred or aside or alone or self.size < len(batch.captions):
            found = column()
            return lambda: found
        noted = spans(np.flatnonzero(valid))
        try:
            wait: Callable[[], PartlyScored] = self._call(lambda: _begun(self.score(batch)), noted)
        except _RaisedError:
            found = column()
            return lambda: found

        def finish() -> tuple[pa.Array, dict[int, str]]:
            try:
                given = self._call(wait, noted)
            except _RaisedError:
                return column()
            count, self.details, self.unscored = int(valid.sum()), {}, {}
            self.tried, self.good = self.tried + count, self.good + count
            values = self._checked(given, batch, valid, np.arange(len(valid)))
            return values, {row: why for row, why in self.unscored.items() if valid[row]}

        return finish

    def column(
        self, batch: Batch, valid: Rows, spans: Spans, aside: dict[int, str], alone: Sequence[int] = ()
    ) -> tuple[pa.Array, dict[int, str]]:
        """Return the values of the first N rows of the batch, and row -> reason for those that have none.

        valid: bool `[N]`. spans: returns the units and rows of given rows of the batch. aside: rows of the batch that
        were set aside earlier, with the reason. alone: rows to try alone before the batch.
        """
        aside, good = dict(aside), valid.copy()
        self.unscored = {}
        good[list(aside)] = False
        self.tried += int(good.sum())
        self.details = {}
        for row in alone:
            if not good[row]:
                continue
            if error := self._fails(batch, np.array([row]), spans):
                self._set_aside({row: error}, spans, good, aside)
            else:
                self.box.cleared(self.name, spans(np.array([row])))
        while True:
            work = blanked(batch, np.flatnonzero(valid & ~good)) if aside else batch
            try:
                values = self._values(work, good, np.arange(len(good)), spans)
                return values, {**{row: why for row, why in self.unscored.items() if good[row]}, **aside}
            except _RaisedError as raised:
                found = self._culprits(batch, np.flatnonzero(good), spans, raised.error)
                if not found:  # no half of the batch fails, so no sample causes the error
                    self._give_up(raised.error)
                self._set_aside(found, spans, good, aside)

    def _set_aside(self, found: dict[int, BaseException], spans: Spans, good: Rows, aside: dict[int, str]) -> None:
        for row, error in found.items():
            good[row] = False
            aside[row] = how = DIED if isinstance(error, SystemExit) else RAISED
            self.details[row] = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"[:200]
            self.box.aside(self.name, spans(np.array([row])), how, self.details[row])
        self.raised += len(found)
        self._check(self.raised, next(iter(found.values())))

    def _check(self, raised: int, error: BaseException) -> None:
        if at_fault(raised, self.good, self.tried):
            self._give_up(error)

    def _give_up(self, error: BaseException) -> None:
        with blamed(self.name):
            raise RuntimeError(f"it exits with {error}") if isinstance(error, SystemExit) else error

    def _culprits(self, batch: Batch, rows: Rows, spans: Spans, error: BaseException) -> dict[int, BaseException]:
        """Return row -> error for the samples among `rows` that the scorer raises for; together they raise `error`."""
        found: dict[int, BaseException] = {}
        left = [(rows, error)]
        while left:
            rows, error = left.pop()
            if len(rows) == 1:
                found[int(rows[0])] = error
                self._check(self.raised + len(found), error)
                continue
            for half in np.array_split(rows, 2):
                if half_error := self._fails(batch, half, spans):
                    left.append((half, half_error))
        return found

    def _fails(self, batch: Batch, rows: Rows, spans: Spans) -> BaseException | None:
        """Return the error that the scorer raises for these samples alone, or None."""
        if not len(rows):
            return None
        try:
            self._values(part(batch, rows), np.ones(len(rows), bool), rows, spans)
        except _RaisedError as raised:
            return raised.error
        return None

    def _values(self, batch: Batch, good: Rows, rows: Rows, spans: Spans) -> pa.Array:
        """Return the values of a batch's first rows, in pieces that fit memory. rows: their rows in the whole batch."""
        while True:
            try:
                return pa.concat_arrays(list(self._pieces(batch, good, rows, spans)))
            except _RaisedError as raised:
                if not _is_memory(raised.error) or self.size <= 1:
                    raise
                self.size = max(1, min(self.size, len(good)) // 2)
                _free()

    def _pieces(self, batch: Batch, good: Rows, rows: Rows, spans: Spans) -> Iterator[pa.Array]:
        n = len(good)
        for start in range(0, max(n, 1), self.size):
            stop = min(start + self.size, n)
            piece = batch if self.size >= n else part(batch, np.arange(start, stop))
            if self.pad and self.size < n:
                piece = padded(piece, self.size)
            noted = spans(rows[start:stop][good[start:stop]])
            given = self._call(partial(self._scored, piece), noted)
            self.good += len(noted) and int(good[start:stop].sum())  # a trial has no samples and counts nothing
            yield self._checked(given, piece, good[start:stop], rows[start:stop])

    def _checked(self, scored: PartlyScored, batch: Batch, good: Rows, rows: Rows) -> pa.Array:
        """Return the values of the first rows of a batch, and note the reasons of those that have none.

        rows: int `[N]`, their rows in the whole batch. Raises `UserError` where there is not one value for each.
        """
        given, good = as_rows(self.name, scored.values), good.copy()
        for row, reason in scored.reasons.items():
            if row < len(good):  # the others are padding
                good[row] = False
                self.unscored[int(rows[row])] = expect_reason(self.name, reason)
        if len(given) != len(batch.captions):
            fix = "return one value for each sample of the batch, the padding included"
            raise UserError(f"scorer {self.name} gives {len(given)} values for {len(batch.captions)} samples", fix=fix)
        with blamed(self.name):
            return score_values.value_array(given[: len(good)], good, self.kind)

    def _scored(self, batch: Batch) -> PartlyScored:
        """Return what the scorer returns, on the CPU."""
        values, reasons = _with_reasons(self.score(batch))
        return PartlyScored(as_numpy(values) if _is(values, "Tensor") else values, reasons)

    def _call(self, work: Callable[[], T], spans: Sequence[Span]) -> T:
        """Return what a call of the scorer returns, under its note. Raises `_RaisedError` or `StoreError`."""
        with self.box.scoring(self.name, spans), self.box.watched(self.seconds):
            try:
                return work()
            except StoreError:
                raise
            except (Exception, SystemExit) as error:
                if _is(error, "AcceleratorError") and not _is_memory(error):
                    self.box.die(error)  # this process can no longer use the device
                raise _RaisedError(error) from error


def _with_reasons(given: Any) -> PartlyScored:
    """Return a scorer's values with its reasons, which most scorers never give."""
    return given if isinstance(given, PartlyScored) else PartlyScored(given, {})


def _begun(given: Any) -> Callable[[], PartlyScored]:
    """Begin to copy a scorer's values to the CPU, and return a function that waits for them."""
    values, reasons = _with_reasons(given)
    if not _is(values, "Tensor"):
        return lambda: PartlyScored(values, reasons)
    from curation.models.device_copies import to_host

    small = values.is_floating_point() and values.dtype.itemsize < 4  # as in `as_numpy`
    wait = to_host((values.float() if small else values).detach())
    return lambda: PartlyScored(wait().numpy(), reasons)


def _is(value: object, name: str) -> bool:
    """Whether `value` has torch's class of this name. A process that has not imported torch has no such value."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, getattr(torch, name))


def _is_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or _is(error, "OutOfMemoryError") or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)  # torch's own allocator for CPUs
    )  # fmt: skip


def _free() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def blamed(name: str) -> Iterator[None]:
    """Turn an error in a scorer's own code into a one-line `UserError` that names the scorer, file and line."""
    try:
        yield
    except (UserError, StoreError) as error:
        if str(error).startswith(f"scorer {name} "):
            raise
        raise type(error)(f"scorer {name}: {error}", fix=error.fix) from None
    except TutelageError:
        raise
    except Exception as error:
        frame = (traceback.extract_tb(error.__traceback__) or [traceback.FrameSummary("?", 0, "?")])[-1]
        first = next(iter(str(error).splitlines()), "")
        text = f"scorer {name} fails: {type(error).__name__}: {first} ({frame.filename}:{frame.lineno})"
        raise UserError(text, fix="ask its maintainer to fix it, or remove it from the recipe") from error


def expect_reason(name: str, reason: str) -> str:
    """Return the reason that a scorer gives for a sample. Raises `UserError` for one that records don't know."""
    if reason not in UNSCORED:
        fix = f"return one of {', '.join(UNSCORED)}, or raise an error for the sample"
        raise UserError(f"scorer {name} gives the unknown reason {reason!r}", fix=fix)
    return reason


def as_rows(name: str, values: Any) -> pa.Array | np.ndarray[Any, Any]:
    """Return a scorer's values as an array. Raises `UserError` for values that are neither an array nor a tensor."""
    if _is(values, "Tensor"):
        return as_numpy(values)
    if not isinstance(values, pa.Array | np.ndarray):
        fix = "return a numpy array, a tensor or an Arrow array"
        raise UserError(f"scorer {name} gives a {type(values).__name__}, not values of a batch", fix=fix)
    return values


def as_numpy(values: torch.Tensor) -> np.ndarray[Any, Any]:
    """Return a tensor in its own type, since float32 holds no whole number above 2^24; bf16 and fp16 become float32."""
    small = values.is_floating_point() and values.dtype.itemsize < 4
    return (values.float() if small else values).detach().cpu().numpy()
