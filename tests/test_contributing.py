"""CONTRIBUTING.md: the first scorer is code that works, and pre-commit runs what `make lint` runs."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import pytest
import yaml

from curation.recipes.curation_recipe import parse_recipe
from curation.scorers import SCORERS

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^   ```{language}\n(.*?)^   ```", PAGE, re.MULTILINE | re.DOTALL)
    return [dedent(block) for block in found]


def test_the_first_scorer_passes_its_test(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer, test = blocks("python")
    module = ModuleType("curation.scorers.brightness")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # dataclasses look their module up
    exec(compile(scorer, "brightness.py", "exec", dont_inherit=True), module.__dict__)
    monkeypatch.setitem(SCORERS, "brightness", module.Brightness)
    space = ModuleType("test_brightness")
    exec(compile(test, "test_brightness.py", "exec", dont_inherit=True), space.__dict__)
    space.test_one_colour()
    (recipe,) = blocks("yaml")
    assert [item.name for item in parse_recipe(recipe).filters] == ["threshold"]


def test_pre_commit_runs_what_ci_runs() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    entries = {hook["entry"].replace(".venv/bin/", "") for hook in repository["hooks"]}
    makefile = (ROOT / "Makefile").read_text()
    lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert lint
    commands = {line.strip("\t@").partition(" 2>&1")[0].replace("$(BIN)/", "") for line in lint[1].splitlines()}
    assert commands and commands <= entries
    assert {"make test-fast"} <= entries and re.search(r"^test-fast:", makefile, re.MULTILINE)
