"""What a process had in work when it died: three small files that outlive it, on the disk of its node.

A note is a write to mapped memory (0.3 us for a decoded sample, 10 us for a batch), which the kernel keeps whatever
becomes of the process; nothing is flushed, since only a node takes it along. The second file gets what Python's
faulthandler has to say: of a crash (SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL), or of a call that took too long, which
it ends from a thread of its own that needs no GIL. The third has a line for what the call has found out by then: rows
that are good, and rows that a scorer raises for (10 us a line).
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
    """What a process found out of a call's units, by their places in it.

    `passed`: rows of a unit below it went through everything. `cleared`: (column, place, row) that were good alone;
    `aside`: that the scorer raises for, with the reason code and what it raises.
    """

    passed: dict[int, int] = field(default_factory=dict)
    cleared: list[tuple[str, int, int]] = field(default_factory=list)
    aside: dict[tuple[str, int, int], tuple[PoisonReason, str]] = field(default_factory=dict)


class WorkNote(NamedTuple):
    """What was in work: `column` is the scorer's, or None for the decoder. No spans: nothing of a sample."""

    call: int
    column: str | None
    spans: Sequence[Span]
    hung: bool
    fault: str  # one line, empty where the process was ended without one: an exit, or SIGKILL
    found: Findings = Findings()


class NullBlackBox:
    """Notes nothing and ends nothing: for work in a process that nobody watches."""

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
    """Of one process. Opening it keeps what the process before it has left, until the first `begin`."""

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
        """Nothing of a sample is in work: what dies now, dies of something else."""
        _HEAD.pack_into(self._map, 0, self._call, _IDLE, 0, 0, 0)

    def decoding(self, unit: int, row: int) -> None:
        """A sample is read and decoded from now on; row -1: not any more."""
        _HEAD.pack_into(self._map, 0, self._call, _DECODING if row >= 0 else _IDLE, unit, row, 0)

    @contextmanager
    def scoring(self, column: str, spans: Sequence[Span]) -> Iterator[None]:
        """Samples of these rows are with a scorer, within `with`."""
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
        """End this process if it works for more than so many seconds within `with` (see `watch`)."""
        return watch.watched(seconds, self._fault)

    def passed(self, unit: int, rows: int) -> None:
        """All rows of a unit below `rows` went through the decoder and all scorers."""
        self._find("passed", unit, rows)

    def cleared(self, column: str, spans: Sequence[Span]) -> None:
        """A scorer was tried on one sample alone, and gave a value."""
        self._find("cleared", column, *spans[0][:2])

    def aside(self, column: str, spans: Sequence[Span], how: PoisonReason, what: str) -> None:
        """A scorer raises for one sample alone."""
        self._find("aside", column, *spans[0][:2], how, what.encode(errors="replace").decode())

    def _find(self, *line: object) -> None:
        self._found.write(json.dumps(line).encode() + b"\n")

    def die(self, error: BaseException) -> None:
        """End this process because of an error that it can't get over, such as one of the CUDA context."""
        line = next(iter(str(error).splitlines()), "")
        self._fault.write(f"{type(error).__name__}: {line}\n".encode(errors="replace"))
        os._exit(1)


def read(path: Path) -> WorkNote | None:
    """What a process that is gone has left at `path`; None where there is nothing."""
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
    """What stands in the third file; a line that is not whole was being written, and counts for nothing."""
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
