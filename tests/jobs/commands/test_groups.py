"""The largest groups of duplicates: in a run's document, in `curate groups` and in what-if, with pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from builders import picture, write_recipe
from click.testing import CliRunner
from running import curate

import curation as cu
from curation.shards.tar_writer import TarWriter
from jobs.cli import cli

EVERYWHERE, OTHERS = 30, 40


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A placeholder that comes 30 times among 40 other pictures, two of which are equal; over two shards."""
    root = tmp_path_factory.mktemp("groups")
    images = [(f"place{n}", picture(1, "jpg")) for n in range(EVERYWHERE)]
    images += [(f"other{n}", picture(100 + max(n, 1), "png")) for n in range(OTHERS)]
    (root / "corpus").mkdir()
    for shard in range(2):
        with (root / "corpus" / f"{shard}.tar").open("wb") as file:
            writer = TarWriter(file)
            for key, image in images[shard::2]:
                extension = "jpg" if key.startswith("place") else "png"
                writer.add(f"{key}.{extension}", image)
                writer.add(f"{key}.txt", f"<b>this is {key}</b>".encode())
            writer.close()
    filters = [{"exact_duplicates": {"name": "twins"}}, {"all": {"of": [{"caption": {"min_words": 1}}]}}]
    recipe = write_recipe(root / "r.yaml", f"{root}/corpus", f"{root}/out", "", "", scorers=[], filters=filters)
    curate(recipe)
    return root


def invoke(*arguments: str) -> Any:
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.slow
def test_a_snapshot_says_its_largest_groups(home: Path) -> None:
    snapshot = cu.open(f"{home}/out")
    first, second = snapshot.groups
    assert (first["filter"], first["samples"], len(first["goes"])) == ("twins", EVERYWHERE, 6)
    assert (second["samples"], len(second["goes"])) == (2, 1)
    rows = {row["uid"]: row for row in snapshot.manifest.to_arrow().to_pylist()}
    assert rows[first["stays"]]["decision"] == "kept" and rows[first["stays"]]["key"] == "place0"
    for group in (first, second):
        assert {rows[uid]["reason"] for uid in group["goes"]} == {"twins"}
        assert {rows[uid]["content_hash"] for uid in group["goes"]} == {rows[group["stays"]]["content_hash"]}


def test_groups_are_listed_and_shown_as_pictures(home: Path, tmp_path: Path) -> None:
    found = json.loads(invoke("groups", f"{home}/out", "--json").stdout)
    assert found == {"seen": 70, "groups": cu.open(f"{home}/out").groups}
    lines = invoke("groups", f"{home}/out", "--html", f"{tmp_path}/g.html").stdout.splitlines()
    assert lines[0].split()[:3] == ["30", "42.9%", "twins:"] and len(lines) == 2
    page = (tmp_path / "g.html").read_text()
    assert page.count("<img") == 7 + 2 and "takes 30 samples (42.9% of the corpus)" in page
    assert "&lt;b&gt;this is place0&lt;/b&gt;" in page and "<b>" not in page
    assert "twins: kept only" in invoke("show", f"{home}/out").stdout
    assert json.loads(invoke("show", f"{home}/out", "--json").stdout)["groups"] == found["groups"]


def test_a_source_that_is_gone_leaves_the_page_without_its_picture(home: Path, tmp_path: Path) -> None:
    (home / "corpus" / "0.tar").rename(home / "corpus" / "away")
    try:
        invoke("groups", f"{home}/out", "--html", f"{tmp_path}/g.html")
    finally:
        (home / "corpus" / "away").rename(home / "corpus" / "0.tar")
    page = (tmp_path / "g.html").read_text()
    assert 0 < page.count("<img") < 9 and "0.tar" in page


@pytest.mark.slow
def test_what_if_reports_them_too(home: Path, tmp_path: Path) -> None:
    for keep in ("--no-keep", "--keep", "--keep"):  # of score tables; kept in the cache; of the cache
        done = invoke("what-if", f"{home}/r.yaml", keep, "--html", f"{tmp_path}/w.html")
        assert "twins: kept only" in done.stdout and "twins takes 30 samples" in done.stderr
        page = (tmp_path / "w.html").read_text()
        assert page.count("<img") == 9 and "takes 30 samples (42.9% of the corpus)" in page
    (answer,) = json.loads(invoke("what-if", f"{home}/r.yaml", "--json").stdout)["answers"]
    assert answer["groups"] == cu.open(f"{home}/out").groups and answer["refused"] == []


def test_what_if_says_which_settings_a_run_would_refuse(home: Path) -> None:
    done = invoke("what-if", f"{home}/r.yaml", "--set", "filters.1.all.of=[{caption: {min_words: 9}}]")
    assert "curate run would make no snapshot: none of 70 samples is kept: all.too_few_words" in done.stderr


@pytest.mark.slow
def test_groups_of_a_part_of_another_filter_and_of_none(home: Path, tmp_path: Path) -> None:
    parts = [{"exact_duplicates": {}}, {"caption": {"min_words": 1}}]
    for name, groups in (("all", [30, 2]), ("any", []), ("not", [])):
        plain = {"scorers": [], "filters": [{name: {"of": parts}}], "limits": {}}
        recipe = write_recipe(tmp_path / f"{name}.yaml", f"{home}/corpus", f"{tmp_path}/{name}", "", "", **plain)
        assert [group["samples"] for group in curate(recipe).snapshot.groups] == groups, name
    done = invoke("groups", f"{tmp_path}/any")
    assert done.stdout == "no filter dropped a sample as a duplicate of another\n"
