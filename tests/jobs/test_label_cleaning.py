"""The page on label cleaning: every command and the recipe; and what a run does with labels that can't be used."""

from __future__ import annotations

import csv
import json
import re
import shlex
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from builders import picture
from running import command, curate

from curation.shards.tar_writer import TarWriter
from jobs.cli import _main

PAGE = (Path(__file__).parents[2] / "docs/label-cleaning.md").read_text()
BLOCKS = re.findall(r"<!-- tested -->\n```bash\n(.*?)```", PAGE, re.DOTALL)
RECIPES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("inline")]


def expect_success(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    name, *words = shlex.split(line)
    assert name == "curate" and _main(words) == 0, f"{line}\n{capsys.readouterr()}"
    return capsys.readouterr().out


@pytest.mark.slow
def test_the_commands_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second, review, rerank, evaluation = BLOCKS
    printed = [expect_success(line, capsys) for line in first.strip().splitlines()]
    card = json.loads((tmp_path / "folds/card.json").read_text())
    assert f"sha256   {card['sha256']}" in printed[-1] and "doubtful_labels" in printed[-1]
    recipe = RECIPES[0].replace("9f2c...", card["sha256"])
    (tmp_path / "labels.yaml").write_text(f"{recipe}limits: {{max_quarantined: 0.2}}\n")
    printed = [expect_success(line, capsys) for line in second.strip().splitlines()]
    assert '"kept": 50' in json.dumps(json.loads(command("show", str(tmp_path / "doubtful"), "--json"))["samples"])
    printed = [expect_success(line, capsys) for line in review.strip().splitlines()]
    assert "50" in printed[-1]
    printed = [expect_success(line, capsys) for line in rerank.strip().splitlines()]
    assert "rank correlation 1.000 over 50 items left" in printed[1], "without answers: the order of the build"
    expect_success("curate review export queue --format csv --out items.csv", capsys)
    with (tmp_path / "items.csv").open() as file:
        items = list(csv.DictReader(file))
    for reviewer in ("ann", "bob"):  # both prefer the model's class, so that some labels change
        with (tmp_path / f"{reviewer}.csv").open("w") as file:
            writer = csv.DictWriter(file, items[0])
            writer.writeheader()
            writer.writerows({**item, "reviewer": reviewer, "answer": item["proxy_label"]} for item in items[:20])
        expect_success(f"curate review import queue {reviewer}.csv --format csv", capsys)
    printed = [expect_success(line, capsys) for line in evaluation.strip().splitlines()]
    assert "Kendall's tau" in printed[-1] and "folds" in printed[-1] and "McNemar" in printed[-1]
    again = expect_success(f"{first.strip().splitlines()[1]} --json", capsys)
    assert json.loads(again)["reused"]


LIMITS = {"limits": {"max_quarantined": 1}}
LABELS: list[Any] = ["cat", "dog", {"cat": 3, "dog": 1}, None, ["cat"], "owl", "dog", "cat", "cat", "dog"]


def write_labelled(folder: Path) -> None:
    folder.mkdir()
    with (folder / "0.tar").open("wb") as file:
        writer = TarWriter(file)
        for number, label in enumerate(LABELS):
            writer.add(f"{number}.png", picture(number, "png"))
            writer.add(f"{number}.json", json.dumps({} if label is None else {"name": label}).encode())
            writer.add(f"{number}.txt", b"a thing")
        writer.close()


def recipe(tmp_path: Path, scorers: list[Any], filters: list[Any], name: str) -> Path:
    path = tmp_path / f"{name}.yaml"
    document = {"corpus": f"{tmp_path}/in", "output": f"{tmp_path}/{name}", "scores": f"{tmp_path}/scores"}
    path.write_text(yaml.safe_dump({**document, "scorers": scorers, "filters": filters, **LIMITS}))
    return path


def test_labels_that_cannot_be_used_are_counted_and_the_rest_is_ranked(tmp_path: Path) -> None:
    write_labelled(tmp_path / "in")
    plain = curate(recipe(tmp_path, [{"label": {}}], [], "plain"))
    rows = plain.snapshot.manifest.query("select uid, label from manifest order by source_offset").to_pylist()
    assert [row["label"] for row in rows] == ["cat", "dog", "cat", "", "", "owl", "dog", "cat", "cat", "dog"]

    uids = [row["uid"] for row in rows]
    cat = [0.9, 0.1, 0.8, 0.9, 0.9, 0.5, 0.8, 0.5, 0.0, 0.4]
    lists: list[Any] = [[p, 1 - p] for p in cat]
    lists[8] = [0.7, 0.7]
    pq.write_table(pa.table({"uid": uids[:9], "probabilities": lists[:9]}), tmp_path / "p.parquet")
    digest = sha256((tmp_path / "p.parquet").read_bytes()).hexdigest()
    source = {"probabilities": f"{tmp_path}/p.parquet", "sha256": digest}
    scorers = [{"label_error": {**source, "classes": ["cat", "dog"]}}, {"label_ambiguity": source}, {"label": {}}]
    path = recipe(tmp_path, scorers, [{"doubtful_labels": {"by": "active", "count": 2}}], "queue")
    made = curate(path)
    samples = made.snapshot.document["samples"]
    wanted = {"no_label": 1, "bad_label": 1, "unknown_class": 1, "bad_probabilities": 1, "no_probabilities": 1}
    assert samples["quarantined"] == wanted and samples["filtered"] == {"doubtful_labels": 3}
    kept = {sample.uid for sample in made.snapshot.samples()}
    assert kept == {uids[6], uids[2]}, "a dog that looks like a cat, and votes; the undecided one is ambiguous"
    assert json.loads(command("verify", f"{tmp_path}/queue", "--rescore", "1", "--json"))["findings"] == []
    by_error = curate(path, "filters.doubtful_labels.by=error")
    assert {sample.uid for sample in by_error.snapshot.samples()} == {uids[6], uids[7]} and not by_error.work.score_puts
    again = curate(path)
    assert again.work.score_puts == 0 and again.work.model_batches == 0


def test_other_recipes_reuse_the_index(tmp_path: Path) -> None:
    """A scorer that reads the json costs its own table alone."""
    write_labelled(tmp_path / "in")
    curate(recipe(tmp_path, [], [], "plain"))
    assert curate(recipe(tmp_path, [{"label": {"field": "name"}}], [], "labels")).work.score_puts == 1


def test_a_recipe_of_the_page_is_valid() -> None:
    from curation.recipes.curation_recipe import parse_recipe

    found = parse_recipe(RECIPES[0].replace("9f2c...", "ab" * 32))
    assert [item.name for item in found.filters] == ["doubtful_labels"]
    table = parse_recipe("corpus: a\noutput: b\nscorers:\n" + RECIPES[1].replace("9f2c...", "ab" * 32))
    assert list(table.scorers) == ["label_error"]
