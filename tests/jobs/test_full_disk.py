"""A local disk that takes no more, for real: one line that says where it is, exit code 3, no traceback."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from builders import PLAIN, write_corpus, write_recipe
from running import curate
from sampling import one_in

from jobs.cli import _main, cli

pytestmark = pytest.mark.slow

# Files of at most so many bytes: what a disk does that is nearly full, and no root is needed for it. Python runs with
# -B, or it would leave files of bytecode that are cut off.
_LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
from jobs.cli import _main
sys.exit(_main({arguments!r}))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("full")
    write_corpus(root / "corpus", 2, 30)
    recipe = write_recipe(root / "r.yaml", f"{root}/corpus", f"{root}/out", "", "", **PLAIN)
    curate(recipe)
    curate(recipe, "filters.0.caption.min_words=3")
    (root / "tmp").mkdir()
    return root


@pytest.mark.parametrize("limit", one_in(2, [4_000, 200_000]))
@pytest.mark.parametrize(
    "arguments",
    [
        ("what-if", "{0}/r.yaml", "--no-keep"),
        ("what-if", "{0}/r.yaml", "--keep"),
        ("plan", "{0}/r.yaml"),
        ("status", "{0}/r.yaml"),
        ("diff", "{0}/out@1", "{0}/out@2"),
        ("gc", "{0}/out", "--dry-run"),
    ],
    ids=" ".join,
)
def test_a_command_ends_with_one_line(arguments: tuple[str, ...], limit: int, home: Path) -> None:
    code = _LIMITED.format(limit=limit, arguments=[argument.format(home) for argument in arguments])
    environment = {"TMPDIR": str(home / "tmp"), "XDG_CACHE_HOME": str(home / "cache"), "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, env=environment)
    lines = [line for line in done.stderr.splitlines() if line.startswith("curate:")]
    assert "Traceback" not in done.stderr, done.stderr
    if arguments[0] == "status":
        assert done.returncode == 0, "a few shards are sorted without a database"
    elif limit < 10_000:  # a database takes 12 kB
        assert done.returncode == 3 and len(lines) == 1, done.stderr
        assert "[local_disk]" in lines[0] and str(home / "tmp") in lines[0] and "TMPDIR" in lines[0]
    else:
        assert done.returncode in (0, 3), done.stderr
    assert not list((home / "tmp").iterdir()), "temporary files are deleted all the same"


def test_a_disk_that_fills_up_where_nobody_expects_it_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    @click.option("--json", "as_json", is_flag=True)
    def fills(as_json: bool) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setitem(cli.commands, "fills", fills)
    assert _main(["fills"]) == 3
    error = capfd.readouterr().err
    assert error.startswith("curate: this command: the local disk is full") and error.count("\n") == 1
    assert _main(["fills", "--json"]) == 3
    assert json.loads(capfd.readouterr().err)["error"] == "local_disk"
