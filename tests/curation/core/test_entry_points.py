"""Scorers of other packages: an installed distribution that names a class, and what may be wrong with one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from curation.core.entry_points import with_installed
from curation.core.errors import UserError
from curation.scorers import Scorer

README = (Path(__file__).parents[3] / "curation/scorers/README.md").read_text()
MODULE = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0] + "\n\n@dataclass\nclass Loose: ...\n"
MODULE += "class Derived(Exclamations): ...\n\n@dataclass(frozen=True)\nclass Empty: ...\n"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package as pip leaves it behind; returns its list of entry points."""
    (tmp_path / "loud.py").write_text(MODULE)
    info = tmp_path / "loud-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: loud\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return info / "entry_points.txt"


@pytest.mark.slow
def test_a_scorer_of_another_package_is_one_of_the_table(installed: Path) -> None:
    """In a process of its own, since the table is made when the room is imported."""
    installed.write_text("[tutelage.scorers]\nexclamations = loud:Exclamations\n")
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from curation.recipes.curation_recipe import parse_recipe\n"
        "from curation.scorers import Batch\n"
        "recipe = parse_recipe('corpus: c\\noutput: o\\nscorers:\\n- exclamations: {times: 2}\\n"
        "filters:\\n- threshold: {score: exclamations, max: 3}\\n')\n"
        "print(recipe.scorers['exclamations'].load(None)(Batch(['wow!', '!!'], {})).tolist())\n"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code, str(installed.parents[1]), str(root)], capture_output=True, text=True
    )
    assert done.stdout == "[2.0, 4.0]\n", done.stderr


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("taken = loud:Exclamations", "the name taken is already taken"),
        ("gone = loud:Missing", "can't be imported"),
        ("gone = nowhere:Missing", "can't be imported"),
        ("loose = loud:Loose", "not a frozen dataclass"),
        ("derived = loud:Derived", "not a frozen dataclass"),
        ("empty = loud:Empty", "has no identity, views, files, values, load"),
        ("broken = broken:Thing", "can't be imported: RuntimeError: no licence"),
    ],
)
def test_what_is_wrong_with_one_is_said(installed: Path, line: str, words: str) -> None:
    installed.write_text(f"[tutelage.tests]\n{line}\n")
    (installed.parents[1] / "broken.py").write_text("raise RuntimeError('no licence')\n")
    with pytest.raises(UserError, match=words) as error:
        with_installed("tutelage.tests", {"taken": int}, Scorer)
    assert "loud" in str(error.value) and error.value.fix
