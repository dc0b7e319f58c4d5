"""A snapshot that was made without a shard: every command that walks its corpus leaves the shard out and counts it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from builders import PLAIN, write_corpus, write_recipe
from running import curate

import curation as cu
from jobs.cli import _main
from jobs.commands.verify import problems_of

N = 12
GONE = "00000.tar"  # the first shard, whose score tables give the types
ASIDE = "on_unreadable=quarantine"
PHASH: dict[str, Any] = {"scorers": [{"phash": {}}]}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`out`: five shards, of which the first can't be read and the fourth is an error page."""
    home = tmp_path_factory.mktemp("aside")
    write_corpus(home / "corpus", 4, N, flaws=False)
    (home / "corpus" / "00003.tar").write_bytes(b"<html>503 slow down</html>" + b" " * 1000)
    changes = {**PLAIN, **PHASH, "limits": {"max_quarantined": 0.6}, "on_unreadable": "quarantine"}
    write_recipe(home / "r.yaml", f"{home}/corpus", f"{home}/out", "", "", **changes)
    curate(home / "r.yaml", unreadable=GONE)
    return home


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str) -> tuple[str, str]:
        capsys.readouterr()
        assert _main([*arguments]) == 0
        return capsys.readouterr()

    return run


@pytest.mark.slow
def test_plan_and_status_do_not_advise_to_score_what_can_not_be_read(home: Path, said: Any) -> None:
    for command in ("plan", "status"):
        out, err = said(command, f"{home}/r.yaml")
        assert "--check-scores" not in out + err and "--retry-unreadable" in out and "store_not_found 1" in out
        found = json.loads(said(command, f"{home}/r.yaml", "--json")[0])
        assert found["unreadable"] == {"store_not_found": 1} and found["units"] == 4 and found["snapshot"] == 1
    assert found["scored"] == 3 and found["up_to_date"]
    found = json.loads(said("plan", f"{home}/r.yaml", "--json", "--set", "shards.samples=7")[0])
    assert found["units_to_score"] == 1 and found["unreadable"] == {}, "another recipe tries the shard again"


@pytest.mark.slow
def test_reports_count_the_shards_and_name_the_reasons(home: Path, said: Any) -> None:
    units = {"total": 4, "quarantined": 2, "reasons": {"store_not_found": 1, "tar_not_a_tar": 1}}
    for command in (("show", f"{home}/out"), ("run", f"{home}/r.yaml")):
        out, _ = said(*command)
        assert "quarantined shards    2" in out and "50.0% of the shards" in out
        assert "store_not_found" in out and "tar_not_a_tar" in out
        assert json.loads(said(*command, "--json")[0])["units"] == units


def test_quarantine_ls_lists_whole_shards(home: Path, said: Any) -> None:
    rows = json.loads(said("quarantine", "ls", f"{home}/out", "--json")[0])
    assert [(row["uid"], row["source_key"], row["reason"]) for row in rows] == [
        (None, GONE, "store_not_found"),
        (None, "00003.tar", "tar_not_a_tar"),
    ]
    assert [row["source_length"] for row in rows] == [
        (home / "corpus" / row["source_key"]).stat().st_size for row in rows
    ]
    out, err = said("quarantine", "ls", f"{home}/out")
    assert out.count("(a whole shard)") == 2 and "2 of 4 shards are quarantined whole" in err
    for options, keys in (
        (("--reason", "tar_not_a_tar"), ["00003.tar"]),
        (("--reason", "x"), []),
        (("--limit", "1"), [GONE]),
    ):
        rows = json.loads(said("quarantine", "ls", f"{home}/out", "--json", *options)[0])
        assert [row["source_key"] for row in rows] == keys


def test_export_leaves_it_out(home: Path, said: Any, tmp_path: Path) -> None:
    out, err = said("scores", "export", f"{home}/r.yaml", "--out", f"{tmp_path}/e", "--json")
    found = json.loads(out)
    assert found["unreadable"] == {"store_not_found": 1} and f"such as {GONE}" in err
    assert set(pq.read_table(found["files"][0]).column("shard_key").to_pylist()) == {"00001.tar", "00002.tar"}


@pytest.mark.slow
def test_what_if_counts_it_with_and_without_the_cache(
    home: Path, said: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for _ in range(2):
        out, _ = said("what-if", f"{home}/r.yaml", "--json", "--set", "limits.max_quarantined=0.1")
        found = json.loads(out)
        (answer,) = found["answers"]
        assert found["unscored_shards"] == 0 and found["unreadable"] == {"store_not_found": 1}
        assert answer["samples"]["seen"] == 2 * N
        assert any("store_not_found 1" in line for line in answer["refused"])
        assert list(tmp_path.glob("tutelage/columns/*")), "the columns are kept"
    said("what-if", f"{home}/r.yaml", "--html", f"{tmp_path}/page.html")
    assert "1 shards are set aside" in (tmp_path / "page.html").read_text()


@pytest.mark.slow
def test_another_recipe_compares_with_it(home: Path, tmp_path: Path) -> None:
    filters = [{"decontaminate": {"against": [f"{home}/out@1"], "hash": "phash"}}]
    recipe = write_recipe(
        tmp_path / "r.yaml", f"{home}/corpus", f"{tmp_path}/out", "", "", **{**PLAIN, **PHASH, "filters": filters}
    )
    curate(recipe, "limits.max_quarantined=1.0")
    samples = cu.open(f"{tmp_path}/out").document.samples
    assert samples.seen == 3 * N and samples.filtered == {"decontaminate.exact": 20}, "18 kept there, and 2 copies"


@pytest.mark.slow
def test_verify_and_older_documents(home: Path, tmp_path: Path, said: Any) -> None:
    """Documents of earlier versions count no reasons."""
    assert list(problems_of(cu.open(f"{home}/out"))) == []
    shutil.copytree(home / "out", tmp_path / "out")
    path = tmp_path / "out" / "snapshots" / "000001.json"
    document = json.loads(path.read_text())
    del document["units"]["reasons"]
    path.write_text(json.dumps(document))
    assert list(problems_of(cu.open(f"{tmp_path}/out"))) == []
    out, _ = said("show", f"{tmp_path}/out")
    assert "quarantined shards    2" in out
    assert len(json.loads(said("quarantine", "ls", f"{tmp_path}/out", "--json", "--reason", "store_not_found")[0])) == 1


@pytest.mark.slow
def test_a_list_that_is_gone_is_rebuilt(home: Path, tmp_path: Path, said: Any) -> None:
    out = f"{tmp_path}/out"
    shutil.copytree(home / "out", out)
    path = tmp_path / "out" / cu.open(out).document.unreadable.key
    for damage in (path.unlink, lambda: path.write_bytes(b"[]")):
        whole = path.read_bytes()
        damage()
        ((code, how),) = ((finding.code, finding.how) for finding in problems_of(cu.open(out)))
        assert code == "list" and "commit records" in how
        assert "repaired 1 of 1" in said("repair", out, "--apply")[0]
        assert path.read_bytes() == whole and list(problems_of(cu.open(out))) == []


@pytest.mark.slow
def test_a_corpus_of_error_pages(home: Path, tmp_path: Path, said: Any) -> None:
    (tmp_path / "corpus").mkdir()
    for name in ("0.tar", "1.tar"):
        (tmp_path / "corpus" / name).write_bytes((home / "corpus" / "00003.tar").read_bytes())
    recipe = write_recipe(
        tmp_path / "r.yaml", f"{tmp_path}/corpus", f"{tmp_path}/out", "", "", **{**PLAIN, **PHASH, "filters": []}
    )
    curate(recipe)
    out, _ = said("run", str(recipe))
    assert "quarantined shards    2   100.0% of the shards" in out and "tar_not_a_tar" in out
    assert len(json.loads(said("quarantine", "ls", f"{tmp_path}/out", "--json")[0])) == 2


@pytest.mark.slow
def test_diff_does_not_call_it_removed(home: Path, tmp_path: Path, said: Any) -> None:
    shutil.copytree(home / "out", tmp_path / "out")
    changes = f"output={tmp_path}/out", f"scores={tmp_path}/out/scores", "limits.max_quarantined=1.0"
    curate(home / "r.yaml", *changes, retry_unreadable=True)
    for left, right, name in ((2, 1, "unreadable"), (1, 2, "readable")):
        pair = f"{tmp_path}/out@{left}", f"{tmp_path}/out@{right}"
        shards = json.loads(said("diff", *pair, "--json")[0])["shards"]
        assert shards.pop(name) == [GONE] and not any(shards.values())
        assert f"input {name:<10} {GONE}" in said("diff", *pair)[0]
