"""The advice in an error's message, followed to the letter, works.

Each case plants a damage, meets it with a command, then carries out the commands that the message names in backticks,
as they stand there (RECIPE is the recipe of the dataset), and repeats the first command.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from damaged_tree import DOCUMENT, Tree, cut, flip, swap
from sampling import one_in

from jobs.cli import _main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("inline")]


def advised(error: str, tree: Tree) -> list[list[str]]:
    """The commands that a message names."""
    commands = re.findall(r"`curate ([^`]+)`", error)
    return [shlex.split(command.replace("RECIPE", str(tree.root / "recipe.yaml"))) for command in commands]


def follow(command: list[str], tree: Tree, capsys: pytest.CaptureFixture[str], *, steps: int = 2) -> list[str]:
    """Meet the damage, follow the advice, meet nothing. Returns the messages; a step's advice may name another."""
    messages: list[str] = []
    capsys.readouterr()
    assert _main([*command, "--json"]) in (3, 4)
    for _ in range(steps):
        messages.append(capsys.readouterr().err.splitlines()[-1])
        error = json.loads(messages[-1])
        commands = advised(f"{error['message']} {error['fix']}", tree)
        assert commands, f"no command in: {messages[-1]}"
        if all(_main([*one, "--json"]) == 0 for one in commands):
            break
    else:
        pytest.fail(f"the advice leads nowhere: {messages}")
    assert _main([*command, "--json"]) == 0, capsys.readouterr().err
    return messages


def unit_of(number: int) -> Callable[[Tree], Path]:
    """The record of a unit of one of the snapshots."""

    def path(tree: Tree) -> Path:
        from curation.storage.parquet import from_parquet

        document = json.loads((tree.out / f"snapshots/{number:06d}.json").read_text())
        unit = from_parquet((tree.out / document["manifest"]["key"]).read_bytes()).column("unit")[0].as_py()
        return tree.out / "units" / f"{unit}.json"

    return path


CASES: dict[str, tuple[Callable[[Tree], object], list[str]]] = {
    "gc meets a record that can't be read": (lambda t: cut(t.record), ["gc", "OUT"]),
    "gc meets a record of an older snapshot": (lambda t: cut(unit_of(1)(t)), ["gc", "OUT"]),
    "gc meets a record that no snapshot needs": (
        lambda t: (t.out / "units" / f"{'a' * 64}.json").write_text("{"),
        ["gc", "OUT"],
    ),
    "gc meets a record of scores": (lambda t: cut(t.scored("phash")), ["gc", "OUT"]),
    "gc of shared scores": (lambda t: cut(t.scored("phash")), ["gc", "OUT/scores"]),
    "scores ls": (lambda t: cut(t.scored("phash")), ["scores", "ls", "OUT/scores"]),
    "gc meets a document": (lambda t: t.change(samples__kept=99), ["gc", "OUT"]),
    "gc meets a document with another name": (
        lambda t: (t.out / "snapshots/000003 (1).json").write_text("{}"),
        ["gc", "OUT"],
    ),
    "show meets a field": (lambda t: t.change(units__quarantined=-1), ["show", "OUT"]),
    "show meets the list of shards": (lambda t: t.named("shards").unlink(), ["show", "OUT"]),
    "show meets an evaluation": (
        lambda t: cut(t.out / f"evaluations/000003-{'e' * 64}.json"),
        ["show", "OUT"],
    ),
    "quarantine ls meets a part of the manifest": (lambda t: flip(t.part), ["quarantine", "ls", "OUT@3"]),
    "diff meets a part of an older manifest": (
        lambda t: [path.unlink() for path in _parts(t, 1)],
        ["diff", "OUT@1", "OUT@3"],
    ),
    "matches meets its list": (lambda t: t.named("matches").unlink(), ["matches", "OUT"]),
    "show meets a snapshot that is gone": (lambda t: (t.out / DOCUMENT).unlink(), ["show", "OUT"]),
    "gc meets a document that is not JSON": (lambda t: cut(t.out / DOCUMENT), ["gc", "OUT"]),
    "gc meets an older document that is not JSON": (lambda t: cut(t.out / "snapshots/000001.json"), ["gc", "OUT"]),
    "show meets a document that is not JSON": (lambda t: cut(t.out / DOCUMENT), ["show", "OUT"]),
    "gc meets a hole": (lambda t: (t.out / "snapshots/000002.json").unlink(), ["gc", "OUT"]),
    "scores gc meets a hole": (
        lambda t: (t.out / "snapshots/000001.json").unlink(),
        ["scores", "gc", "OUT/scores", "--keep-snapshots", "OUT"],
    ),
    "show meets a snapshot that is gone with LATEST": (
        lambda t: [(t.out / name).unlink() for name in (DOCUMENT, "LATEST")],
        ["show", "OUT"],
    ),
    "verify meets a list of shards of no snapshot": (
        lambda t: (t.out / "urls/000009.txt").write_text("x"),
        ["verify", "OUT"],
    ),
    "verify meets LATEST far ahead": (lambda t: (t.out / "LATEST").write_text("999999999"), ["verify", "OUT"]),
    "verify meets a snapshot far ahead": (
        lambda t: [(t.out / "snapshots/000002.json").rename(t.out / "snapshots/002000002.json")],
        ["verify", "OUT@3"],
    ),
    "verify meets a record of an older snapshot": (lambda t: cut(unit_of(1)(t)), ["verify", "OUT", "--all"]),
    "verify meets a shard of an older snapshot": (
        lambda t: (t.out / json.loads(unit_of(1)(t).read_text())["shards"][0]["key"]).unlink(),
        ["verify", "OUT", "--all"],
    ),
    "verify meets a shard": (lambda t: t.shard.unlink(), ["verify", "OUT"]),
    "verify meets a plan": (lambda t: t.page.unlink(), ["verify", "OUT"]),
    "verify meets a hole": (lambda t: (t.out / "snapshots/000002.json").unlink(), ["verify", "OUT"]),
}


ONE_STEP = {
    "verify meets a record of an older snapshot": " --all --apply`",
    "gc meets a record of an older snapshot": "@1 --apply`",
    "gc meets a document that is not JSON": " --accept-loss --apply`",
}


def _parts(tree: Tree, number: int) -> list[Path]:
    from curation.storage.parquet import from_parquet

    document = json.loads((tree.out / f"snapshots/{number:06d}.json").read_text())
    return [
        tree.out / key
        for key in from_parquet((tree.out / document["manifest"]["key"]).read_bytes()).column("key").to_pylist()
    ]


@pytest.mark.parametrize("name", one_in(6, CASES, tested=3))
def test_advice_works(name: str, tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    plant, command = CASES[name]
    plant(tree)
    messages = follow([part.replace("OUT", str(tree.out)) for part in command], tree, capsys)
    if name in ONE_STEP:
        assert len(messages) == 1 and f"`curate repair {tree.out}{ONE_STEP[name]}" in messages[0]


def test_advice_before_there_is_a_snapshot(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    """A first run was interrupted: it left records and plans, and no snapshot names them."""
    for folder in ("snapshots", "urls", "evaluations"):
        shutil.rmtree(tree.out / folder)
    (tree.out / "LATEST").unlink()
    for path in sorted((tree.out / "units").glob("*.json"))[:2]:
        cut(path)
    (page,) = (tree.out / "plans/pages").glob("*.parquet")
    page.write_bytes(b"")
    assert _main(["repair", str(tree.out), "--apply"]) == 0
    assert not page.exists() and len(list((tree.out / "repairs").glob("*/aside/units/*.json"))) == 2
    capsys.readouterr()
    assert _main(["repair", str(tree.out), "--apply"]) == 0
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    "plant",
    [
        lambda t: t.table("clip_score").unlink(),
        lambda t: flip(t.table("index")),
        lambda t: cut(t.scored("phash")),
        lambda t: swap(t.scored("clip_score"), t.scored("clip_score", "00002.tar")),
    ],
    ids=["table gone", "table flipped", "record cut", "records exchanged"],
)
def test_a_run_that_meets_damaged_scores(
    plant: Callable[[Tree], object], tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    """A new threshold reads the tables again."""
    recipe = tree.root / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("fraction: 0.9", "fraction: 0.7"))
    plant(tree)
    (message,) = follow(["run", str(recipe)], tree, capsys)
    assert "--check-scores" in message


def test_a_run_that_meets_a_damaged_record(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    """If an older snapshot needs the unit, the advice names that snapshot."""
    cut(unit_of(2)(tree))
    document = json.loads((tree.out / "snapshots/000002.json").read_text())
    (tree.root / "recipe.yaml").write_text(json.dumps(document["recipe"]))
    (message,) = follow(["run", str(tree.root / "recipe.yaml")], tree, capsys)
    assert f"curate repair {tree.out}@2 --apply" in message


def test_an_input_that_was_replaced_makes_the_next_snapshot(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    flip(tree.root / "corpus/00001.tar", 600)
    (message,) = follow(["verify", str(tree.out)], tree, capsys)
    assert "curate run RECIPE" in message
