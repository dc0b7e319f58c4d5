"""Every command and every line of Python of docs/edits.md, run in order in a folder with a curated dataset."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from builders import write_corpus
from labelled import write_labelled
from running import curate

import curation as cu
from jobs.cli import _main

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[2] / "docs/edits.md").read_text()
BLOCKS = re.findall(r"<!-- tested -->\n```(bash|python)\n(.*?)```", PAGE, re.DOTALL)


def test_commands_and_python(
    tmp_path: Path, inline: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_corpus(tmp_path / "corpus", 1, 20, flaws=False)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"corpus": "corpus", "output": "curated"}))
    curate(tmp_path / "recipe.yaml")
    write_labelled(tmp_path / "marked", ["cat", "dog", "owl"], dict.fromkeys(range(3), "synthetic"))
    (tmp_path / "marked.yaml").write_text(yaml.safe_dump({"corpus": "marked", "output": "curated"}))
    assert [kind for kind, _ in BLOCKS] == ["python", "bash", "bash", "python", "bash", "bash"]
    names: dict[str, object] = {}
    for kind, text in BLOCKS:
        if kind == "python":
            exec(compile(text, "docs/edits.md", "exec"), names)
            continue
        for line in text.strip().splitlines():
            name, *words = shlex.split(line)
            assert name == "curate" and _main(words) == 0, f"{line}\n{capsys.readouterr()}"
    origins = cu.open("curated").manifest.to_arrow(["origin"]).column("origin").to_pylist()
    assert (origins.count("synthetic"), origins.count("relabelled")) == (2, 1)
    assert [sample.metadata["label"] for sample in cu.open("curated").samples() if "label" in sample.metadata] == [
        "cat"
    ]


def test_the_page_names_all_origins_and_verbs() -> None:
    from curation.core.origins import ORIGINS
    from curation.ledger.edit_lists import EDIT_SCHEMA, VERBS

    assert all(f"| `{name}` |" in PAGE for name in (*ORIGINS, *EDIT_SCHEMA.names))
    assert all(f"`{verb}`" in PAGE for verb in VERBS)
