"""Every command and every line of Python in the README that can run here, run in order in an empty folder."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from jobs.cli import _main

REPO = Path(__file__).parent.parent.parent
README = (REPO / "README.md").read_text()
BLOCKS = re.findall(r"<!-- tested -->\n```(bash|python)\n(.*?)```", README, re.DOTALL)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def python(script: str, home: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    done = subprocess.run([sys.executable, script], cwd=home, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-1000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def write_recipe(home: Path) -> None:
    """The output of `make demo`: its small corpus and its proxy."""
    card = json.loads((home / "icons-proxy/card.json").read_text())
    (home / "demo").mkdir()
    (home / "demo/corpus").symlink_to(home / "icons")
    (home / "demo/proxy").symlink_to(home / "icons-proxy")
    template = files("jobs").joinpath("recipes/openmoji-icons.yaml").read_text()
    recipe = template.replace("{sha256}", card["sha256"])
    (home / "demo/recipe.yaml").write_text(recipe.replace("samples: 1000", "samples: 100"))
    learn = files("jobs").joinpath("recipes/learnability.yaml").read_text()
    (home / "demo/learn.yaml").write_text(learn.replace("steps: 200, batch: 128", "steps: 20, batch: 16"))


def test_commands_and_python(
    tmp_path: Path, inline: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run all in this process: a process for each would import torch again."""
    monkeypatch.chdir(tmp_path)
    assert [kind for kind, _ in BLOCKS] == ["bash", "bash", "python", "python", "bash", "bash"]
    for kind, text in BLOCKS:
        if kind == "python":
            script = tmp_path / "consumer.py"
            checked = (
                "\nassert len(next(iter(loader))[1]) == 32 and next(iter(dataset))[1]\n" if "loader" in text else ""
            )
            script.write_text(text + checked)
            assert python("consumer.py", tmp_path)
            continue
        for line in text.strip().splitlines():
            command, *words = shlex.split(line)
            assert command == "curate" and _main(words) == 0, f"{line}\n{capsys.readouterr()}"
            if "proxy train" in line:
                write_recipe(tmp_path)


def test_the_two_commands_exist() -> None:
    makefile = (REPO / "Makefile").read_text()
    for target in ("demo", "test", "bench", "bench-filters", "bench-online", "bench-recipes", "soak"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_the_recipe_is_valid() -> None:
    from curation.recipes.curation_recipe import parse_recipe

    block = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert block
    recipe = parse_recipe(block[1].replace("9f2c...", "ab" * 32))
    assert [item.name for item in recipe.filters] == ["caption", "image_size", "exact_duplicates", "top_fraction"]
