"""A record of what a process had in work when it died: three small files on its node's disk that outlive it.

The first file holds the note of the work at hand: a write to mapped memory (0.3 us for a decoded sample, 10 us for a
batch), which the kernel keeps when the process dies. Nothing is flushed, since only the death of the node loses it. The
second file receives the report of Python's faulthandler: on a crash (SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL), or on a
call that took too long, which a thread ends without needing the GIL. The third file has a line for each finding of the
call so far: rows that are good, and rows that a scorer raises for (10 us a line).
"""

from __future__ import annotations

import faulthandler
import json
import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from curation.curating.scoring import watch
from curation.ledger.documents.ledger import PoisonReason

_HEAD = struct.Struct("<qqqqq")  # call, stage, unit, row, bytes of the note behind
_SIZE = 1 << 14
_IDLE, _DECODING, _SCORING = range(3)

Span = tuple[int, int, int]  # unit's place in its call, first and last row in work


@dataclass
class Findings:
    """A process' findings about the units of a call, by their places in the call.

    passed: place -> number of first rows that the decoder and all scorers have passed. cleared: (column, place, row) of
    rows that were good alone. aside: (column, place, row) of rows that the scorer raises for -> reason code and error.
    """

    passed: dict[int, int] = field(default_factory=dict)
    cleared: list[tuple[str, int, int]] = field(default_factory=list)
    aside: dict[tuple[str, int, int], tuple[PoisonReason, str]] = field(default_factory=dict)


class WorkNote(NamedTuple):
    """The work at hand when a process died. column: the scorer's; None for the decoder. No spans: no sample."""

    call: int
    column: str | None
    spans: Sequence[Span]
    hung: bool
    fault: str  # one line; empty for a process that ended without one: an exit, or SIGKILL
    found: Findings = Findings()


class NullBlackBox:
    """A black box that notes nothing and ends nothing, for work in the driver's own process."""

    last = None

    def begin(self, call: int) -> None:
        return

    def decoding(self, unit: int, row: int) -> None:
        return

    def scoring(self, column: str, spans: Sequence[Span]) -> AbstractContextManager[None]:
        return nullcontext()

    def watched(self, seconds: float) -> AbstractContextManager[None]:
        return nullcontext()

    def passed(self, unit: int, rows: int) -> None:
        return

    def cleared(self, column: str, spans: Sequence[Span]) -> None:
        return

    def aside(self, column: str, spans: Sequence[Span], how: PoisonReason, what: str) -> None:
        return

    def die(self, error: BaseException) -> None:
        raise error


class BlackBox:
    """The black box of one process. `last`: the note of the process before it, if any. `begin` clears the files."""

    def __init__(self, path: Path) -> None:
        self.last = read(path)
        self._fault = _fault_of(path).open("ab", buffering=0)
        self._found = _found_of(path).open("ab", buffering=0)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(file, _SIZE)
        self._map = mmap.mmap(file, _SIZE)
        os.close(file)
        self._call = 0
        faulthandler.enable(self._fault, all_threads=False)

    def begin(self, call: int) -> None:
        self._call = call
        self._fault.truncate(0)
        self._found.truncate(0)
        self.idle()

    def idle(self) -> None:
        """Note that no sample is in work: a death from now on has another cause."""
        _HEAD.pack_into(self._map, 0, self._call, _IDLE, 0, 0, 0)

    def decoding(self, unit: int, row: int) -> None:
        """Note that a sample is being read and decoded; row -1: that none is."""
        _HEAD.pack_into(self._map, 0, self._call, _DECODING if row >= 0 else _IDLE, unit, row, 0)

    @contextmanager
    def scoring(self, column: str, spans: Sequence[Span]) -> Iterator[None]:
        """Note that a scorer works on these rows, within `with`."""
        note = json.dumps([column, *spans]).encode()
        if len(note) > _SIZE - _HEAD.size:
            note = json.dumps([column]).encode()
        self._map[_HEAD.size : _HEAD.size + len(note)] = note
        _HEAD.pack_into(self._map, 0, self._call, _SCORING, 0, 0, len(note))
        try:
            yield
        finally:
            self.idle()

    def watched(self, seconds: float) -> AbstractContextManager[None]:
        """End this process if it spends more than `seconds` within `with` (see `watch`)."""
        return watch.watched(seconds, self._fault)

    def passed(self, unit: int, rows: int) -> None:
        """Note that the decoder and all scorers have passed the first `rows` rows of a unit."""
        self._find("passed", unit, rows)

    def cleared(self, column: str, spans: Sequence[Span]) -> None:
        """Note that a scorer returned a value for one sample alone."""
        self._find("cleared", column, *spans[0][:2])

    def aside(self, column: str, spans: Sequence[Span], how: PoisonReason, what: str) -> None:
        """Note that a scorer raises for one sample alone."""
        self._find("aside", column, *spans[0][:2], how, what.encode(errors="replace").decode())

    def _find(self, *line: object) -> None:
        self._found.write(json.dumps(line).encode() + b"\n")

    def die(self, error: BaseException) -> None:
        """End this process because of an error that it can't recover from, such as a broken CUDA context."""
        line = next(iter(str(error).splitlines()), "")
        self._fault.write(f"{type(error).__name__}: {line}\n".encode(errors="replace"))
        os._exit(1)


def read(path: Path) -> WorkNote | None:
    """Return the note that a process left at `path`; None if there is none."""
    try:
        data, fault = path.read_bytes(), _fault_of(path).read_text(errors="replace")
        call, stage, unit, row, length = _HEAD.unpack_from(data)
    except (OSError, struct.error):
        return None
    column, spans = None, list[Span]()
    if stage == _DECODING:
        spans = [(unit, row, row)]
    elif stage == _SCORING:
        column, *found = json.loads(data[_HEAD.size : _HEAD.size + length])
        spans = [(unit, first, last) for unit, first, last in found]
    line = fault.partition("\n")[0][:200]
    return WorkNote(call, column, spans, line.startswith("Timeout ("), line, _findings(_found_of(path)))


def _findings(path: Path) -> Findings:
    """Return the findings in the third file. An incomplete last line was being written and is ignored."""
    found = Findings()
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError:
        return found
    for kind, *rest in map(json.loads, lines):
        if kind == "passed":
            found.passed[rest[0]] = max(rest[1], found.passed.get(rest[0], 0))
        elif kind == "cleared":
            found.cleared.append((rest[0], rest[1], rest[2]))
        else:
            found.aside[rest[0], rest[1], rest[2]] = rest[3], rest[4]
    return found


def _found_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.found")


def _fault_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.fault")


Box = BlackBox | NullBlackBox
