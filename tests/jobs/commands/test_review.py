"""`curate review`: build from a recipe, status and verify."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from builders import write_corpus
from review_queues import answer, make_queue
from running import command

import curation as cu
from jobs.cli import _main

SHARPNESS = "image_stats.sharpness"

pytestmark = pytest.mark.usefixtures("inline")


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory, inline: None) -> Path:
    """A recipe whose last filter cuts a rank, scored; the labels are the corpus' names."""
    root = tmp_path_factory.mktemp("scored")
    write_corpus(root / "corpus", 2, 24)
    recipe = {
        "corpus": str(root / "corpus"), "output": str(root / "out"), "scorers": [{"image_stats": {}}, {"phash": {}}],
        "filters": [{"caption": {"min_words": 2}}, {"top_fraction": {"score": SHARPNESS, "fraction": 0.5}}],
        "limits": {"max_quarantined": 1.0},
    }  # fmt: skip
    (root / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    command("run", str(root / "recipe.yaml"), "--accept-yield")
    return root


def build(root: Path, out: Path, *more: str) -> dict[str, object]:
    words = ("--budget", "10", "--label", "name", "--out", str(out), "--json", *more)
    found: dict[str, object] = json.loads(command("review", "build", str(root / "recipe.yaml"), *words))
    return found


@pytest.mark.slow
def test_items_are_the_kept_samples_in_the_order_of_their_score(scored: Path, tmp_path: Path) -> None:
    from curation.review.queue import open_queue

    found = build(scored, tmp_path / "queue")
    assert found["items"] == 10 and found["by"] == "image_stats.sharpness" and found["findings"] == {}
    queue = open_queue(str(tmp_path / "queue"))
    rows = cu.open(str(scored / "out")).manifest.query(
        "SELECT uid, \"image_stats.sharpness\" AS v, source_offset FROM manifest WHERE decision = 'kept' "
        "ORDER BY v DESC, uid LIMIT 10"
    )
    for ours, theirs in (("uid", "uid"), ("priority", "v"), ("source_offset", "source_offset")):
        assert queue.items.column(ours).to_pylist() == rows.column(theirs).to_pylist()
    assert set(queue.document.classes) == {label for label in queue.labels if label is not None}
    again = build(scored, tmp_path / "queue")
    assert again["queue"] == found["queue"] == queue.sha256


@pytest.mark.slow
def test_a_dry_run_writes_nothing(scored: Path, tmp_path: Path) -> None:
    assert build(scored, tmp_path / "queue", "--dry-run")["queue"] is None
    assert not (tmp_path / "queue").exists()


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("--by", "nothing"), 2, "no score nothing"),
        (("--by", "image_stats.nothing"), 2, "not a column of numbers"),
        (("--label", "nothing"), 2, "0 different labels"),
        (("--posterior", "phash"), 2, "the classes of phash have no names"),
        (("--posterior", "phash", "--classes", "a,b"), 2, "not a column of probabilities"),
        (("--set", "filters=[]"), 2, "ranks no samples"),
        (("--set", "corpus=MORE"), 4, "have no scores"),
    ],
)
def test_mistakes(
    words: tuple[str, ...], code: int, text: str, scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if words[-1] == "corpus=MORE":
        write_corpus(tmp_path / "more", 1, 24, flaws=False)
        words = ("--set", f"corpus={tmp_path / 'more'}")
    arguments = ["review", "build", str(scored / "recipe.yaml"), "--budget", "5", "--label", "name"]
    assert _main([*arguments, "--out", str(tmp_path / "queue"), *words]) == code
    assert text in capsys.readouterr().err
    assert not (tmp_path / "queue").exists()


@pytest.mark.slow
def test_another_queue_in_the_folder(scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(scored, tmp_path / "queue")
    words = ["review", "build", str(scored / "recipe.yaml"), "--budget", "5", "--label", "name"]
    assert _main([*words, "--out", str(tmp_path / "queue")]) == 2
    assert "another review queue" in capsys.readouterr().err


def test_status_and_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    queue = make_queue(tmp_path)
    answer(queue, 0, "ann", "cat")
    answer(queue, 1, "ann", "owl")
    url = str(tmp_path / "queue")
    assert "answered           1   (1 labels confirmed, 0 to change)" in command("review", "status", url)
    found = json.loads(command("review", "status", url, "--json"))
    assert found["tied"] == 1 and found["left"] == 98 and found["queue"] == queue.sha256
    assert "11 open + 1 answered + 0 refused = 12 items" in command("verify", url)
    answer(queue, 2, "ann", "horse")
    assert _main(["verify", url, "--json"]) == 4
    printed = capsys.readouterr()
    assert json.loads(printed.out)["findings"][0]["reason"] == "unknown_class"
    assert "item 2: unknown_class" in json.loads(printed.err.splitlines()[-1])["message"]
    assert _main(["review", "verify", url, "--no-pictures"]) == 4
    assert _main(["review", "status", str(tmp_path)]) == 2


def test_simulated_annotators_are_named_in_every_figure(tmp_path: Path) -> None:
    queue = make_queue(tmp_path, budget=9)
    pq.write_table(pa.table({"uid": queue.items.column("uid"), "votes": [[3, 2, 1]] * 12}), tmp_path / "votes")
    words = ("review", "annotate", str(tmp_path / "queue"), "--distribution", str(tmp_path / "votes"))
    lines = command(*words, "--every", "3").splitlines()
    assert len(lines) == 9 and all(line.startswith("simulated annotators: ") for line in lines)
    found = json.loads(command(*words, "--json"))
    assert found["spent"] == 9 and found["annotator"] == "simulated annotators"
    assert _main([*words, "--recorded", str(tmp_path / "votes")]) == 2
    assert _main(["review", "annotate", str(tmp_path / "queue"), "--confusion", str(tmp_path / "votes")]) == 2


def test_apply_writes_an_edit_list(tmp_path: Path) -> None:
    from curation.ledger.edit_lists import read_edit_list

    queue = make_queue(tmp_path)
    for reviewer in ("ann", "bob"):
        answer(queue, 1, reviewer, "owl")
    answer(queue, 2, "ann", "cat")
    words = ("review", "apply", str(tmp_path / "queue"), "--out", str(tmp_path / "edits.parquet"))
    assert json.loads(command(*words, "--dry-run", "--json"))["edits"] == 1
    assert not (tmp_path / "edits.parquet").exists()
    assert command(*words) == f"1 edits: {tmp_path / 'edits.parquet'}\n"
    (row,) = read_edit_list(str(tmp_path / "edits.parquet")).table.to_pylist()
    assert (row["uid"], row["value"]) == (queue.row(1)["uid"], '"owl"')


@pytest.mark.parametrize("by", ["error", "random"])
def test_a_filter_with_priorities_ranks(by: str, scored: Path, tmp_path: Path) -> None:
    """The queue has the filter's samples in the order of its priorities; sharpness stands for doubt."""
    from curation.review.queue import open_queue

    filters = [{"doubtful_labels": {"by": by, "error": SHARPNESS, "count": 7}}]
    found = build(scored, tmp_path / "queue", "--set", f"filters={json.dumps(filters)}")
    assert found["items"] == 7 and found["by"] == "doubtful_labels"
    items = open_queue(str(tmp_path / "queue")).items
    priorities = items.column("priority").to_pylist()
    assert priorities == sorted(priorities, reverse=True) and len(set(priorities)) > 3
    if by == "error":
        rows = cu.open(str(scored / "out")).manifest.query(
            f"SELECT uid FROM manifest WHERE decision <> 'quarantined' ORDER BY \"{SHARPNESS}\" DESC, uid LIMIT 7"
        )
        assert items.column("uid").to_pylist() == rows.column("uid").to_pylist()


@pytest.mark.slow
def test_items_show_the_three_best_classes_of_the_proxy(scored: Path, tmp_path: Path) -> None:
    from curation.review.queue import open_queue

    uids = cu.open(str(scored / "out")).manifest.to_arrow(["uid"]).column("uid").to_pylist()
    names = [f"thing-{n}" for n in range(7)]
    rows = [[0.5, *[0.05] * 3, 0.2, 0.1, 0.05] if n % 2 else [0.1] * 5 + [0.3, 0.2] for n in range(len(uids))]
    pq.write_table(pa.table({"uid": uids, "probabilities": rows}), tmp_path / "table")
    sha = sha256((tmp_path / "table").read_bytes()).hexdigest()
    document = yaml.safe_load((scored / "recipe.yaml").read_text())
    posterior = {"probabilities": str(tmp_path / "table"), "sha256": sha, "classes": names}
    document |= {"output": str(tmp_path / "out"), "scorers": [*document["scorers"], {"label_posterior": posterior}]}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(document))
    command("run", str(tmp_path / "recipe.yaml"), "--accept-yield")
    assert build(tmp_path, tmp_path / "queue")["classes"] == names
    queue = open_queue(str(tmp_path / "queue"))
    best = dict(zip(uids, rows, strict=True))
    for row in queue.items.to_pylist():
        odd = best[row["uid"]][0] == 0.5
        wanted = ["thing-0", "thing-4", "thing-5"] if odd else ["thing-5", "thing-6", "thing-0"]
        assert [one["label"] for one in row["best"]] == wanted


def test_export_and_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    queue = make_queue(tmp_path)
    answer(queue, 0, "ann", "cat")
    url, out = str(tmp_path / "queue"), tmp_path / "items.csv"
    assert json.loads(command("review", "export", url, "--format", "csv", "--out", str(out), "--json"))["items"] == 11
    lines = out.read_text().splitlines()
    assert len(lines) == 12 and lines[1].startswith(f"1,{queue.sha256},")
    out.write_text("\n".join([lines[0], lines[1].removesuffix(",,,,") + ",bob,owl,,"]))
    words = ("review", "import", url, str(out), "--format", "csv", "--json")
    assert json.loads(command(*words, "--dry-run"))["created"] == 1
    assert json.loads(command(*words))["created"] == 1
    assert json.loads(command(*words))["repeated"] == 1
    out.write_text("\n".join([lines[0], lines[2].removesuffix(",,,,") + ",bob,horse,,"]))
    assert _main(list(words)) == 2
    assert json.loads(capsys.readouterr().out)["findings"][0]["reason"] == "unknown_class"
    tasks = tmp_path / "tasks.json"
    command("review", "export", url, "--format", "label-studio", "--out", str(tasks), "--limit", "2", "--all")
    assert [task["data"]["item"] for task in json.loads(tasks.read_text())] == [0, 1]
    assert "<Choices" in (tmp_path / "tasks.json.xml").read_text()
