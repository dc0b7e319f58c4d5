"""Count the calls that go up: `python docs/calls.py` runs a small `curate run` and a small learning run in this process
and lists every pair of modules (caller, callee) in which the callee stands on a higher floor than its caller. It counts
the pairs of functions behind them, and the pairs of rooms (see `draw.py`) in which the callee's room is the higher one.

A module's *floor* is one above the highest module that it imports. So code can't import what stands on a higher floor;
it calls it through a value that it was handed. The *caller* of a function is the nearest frame of the product below it
on the stack, whatever library lies between; a function that a thread starts with has none. The executor is the tests'
own, which calls inline, so that no thread hides a caller. How the function came to be called:

    protocol   it is a method that a class or protocol declares which the caller's module imports, directly or not
    callback   the caller holds the function, its class or its object in an argument, a variable or an attribute
    other      none of these: a library calls it (a nested validator), or an object that the caller reads from elsewhere
    iterator   it is a generator: the caller draws the next item of an iterator that it was handed. Listed, not counted,
               since an iterator is how data flow down

A module that is cut in two turns the calls up inside it into a pair, so that counts of pairs of modules can only be
compared between trees that are cut alike. Takes about 20 CPU seconds.
"""

from __future__ import annotations

import inspect
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import CodeType, FrameType, FunctionType, MethodType
from typing import Any, NamedTuple

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path[:0] = [str(DOCS), str(ROOT), str(ROOT / "tests")]

import draw  # noqa: E402

KINDS = ("iterator", "protocol", "callback", "other")


class Pair(NamedTuple):
    """A pair of modules with calls up. kind: of these calls, the last in the order of `KINDS`."""

    caller: str
    callee: str
    kind: str
    functions: tuple[str, ...]


class Tracer:
    """Records the calls up of all threads while `tracing`."""

    def __init__(self) -> None:
        files = draw.modules(ROOT)
        self.names = {str(path): name for name, path in files.items()}
        self.edges = draw.graph(files)
        self.floors = draw.floors(self.edges)
        self.room_floors = draw.floors(draw.between_rooms(self.edges))
        self.found: dict[tuple[CodeType, CodeType], str] = {}  # calling, called -> kind

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event != "call" or code.co_filename not in self.names:
            return
        above = frame.f_back
        while above is not None and above.f_code.co_filename not in self.names:
            above = above.f_back
        if above is None or (above.f_code, code) in self.found:
            return
        caller, callee = self.names[above.f_code.co_filename], self.names[code.co_filename]
        if self.up(caller, callee) or self.up_rooms(caller, callee):
            self.found[above.f_code, code] = kind_of(frame, above, reachable(self.edges, caller))

    @contextmanager
    def tracing(self) -> Iterator[None]:
        """Trace this thread, and every thread that begins meanwhile."""
        threading.setprofile(self)
        sys.setprofile(self)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]

    def up(self, caller: str, callee: str) -> bool:
        """Whether a module stands on a higher floor than its caller."""
        return self.floors[callee] > self.floors[caller]

    def up_rooms(self, caller: str, callee: str) -> bool:
        """Whether a module's room stands on a higher floor than its caller's."""
        return self.room_floors[draw.room_of(callee)] > self.room_floors[draw.room_of(caller)]

    def rooms(self) -> set[tuple[str, str]]:
        """The pairs of rooms with calls up, without iterators."""
        calls = (
            (self.names[calling.co_filename], self.names[called.co_filename])
            for (calling, called), kind in self.found.items()
            if kind != "iterator"
        )
        return {(draw.room_of(one), draw.room_of(other)) for one, other in calls if self.up_rooms(one, other)}

    def pairs(self) -> list[Pair]:
        """The pairs of modules with calls up, by name."""
        found = defaultdict[tuple[str, str], list[tuple[str, str]]](list)
        for (calling, called), kind in self.found.items():
            pair = self.names[calling.co_filename], self.names[called.co_filename]
            if self.up(*pair):
                found[pair].append((kind, f"{calling.co_qualname} -> {called.co_qualname} [{kind}]"))
        return [
            Pair(*pair, max((kind for kind, _ in calls), key=KINDS.index), tuple(sorted(line for _, line in calls)))
            for pair, calls in sorted(found.items())
        ]


def kind_of(frame: FrameType, caller: FrameType, below: Collection[str]) -> str:
    """How the caller came to call this frame's function. below: the modules that the caller's module imports."""
    code = frame.f_code
    if code.co_flags & inspect.CO_GENERATOR:
        return "iterator"
    owner = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
    if owner is not None and declared(owner if isinstance(owner, type) else type(owner), code.co_name, below):
        return "protocol"
    return "callback" if any(holds(value, code, 3) for value in caller.f_locals.values()) else "other"


def declared(owner: type, name: str, below: Collection[str]) -> bool:
    """Whether a base class of the owner, or a protocol that it implements, declares a method, in one of the modules."""
    if any(name in vars(base) for base in owner.__mro__[1:] if base.__module__ in below):
        return True
    protocols = (
        value
        for module in below
        if module in sys.modules
        for value in vars(sys.modules[module]).values()
        if getattr(value, "_is_protocol", False) and value.__module__ == module
    )
    return any(name in vars(one) and hasattr(owner, name) for one in protocols)


def reachable(edges: draw.Graph[str], module: str) -> set[str]:
    """The module and everything that it imports, directly or through others."""
    found, left = {module}, [module]
    while left:
        imports = edges.get(left.pop(), set()) - found
        found |= imports
        left += imports
    return found


def holds(value: Any, code: CodeType, depth: int) -> bool:
    """Whether a value is a function with this code, a class with such a method, or an object that holds one."""
    if isinstance(value, FunctionType):
        if value.__code__ is code:
            return True
        inside = list(contents(value))
    elif isinstance(value, MethodType):
        inside = [value.__func__, value.__self__]
    elif isinstance(value, partial):
        inside = [value.func, *value.args, *value.keywords.values()]
    elif isinstance(value, type):
        own = [one for base in value.__mro__ for one in vars(base).values()]
        wrapped = [getattr(one, "wrapped", one) for one in own]  # pydantic's validators
        inside = [getattr(one, "__func__", one) for one in wrapped if not isinstance(one, type)]
    elif type(value).__module__.split(".")[0] in draw.TOPS:
        inside = list(getattr(value, "__dict__", {}).values())
    else:
        return False
    return depth > 0 and any(holds(one, code, depth - 1) for one in inside)


def contents(function: FunctionType) -> Iterator[Any]:
    """The values that a function closes over."""
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # not assigned yet
            yield cell.cell_contents


def curate_run(folder: Path) -> Callable[[], object]:
    """A run over two shards with a model, plain numbers and four filters."""
    from builders import write_corpus, write_recipe, write_weights
    from inline_executor import InlineExecutor

    from curation.curating.run import RunOptions, curate

    write_corpus(folder / "pool", 2, 20)
    sha = write_weights(folder / "w.safetensors")
    model = {"model": "proxy-mu", "weights": f"{folder}/w.safetensors", "sha256": sha}
    recipe = write_recipe(
        folder / "r.yaml", f"{folder}/pool", f"{folder}/out", "", "",
        scorers=[{"clip_score": model}, {"phash": {}}, {"caption_stats": {}}],
        filters=[{"caption": {"min_words": 2}}, {"exact_duplicates": {}}, {"near_duplicates": {"hash": "phash"}},
                 {"top_fraction": {"score": "clip_score", "fraction": 0.6}}],
    )  # fmt: skip
    executor = InlineExecutor(folder / "places")
    return lambda: curate(str(recipe), executor=executor, options=RunOptions(accept_yield=True))


def learning_run(folder: Path) -> Callable[[], object]:
    """Twelve steps of learnability selection with an online model and a reference."""
    from builders import write_corpus, write_weights
    from learning_runs import go

    from curation.recipes.learning_recipe import parse_learn_recipe

    write_corpus(folder / "pool", 2, 60, flaws=False)
    sha = write_weights(folder / "w.safetensors")
    text = f"""
data: {folder}/pool
output: {folder}/out
learner:
  contrastive: {{model: proxy-mu, steps: 12, batch: 8}}
online: {{model: proxy-mu}}
reference: {{model: proxy-mu, weights: {folder}/w.safetensors, sha256: {sha}}}
selection: {{selector: {{learnability: {{gain: 10}}}}, filtering_ratio: 0.5}}
holdout: 0.3
by: [name]
evaluate_every: 6
checkpoint_every: 5
"""
    return lambda: go(parse_learn_recipe(text))


RUNS = {"curate run": curate_run, "learning": learning_run}


def measure(name: str) -> Tracer:
    """Run one of `RUNS` under the tracer. What it imports is imported before: imports call many functions."""
    import open_clip  # noqa: F401
    import torch  # noqa: F401

    with tempfile.TemporaryDirectory() as folder:
        call = RUNS[name](Path(folder))
        tracer = Tracer()
        with tracer.tracing():
            call()
    return tracer


def main() -> None:
    """Print the pairs of both runs."""
    for name in RUNS:
        tracer = measure(name)
        pairs, rooms = tracer.pairs(), sorted(tracer.rooms())
        counts = {kind: sum(pair.kind == kind for pair in pairs) for kind in KINDS}
        up = sum(pair.kind != "iterator" for pair in pairs)
        functions = sum(not line.endswith("[iterator]") for pair in pairs for line in pair.functions)
        print(f"{name}: calls up between {len(rooms)} pairs of rooms, {up} of modules, {functions} of functions")
        print(f"  pairs of modules by kind: {', '.join(f'{n} {kind}' for kind, n in counts.items())}")
        print("".join(f"  {caller} -> {callee}\n" for caller, callee in rooms), end="")
        for pair in pairs:
            print(f"  {pair.kind:9} {pair.caller} -> {pair.callee}")
            print("".join(f"            {line}\n" for line in pair.functions), end="")


if __name__ == "__main__":
    main()
