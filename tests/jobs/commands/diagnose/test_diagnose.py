"""The page "a model fails: what now?": each of its commands runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from jobs.cli import _main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("inline")]
PAGE = (Path(__file__).parents[4] / "docs/diagnosis.md").read_text()


def test_every_command_of_the_page(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("model.safetensors", "corpus", "field"):
        (tmp_path / name).symlink_to(home / name)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"<!-- tested -->\n```bash\n(.*?)```", PAGE, re.DOTALL)
    lines = [line for text in blocks for line in text.strip().splitlines()]
    assert len(lines) >= 3
    for line in lines:
        name, *words = shlex.split(line)
        assert name == "curate" and _main(words) == 0, f"{line}\n{capsys.readouterr()}"
