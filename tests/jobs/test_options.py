"""Options that commands share: numbers are finite, folders exist, and stdout belongs to the answer."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from jobs.options import FloatRange, html_option, json_option, print_json


@click.command()
@click.option("--share", type=FloatRange(0, 1))
@html_option("a page")
@json_option
def command(share: float | None, html: str | None, as_json: bool) -> None:
    print("what a library prints")
    if as_json:
        print_json({"share": share, "html": html})


def run(*words: str) -> Result:
    return CliRunner().invoke(command, words)


def test_stdout_holds_the_json_alone() -> None:
    done = run("--json", "--share", "0.5")
    assert json.loads(done.stdout) == {"share": 0.5, "html": None}
    assert "what a library prints" in done.stderr
    assert run().stdout == "what a library prints\n"


@pytest.mark.parametrize("share", ["nan", "inf", "-inf", "1.5", "many"])
def test_a_share_is_a_finite_number_of_its_range(share: str) -> None:
    done = run("--share", share)
    assert done.exit_code == 2 and "--share" in done.stderr


def test_the_folder_of_a_page_is_looked_for_before_any_work(tmp_path: Path) -> None:
    done = run("--html", str(tmp_path / "none" / "page.html"))
    assert done.exit_code == 2 and str(tmp_path / "none") in done.stderr.replace("\n", "")
    assert "what a library prints" not in done.stdout
    assert run("--html", str(tmp_path / "page.html")).exit_code == 0
