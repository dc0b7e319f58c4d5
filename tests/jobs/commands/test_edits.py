"""`curate edits`, and a run whose recipe has edits: what is written, what is verified, what a repeat costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import write_corpus
from click.testing import CliRunner
from edits_given import edits, replaced
from running import command, curate

import curation as cu
from curation.ledger.edit_lists import read_edit_list, write_edit_list
from jobs.cli import _main

pytestmark = pytest.mark.slow

MODEL = "ab" * 32
UNKNOWN = "f" * 32


@pytest.fixture
def home(tmp_path: Path, inline: None) -> Path:
    """A corpus of two shards, a recipe, and its first snapshot without edits."""
    write_corpus(tmp_path / "corpus", 2, 24)
    recipe = {
        "corpus": str(tmp_path / "corpus"), "output": str(tmp_path / "out"), "filters": [{"caption": {"min_words": 2}}],
        "shards": {"samples": 20}, "limits": {"max_quarantined": 1},
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    curate(tmp_path / "recipe.yaml")
    return tmp_path


def uids(home: Path, decision: str = "kept") -> list[str]:
    rows = cu.open(f"{home}/out@1").manifest.to_arrow(["uid", "decision"]).to_pylist()
    return [row["uid"] for row in rows if row["decision"] == decision]


def edited(home: Path, *rows: tuple[Any, ...], name: str = "edits") -> str:
    """Write an edit list; return its URL."""
    url = f"{home}/{name}.parquet"
    write_edit_list(url, edits(*rows))
    return url


def samples(home: Path, number: int) -> dict[str, Any]:
    return {sample.uid: sample for sample in cu.open(f"{home}/out@{number}").samples()}


def run(home: Path, *lists: str, more: tuple[str, ...] = ()) -> dict[str, Any]:
    chosen = ["--set", f"edits=[{', '.join(lists)}]"] if lists else []
    found: dict[str, Any] = json.loads(command("run", str(home / "recipe.yaml"), *chosen, *more, "--json"))
    return found


def test_replaced_values_are_written_and_the_image_stays(home: Path) -> None:
    one, other, third = uids(home)[:3]
    url = edited(home, replaced(one, "label", '"cat"', "review", "queue-1"), replaced(third, "name", "7"),
                 replaced(other, "caption", '"a cät"', f"captions@{MODEL}", "run-2"))  # fmt: skip
    assert run(home, url)["snapshot"] == 2
    before, after = samples(home, 1), samples(home, 2)
    assert before.keys() == after.keys()
    assert all(after[uid].image == before[uid].image for uid in before)
    assert all(after[uid] == before[uid] for uid in before if uid not in (one, other, third))

    entry = after[one].metadata["tutelage"]
    was = before[one].metadata["tutelage"]
    assert after[one].metadata["label"] == "cat" and after[one].caption == before[one].caption
    assert entry == {**was, "origin": "relabelled", "by": {"operation": "review", "run": "queue-1"}, "parent": was}

    entry = after[other].metadata["tutelage"]
    assert after[other].caption == after[other].metadata["caption"] == "a cät"
    assert (entry["origin"], entry["by"]) == ("captioned", {"operation": "captions", "model": MODEL, "run": "run-2"})
    assert entry["parent"]["replaced"] == {"caption": before[other].caption}

    assert after[third].metadata["name"] == 7
    assert after[third].metadata["tutelage"]["parent"]["replaced"] == {"name": before[third].metadata["name"]}

    origins = {row["uid"]: row["origin"] for row in cu.open(f"{home}/out@2").manifest.to_arrow().to_pylist()}
    assert origins.pop(one) == origins.pop(third) == "relabelled" and origins.pop(other) == "captioned"
    assert set(origins.values()) == {"real"}
    first = cu.open(f"{home}/out@1")
    assert "origin" not in first.table(first.parts.to_pylist()[0]).column_names, "as in earlier versions"
    assert set(first.manifest.to_arrow(["origin"]).column("origin").to_pylist()) == {"real"}


def test_a_repeated_run_puts_nothing_and_verify_recomputes_the_edits(home: Path) -> None:
    url = edited(home, replaced(uids(home)[0], "label", '"cat"'), (uids(home)[1], "drop"), (UNKNOWN, "keep"))
    first = run(home, url)
    assert (first["snapshot"], first["unknown_edits"]) == (2, 1) and first["samples"]["filtered"]["drop_list"] == 1
    again = run(home, url)
    assert (again["snapshot"], again["data_puts"], again["model_batches"]) == (2, 0, 0)
    found = json.loads(command("diff", f"{home}/out@1", f"{home}/out@2", "--json"))
    assert (found["left"], found["entered"]) == (1, 0)
    Path(url).unlink()  # the snapshot has a copy
    assert json.loads(command("verify", f"{home}/out@2", "--json"))["findings"] == []


def test_a_damaged_relabelled_sample_is_found_and_rebuilt(home: Path) -> None:
    run(home, edited(home, replaced(uids(home)[0], "label", '"cat"')))
    made = cu.open(f"{home}/out@2")
    (shard,) = [s for s in made.shards.to_pylist() if b'"label": "cat"' in (home / "out" / s["key"]).read_bytes()]
    path = home / "out" / shard["key"]
    right = path.read_bytes()
    path.write_bytes(right.replace(b'"label": "cat"', b'"label": "cow"'))
    findings = json.loads(CliRunner().invoke(_cli(), ["verify", f"{home}/out@2", "--json"]).stdout)["findings"]
    assert [item["code"] for item in findings] == ["shard"]
    command("repair", f"{home}/out@2", "--apply")
    assert path.read_bytes() == right
    assert json.loads(command("verify", f"{home}/out@2", "--json"))["findings"] == []


def test_a_list_that_is_gone_from_the_dataset_is_copied_again(home: Path) -> None:
    url = edited(home, replaced(uids(home)[0], "label", '"cat"'))
    run(home, url)
    (pin,) = cu.open(f"{home}/out@2").document.lists.values()
    (home / "out" / pin.key).write_bytes(b"PAR1")
    findings = json.loads(CliRunner().invoke(_cli(), ["verify", f"{home}/out@2", "--json"]).stdout)["findings"]
    assert [item["code"] for item in findings] == ["list"], findings
    command("repair", f"{home}/out@2", "--apply")
    assert (home / "out" / pin.key).read_bytes() == Path(url).read_bytes()


def test_a_stale_edit_is_reported_and_not_applied(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other, third = uids(home)[:3]
    before = samples(home, 1)
    name = json.dumps(before[third].metadata["name"])
    url = edited(
        home, (one, "replace", "name", '"cat"', '"dog"'), replaced(one, "label", "1"),
        (other, "replace", "caption", '"a cat"', '"none such"'), (third, "replace", "name", '"owl"', name),
    )  # fmt: skip
    found = run(home, url)
    stale = found["stale_edits"]
    assert found["snapshot"] == 2 and stale["count"] == 2
    about = {row["uid"]: row for row in stale["examples"]}
    present = json.dumps(before[one].metadata["name"])
    expected = {"uid": one, "list": url, "field": "name", "expected": '"dog"', "present": present}
    assert about[one] == expected and about[other]["field"] == "caption"
    assert about[other]["present"] == json.dumps(before[other].caption)

    after = samples(home, 2)
    assert after[other] == before[other], "kept as it is"
    assert (after[one].metadata["name"], after[one].metadata["label"]) == (before[one].metadata["name"], 1)
    assert after[third].metadata["name"] == "owl"
    origins = {row["uid"]: row["origin"] for row in cu.open(f"{home}/out@2").manifest.to_arrow().to_pylist()}
    assert [origins[uid] for uid in (one, other, third)] == ["relabelled", "real", "relabelled"]

    assert run(home, url)["stale_edits"] == stale, "of the snapshot, in a run with nothing to do"
    assert "stale_edit: 2 edits are not applied" in command("show", f"{home}/out@2")
    assert json.loads(command("verify", f"{home}/out@2", "--all", "--json"))["findings"] == []
    assert run(home, edited(home, replaced(one, "name", '"cat"'), name="any"))["stale_edits"] is None


def test_a_run_of_stale_edits_alone_writes_what_is_there(home: Path) -> None:
    """The snapshot's shards have the bytes of a run without edits."""
    rows = [(uid, "replace", "name", '"cat"', '"dog"') for uid in uids(home)]
    found = run(home, edited(home, *rows))
    assert found["stale_edits"]["count"] == len(rows)
    first, second = (cu.open(f"{home}/out@{number}").shards.column("sha256").to_pylist() for number in (1, 2))
    assert first == second


def test_short_forms_and_edit_lists_decide_alike(home: Path) -> None:
    drop, keep = uids(home)[:2], uids(home, "filtered")[:1]
    for name, chosen in (("drop", drop), ("keep", keep)):
        (home / f"{name}.txt").write_text("".join(f"{uid}\n" for uid in chosen))
    short = run(home, more=("--set", f"drop={home}/drop.txt", "--set", f"keep={home}/keep.txt"))
    long = run(home, edited(home, *((uid, "drop") for uid in drop), *((uid, "keep") for uid in keep)))
    assert short["samples"] == long["samples"] and long["groups_written"] == 0, "the same units are found"
    weighed = edited(home, (uids(home)[2], "weight", None, "0.5"), name="weights")
    run(home, weighed)
    weights = cu.open(f"{home}/out").manifest.to_arrow(["weight"]).column("weight").to_pylist()
    assert sorted(set(weights)) == [0.0, 0.5, 1.0], "other samples keep their weights"


def test_the_filter_origin_sees_the_edits(home: Path) -> None:
    url = edited(home, replaced(uids(home)[0], "caption", '"x y"'), replaced(uids(home)[1], "label", "1"))
    found = run(home, url, more=("--set", "filters=[{origin: {}}]"))
    assert found["samples"]["filtered"] == {"origin.captioned": 1}


def test_an_edited_sample_stays_marked_when_it_is_curated_again(home: Path) -> None:
    run(home, edited(home, replaced(uids(home)[0], "caption", '"a cat"', "captions")))
    again = {"corpus": f"{home}/out@2", "output": f"{home}/again", "filters": []}
    (home / "again.yaml").write_text(yaml.safe_dump(again))
    made = curate(home / "again.yaml").snapshot
    (sample,) = [sample for sample in made.samples() if "origin" in sample.metadata["tutelage"]]
    assert sample.metadata["tutelage"]["origin"] == sample.metadata["tutelage"]["parent"]["origin"] == "captioned"
    assert made.manifest.to_arrow(["origin"]).column("origin").to_pylist().count("captioned") == 1


def test_decontamination_compares_real_and_relabelled_samples(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = uids(home)[:2]
    run(home, edited(home, replaced(one, "caption", '"a cat"'), replaced(other, "label", "1")))
    against = {"against": [f"{home}/out@2"]}
    for origins, left_out in (({}, 1), ({"origins": ["real", "relabelled", "captioned"]}, 0)):
        recipe = {"corpus": str(home / "corpus"), "output": f"{home}/clean{left_out}", "scores": f"{home}/out/scores",
                  "filters": [{"decontaminate": {**against, **origins}}], "limits": {"max_quarantined": 1}}  # fmt: skip
        (home / "clean.yaml").write_text(yaml.safe_dump(recipe))
        made = curate(home / "clean.yaml").snapshot
        reasons = made.manifest.to_arrow(["uid", "reason"]).to_pylist()
        matched = {row["uid"] for row in reasons if row["reason"] == "decontaminate.exact"}
        assert (one in matched, other in matched) == (not left_out, True)
        line = "by origin: captioned 1; `origins:` of the filter names more"
        assert (line in capsys.readouterr().err) == bool(left_out)


@pytest.mark.parametrize(
    ("rows", "other", "code", "line"),
    [
        ((0, "keep"), (0, "drop"), "contradicting_edits", "says keep, but"),
        ((0, "add", None, "/a/0.tar"), (1, "drop"), "bad_edit_list", "but the corpus has it already, in 00000.tar"),
        ((0, "add"), (1, "drop"), "bad_edit_list", "row 0: the value of add is not the URL of a shard"),
        ((0, "kill"), (1, "drop"), "bad_edit_list", "row 0: verb is not one of"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_written(
    home: Path, capsys: pytest.CaptureFixture[str], rows: tuple[Any, ...], other: tuple[Any, ...], code: str, line: str
) -> None:
    from curation.storage.parquet import to_parquet

    known = uids(home)
    for name, row in (("a", rows), ("b", other)):
        (home / f"{name}.parquet").write_bytes(to_parquet(edits((known[row[0]], *row[1:]))))
    lists = f"edits=[{home}/a.parquet, {home}/b.parquet]"
    assert _main(["run", str(home / "recipe.yaml"), "--set", lists, "--json"]) == 2
    error = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert error["error"] == code and line in error["message"] and error["fix"]
    assert cu.open(f"{home}/out").number == 1
    if code == "contradicting_edits":
        wins = f"edits={{lists: [{home}/a.parquet, {home}/b.parquet], order: last_wins}}"
        assert run(home, more=("--set", wins))["samples"]["filtered"]["drop_list"] == 1


def test_a_damaged_or_missing_list_is_one_line(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = edited(home, (uids(home)[0], "drop"))
    whole = Path(url).read_bytes()
    for data in (whole[:-9], b"", None):
        Path(url).unlink() if data is None else Path(url).write_bytes(data)
        assert _main(["run", str(home / "recipe.yaml"), "--set", f"edits={url}", "--json"]) == 2
        error = json.loads(capsys.readouterr().err.splitlines()[-1])
        assert error["error"] == "bad_edit_list" and error["message"].startswith(url) and error["fix"]
    assert cu.open(f"{home}/out").number == 1


def test_show_counts_edits_contradictions_and_unknown_uids(home: Path) -> None:
    one = uids(home)[0]
    first = edited(home, replaced(one, "label", '"cat"'), (UNKNOWN, "drop"), name="a")
    second = edited(home, replaced(one, "label", '"dog"'), name="b")
    done = CliRunner().invoke(_cli(), ["edits", "show", first, second, "--json"])
    found = json.loads(done.stdout)
    assert done.exit_code == 2 and found["contradicting"] == 1 and found["unknown"] is None
    assert found["contradictions"][0]["left_asks"] == '"cat"' and found["lists"] == [first, second]
    text = CliRunner().invoke(_cli(), ["edits", "show", first, second])
    assert text.exit_code == 2 and "1 contradictions" in text.stderr
    recipe = ["edits", "show", str(home / "recipe.yaml")]
    wins = f"edits={{lists: [{first}, {second}], order: last_wins}}"
    found = json.loads(command(*recipe, "--set", wins, "--json"))
    assert (found["unknown"], found["resolved"], found["counts"]) == (1, True, {"drop": 1, "replace.label": 1})
    assert "1 uids are not in the corpus" in command(*recipe, "--set", wins)
    assert json.loads(command(*recipe, "--json"))["edits"] == 0


def test_merge_and_diff(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = uids(home)[:2]
    first = edited(home, (one, "keep"), (other, "keep"), name="a")
    second = edited(home, (one, "drop"), name="b")
    out = f"{home}/both.parquet"
    assert _main(["edits", "merge", first, second, "--out", out]) == 2 and not Path(out).exists()
    assert "contradicting_edits" in capsys.readouterr().err
    assert json.loads(command("edits", "merge", first, second, "--out", out, "--last-wins", "--json"))["edits"] == 2
    assert sorted(read_edit_list(out).table.column("verb").to_pylist()) == ["drop", "keep"]
    found = json.loads(command("edits", "diff", first, out, "--json"))
    row = {"uid": one, "slot": "decision", "change": "changed", "before": "keep", "after": "drop"}
    assert found == {"added": 0, "removed": 0, "changed": 1, "rows": [row]}
    assert "1 changed" in command("edits", "diff", first, out)


def _cli() -> Any:
    from jobs.cli import cli

    return cli
