"""Rules for every test, so that none fails on a loaded machine: no deadlines, no seconds asserted, patient timeouts."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from durations import SECONDS
from hypothesis import HealthCheck, settings
from mirror import MOST_UNTESTED, ROOT, TESTED_BY, own_file, untested
from services import Clock

TESTS = Path(__file__).parent
FILES = sorted(TESTS.rglob("test_*.py"))
CLOCKS = {"monotonic", "perf_counter", "process_time", "time", "monotonic_ns", "perf_counter_ns", "time_ns"}
PATIENT = 60  # seconds that a time-out in a test lasts at least


def test_one_hypothesis_profile() -> None:
    assert settings.default.deadline is None
    assert HealthCheck.too_slow in settings.default.suppress_health_check


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_no_test_depends_on_how_fast_the_machine_is(path: Path) -> None:
    assert list(impatient(path.read_text())) == []


@pytest.mark.parametrize(
    "code",
    [
        "began = time.monotonic()\nwork()\nassert time.monotonic() - began < 2",
        "began = time.monotonic()\nwork()\ntook = time.monotonic() - began\nassert took < 2",
        "from time import perf_counter\nbegan = perf_counter()\nended = perf_counter()\nassert ended - began < 2",
        "deadline = time.time() + 3\nassert time.time() < deadline",
        "@settings(max_examples=3, deadline=200)\ndef test(): ...",
        "@settings(deadline=None)\ndef test(): ...",
        "@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])\ndef test(): ...",
        "queue.get(timeout=30)",
        "subprocess.run(command, timeout=5)",
        "process.wait(10)",
        "pytestmark = pytest.mark.timeout(60)",
    ],
)
def test_impatience_is_found(code: str) -> None:
    assert len(list(impatient(code))) == 1


def test_orderings_are_no_impatience() -> None:
    code = "began = time.time()\nended = time.time()\nassert began <= modified <= ended\npast = time.time() - 60\n"
    code += "assert swept(now=time.time() + 7200) == []"
    assert list(impatient(code)) == []


def impatient(code: str) -> Iterator[str]:
    """The parts of a test's source that depend on seconds."""
    tree = ast.parse(code)
    clocks, spans = set[str](), set[str]()  # names of moments, and of differences between two of them
    assigned = [(node.value, set(_names(*node.targets))) for node in ast.walk(tree) if isinstance(node, ast.Assign)]
    for value, names in assigned:
        if any(map(_is_clock, ast.walk(value))):
            clocks |= names
    for value, names in assigned:
        if _has_span(value, clocks):
            spans |= names
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert) and _asks_for_speed(node.test, clocks, spans):
            yield f"line {node.lineno}: asserts on seconds"
        elif isinstance(node, ast.Call):
            yield from _short_call(node)


def _asks_for_speed(test: ast.expr, clocks: set[str], spans: set[str]) -> bool:
    return any(map(_is_clock, _walk(test))) or bool(set(_names(test)) & spans) or _has_span(test, clocks)


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """All parts of an expression but what is handed to functions."""
    yield node
    for part in ast.iter_child_nodes(node):
        if not isinstance(node, ast.Call):
            yield from _walk(part)


def _has_span(value: ast.expr, clocks: set[str]) -> bool:
    """Whether a moment is subtracted in it."""
    taken = [part.right for part in ast.walk(value) if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Sub)]
    return any(set(_names(part)) & clocks or any(map(_is_clock, ast.walk(part))) for part in taken)


def _names(*nodes: ast.expr) -> Iterator[str]:
    return (part.id for node in nodes for part in ast.walk(node) if isinstance(part, ast.Name))


def _is_clock(node: ast.AST) -> bool:
    called = node.func if isinstance(node, ast.Call) else None
    if isinstance(called, ast.Attribute):
        return called.attr in CLOCKS and isinstance(called.value, ast.Name) and called.value.id == "time"
    return isinstance(called, ast.Name) and called.id in CLOCKS


def _short_call(node: ast.Call) -> Iterator[str]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    if name == "settings" and "deadline" in given:
        yield f"line {node.lineno}: the profile in conftest.py says that there are no deadlines"
    health = ast.unparse(given["suppress_health_check"]) if "suppress_health_check" in given else ""
    if name == "settings" and health not in ("", "list(HealthCheck)") and "too_slow" not in health:
        yield f"line {node.lineno}: suppress too_slow, too"
    waits = [given.get("timeout"), *(node.args if name in {"wait", "timeout"} else [])]
    least = 900 if name == "timeout" else PATIENT
    for value in waits:
        if isinstance(value, ast.Constant) and isinstance(value.value, int | float) and 0 < value.value < least:
            yield f"line {node.lineno}: waits {value.value} s"


def test_a_clock_moves_however_short_a_sleep_is() -> None:
    clock = Clock()
    before = clock.now
    clock.sleep(1e-14)
    assert clock.now > before


def test_the_files_that_come_first_are_there() -> None:
    assert {name for name in SECONDS if not (TESTS / name).exists()} == set()


def test_modules_have_their_tests() -> None:
    """A file by the module's path, or a line in `mirror.TESTED_BY`; the others are counted and may not become more."""
    assert len(untested()) <= MOST_UNTESTED, untested()


@pytest.mark.parametrize("module", TESTED_BY)
def test_a_module_without_a_file_is_tested_by_another(module: str) -> None:
    assert (ROOT / module).exists(), "the module is gone: remove the line"
    assert not own_file(module).exists(), "it has a file of its own: remove the line"
    assert (TESTS / TESTED_BY[module]).exists()
