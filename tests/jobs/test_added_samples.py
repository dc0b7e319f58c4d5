"""Samples that edits add from marked shards: what is written, what is a finding, what verify makes of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import picture, write_corpus
from click.testing import CliRunner
from edits_given import edits, replaced
from labelled import uids_of, write_labelled
from running import Curated, command, curate
from services import one_line

import curation as cu
from curation.core.errors import EditListError
from curation.curating.garbage import MIN_GRACE, sweep
from curation.ledger.edit_lists import write_edit_list
from curation.ledger.ledger import Ledger
from jobs.cli import cli

CLASSES = ["cat", "dog", "owl"]
MARKS = dict.fromkeys(range(3), "synthetic") | {3: "restored", 4: "synthetic"}
UNKNOWN = "f" * 32

pytestmark = pytest.mark.slow


@pytest.fixture
def home(tmp_path: Path, inline: None) -> Iterator[Path]:
    """A corpus of two shards, marked samples elsewhere (the sixth is real), and a recipe whose filter drops these."""
    write_corpus(tmp_path / "corpus", 2, 24, flaws=False)
    write_labelled(tmp_path / "elsewhere/marked", CLASSES * 2, MARKS)
    recipe = {
        "corpus": f"{tmp_path}/corpus", "output": f"{tmp_path}/out", "scorers": [{"caption_stats": {}}],
        "filters": [{"caption": {"min_words": 3}}], "shards": {"samples": 20}, "edits": f"{tmp_path}/edits.parquet",
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return tmp_path


def run(home: Path, *rows: tuple[Any, ...], **options: bool) -> Curated:
    write_edit_list(f"{home}/edits.parquet", edits(*rows))
    return curate(home / "recipe.yaml", **options)


def shard(home: Path) -> str:
    return f"{home}/elsewhere/marked/0.tar"


def add(home: Path, uid: str) -> tuple[Any, ...]:
    return (uid, "add", None, shard(home), None, "augment", "run-1")


def rows_of(made: Curated) -> dict[str, dict[str, Any]]:
    return {row["uid"]: row for row in made.snapshot.manifest.to_arrow().to_pylist()}


def findings(url: str) -> list[Any]:
    found: list[Any] = json.loads(command("verify", url, "--all", "--json"))["findings"]
    return found


def test_a_marked_sample_is_written_with_its_origin_and_parent(home: Path) -> None:
    marked = uids_of(home / "elsewhere/marked")
    made = run(home, add(home, marked[0]), add(home, marked[3]), replaced(marked[3], "name", '"cow"', "review"))
    rows, written = rows_of(made), {sample.uid: sample for sample in made.snapshot.samples()}
    first = rows[marked[0]]
    assert (first["decision"], first["origin"], first["source_key"], first["weight"]) == (
        "kept", "synthetic", shard(home), 1.0,
    )  # fmt: skip
    assert first["caption_stats.words"] is None, "no scorer has seen it"
    sample = written[marked[0]]
    assert sample.image == picture(0, "png") and sample.metadata["name"] == "cat"
    entry = sample.metadata["tutelage"]
    assert entry["origin"] == "synthetic" and entry["parent"] == {"origin": "synthetic"}
    assert entry["source"]["key"] == shard(home) and entry["uid"] == marked[0]
    assert written[marked[3]].metadata["name"] == "cow" and rows[marked[3]]["origin"] == "restored"
    document = made.snapshot.document
    assert document["added"]["samples"]["kept"] == 2 and document["units"]["total"] == 2
    assert document["samples"]["seen"] == 48 + 2 == made.snapshot.manifest.to_arrow(["uid"]).num_rows
    assert len(written) == document["samples"]["kept"]

    again = curate(home / "recipe.yaml")
    assert again.snapshot.number == made.snapshot.number and again.work.data_puts == 0
    (home / "edits.parquet").unlink()  # the snapshot has a copy
    assert findings(f"{home}/out") == []


def test_a_sample_that_cannot_be_added_is_a_row_with_a_reason(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    marked = uids_of(home / "elsewhere/marked")
    gone = (f"{1:032x}", "add", None, f"{home}/elsewhere/gone.tar")
    made = run(home, add(home, marked[0]), add(home, marked[5]), add(home, UNKNOWN), gone)
    reasons = {uid: rows_of(made)[uid]["reason"] for uid in (marked[0], marked[5], UNKNOWN, gone[0])}
    assert reasons == {marked[0]: None, marked[5]: "not_marked", UNKNOWN: "missing_sample", gone[0]: "store_not_found"}
    samples = made.snapshot.document["added"]["samples"]
    assert samples["kept"] == 1 and sum(samples["quarantined"].values()) == 3 and samples["seen"] == 4
    assert "edits add 1 samples of marked shards; 3 are not: missing_sample 1, not_marked 1" in capsys.readouterr().err
    assert findings(f"{home}/out") == []
    # Once the shard is there, the same command adds its samples.
    write_labelled(home / "late", ["cat"], {0: "synthetic"})
    (home / "late/0.tar").rename(home / "elsewhere/gone.tar")
    later = curate(home / "recipe.yaml")
    assert later.snapshot.number == 2 and rows_of(later)[gone[0]]["reason"] == "missing_sample"
    assert "edits add 1 samples of marked shards; 3 are not" in command("show", f"{home}/out")
    assert json.loads(command("show", f"{home}/out", "--json"))["added"]["kept"] == 1


def test_added_samples_are_no_yield_of_the_corpus(home: Path) -> None:
    """A corpus of few kept samples beside many added ones is not taken for a fall of the yield."""
    recipe = yaml.safe_load((home / "recipe.yaml").read_text())
    (home / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "filters": [{"caption": {"min_words": 100}}]}))
    marked = uids_of(home / "elsewhere/marked")
    run(home, *(add(home, uid) for uid in marked[:5]), (uids_of(home / "corpus")[0], "keep"))
    assert run(home, (uids_of(home / "corpus")[0], "keep"), accept_yield=False).snapshot.number == 2


def test_a_damaged_shard_costs_its_samples_alone(home: Path) -> None:
    marked = uids_of(home / "elsewhere/marked")
    path = Path(shard(home))
    path.write_bytes(path.read_bytes()[:2048] + b"\x01" * 512)
    from curation.core.types import uid
    from curation.storage.store import open_object

    store, key = open_object(str(path))
    found = uid(key, store.head(key).etag, 0)
    made = run(home, add(home, found), add(home, marked[1]))
    rows = rows_of(made)
    assert rows[marked[1]]["decision"] == "quarantined" and rows[marked[1]]["reason"].startswith("tar_")
    assert made.snapshot.document["samples"]["kept"] >= 40 and findings(f"{home}/out") == []


def test_drops_outweigh_adds_and_weights_apply(home: Path) -> None:
    marked = uids_of(home / "elsewhere/marked")
    made = run(
        home, add(home, marked[0]), (marked[0], "drop"), add(home, marked[1]), (marked[1], "weight", None, "2.5")
    )
    rows = rows_of(made)
    assert (rows[marked[0]]["decision"], rows[marked[0]]["reason"]) == ("filtered", "drop_list")
    assert rows[marked[1]]["weight"] == 2.5 and made.snapshot.document["samples"]["filtered"]["drop_list"] == 1


def test_a_uid_that_the_corpus_has_is_an_error_that_names_both(home: Path) -> None:
    one = uids_of(home / "corpus")[30]
    with pytest.raises(EditListError) as caught:
        run(home, add(home, one))
    line = one_line(caught.value)
    assert one in line and shard(home) in line and "the corpus has it already, in 00001.tar" in line
    assert "keep" in caught.value.fix and not (home / "out/snapshots").exists()


def test_a_stale_edit_of_an_added_sample_is_reported(home: Path) -> None:
    marked = uids_of(home / "elsewhere/marked")
    made = run(home, add(home, marked[0]), (marked[0], "replace", "name", '"cow"', '"dog"'))
    assert made.snapshot.document["stale_edits"]["count"] == 1
    assert rows_of(made)[marked[0]]["origin"] == "synthetic"


def test_a_marked_shard_that_is_gone_is_a_finding_of_verify(home: Path) -> None:
    made = run(home, add(home, uids_of(home / "elsewhere/marked")[0]))
    Path(shard(home)).unlink()
    done = CliRunner().invoke(cli, ["verify", f"{home}/out", "--json"])
    found = json.loads(done.stdout)["findings"]
    assert [item["code"] for item in found] == ["blocked"] and "0.tar" in found[0]["what"]
    assert len(list(made.snapshot.samples())) == made.snapshot.document.samples.kept, "the output needs no source"


def test_damage_of_an_added_samples_shard_is_repaired(home: Path) -> None:
    made = run(home, *(add(home, uid) for uid in uids_of(home / "elsewhere/marked")[:5]))
    (place,) = {row["output_shard"] for row in rows_of(made).values() if row["origin"] == "synthetic"}
    path = home / "out" / place
    right = path.read_bytes()
    path.write_bytes(right.replace(b'"owl"', b'"cow"'))
    found = json.loads(command("repair", f"{home}/out", "--apply", "--json"))
    assert path.read_bytes() == right and found and findings(f"{home}/out") == []


def test_the_pool_of_an_evaluation_has_no_added_sample(home: Path) -> None:
    from curation.dataset.random_subset import source_shards, usable

    made = run(home, add(home, uids_of(home / "elsewhere/marked")[0]))
    assert usable(made.snapshot) == 48 and len(source_shards(made.snapshot)) == 2
    changed = cu.diff(made.snapshot, made.snapshot)
    assert changed["entered"] == changed["left"] == 0


def test_garbage_collection_keeps_them_and_another_dataset_is_compared_without_them(home: Path) -> None:
    made = run(home, add(home, uids_of(home / "elsewhere/marked")[0]))
    sweep([Ledger(made.snapshot.store)], grace=MIN_GRACE, now=time.time() + 10 * MIN_GRACE, delete=True)
    assert findings(f"{home}/out") == [] and len(list(made.snapshot.samples())) == made.snapshot.document.samples.kept
    recipe = yaml.safe_load((home / "recipe.yaml").read_text())
    recipe |= {"output": f"{home}/clean", "filters": [{"decontaminate": {"against": [f"{home}/out"]}}], "edits": None}
    (home / "clean.yaml").write_text(yaml.safe_dump({**recipe, "scorers": []}))
    found = curate(home / "clean.yaml").snapshot.document.samples.filtered
    assert found == {"decontaminate.exact": made.snapshot.document.samples.kept - 1}
