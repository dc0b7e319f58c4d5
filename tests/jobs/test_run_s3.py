"""The same recipe against a real S3 server: same shards, same counts; and it is refused where S3 can't be trusted."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from broken_s3 import BrokenS3
from builders import write_corpus, write_recipe, write_weights
from running import curate

import curation as cu
from curation.curating.garbage import MIN_GRACE, sweep
from curation.ledger.ledger import Ledger
from curation.storage.store import open_store
from jobs.cli import _main
from jobs.commands.verify import problems_of

pytestmark = pytest.mark.s3


@pytest.fixture
def home(tmp_path: Path, s3_url: str) -> Path:
    write_corpus(tmp_path / "corpus", 3, 30)
    sha = write_weights(tmp_path / "w.safetensors")
    store = open_store(s3_url)
    for path in (tmp_path / "corpus").glob("*.tar"):
        store.put_file(f"corpus/{path.name}", path)
    store.put_file("w.safetensors", tmp_path / "w.safetensors")
    weights = f"{s3_url}/w.safetensors"
    write_recipe(tmp_path / "disk.yaml", str(tmp_path / "corpus"), str(tmp_path / "out"), weights, sha)
    write_recipe(tmp_path / "s3.yaml", f"{s3_url}/corpus/*.tar", f"{s3_url}/out", weights, sha)
    return tmp_path


@pytest.mark.ray
def test_disk_and_s3_give_the_same_dataset(home: Path, s3_url: str, ray_local: None) -> None:
    """On disk in this process, on S3 by the workers of Ray."""
    on_disk = curate(home / "disk.yaml").snapshot.document
    on_s3 = curate(home / "s3.yaml", ray=True).snapshot.document
    left, right = cu.open(str(home / "out")), cu.open(f"{s3_url}/out")
    columns = ["sha256", "bytes", "samples", "unit"]  # names hold a nonce
    assert left.shards.select(columns) == right.shards.select(columns)
    assert on_disk["samples"] == on_s3["samples"]
    assert [sample.uid for sample in left.samples()] == [sample.uid for sample in right.samples()]
    assert list(problems_of(right)) == []
    keys = sorted(sample["__key__"] for sample in right.webdataset())
    assert keys == sorted(sample.uid for sample in left.samples())


def test_commands_on_s3(home: Path, s3_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _main(["run", str(home / "s3.yaml"), "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert _main(["run", str(home / "s3.yaml"), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert first["model_batches"] > 0 and (again["model_batches"], again["data_puts"]) == (0, 0)
    assert _main(["show", "--json", f"{s3_url}/out@1"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert set(shown) == {
        "snapshot", "parent", "recipe_sha256", "fingerprints", "units", "samples", "groups", "shards", "evaluations"
    }  # fmt: skip
    assert all(shard["url"].startswith("s3://") for shard in shown["shards"])
    open_store(f"{s3_url}/out").put("data/leftover-of-a-killed-worker.tar", b"x" * 10)
    assert _main(["gc", f"{s3_url}/out", "--grace", "1h", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["objects"] == [], "it is young"
    found = sweep([Ledger(open_store(f"{s3_url}/out"))], grace=MIN_GRACE, delete=True, now=time.time() + 7200)
    assert [item.url for item in found] == [f"{s3_url}/out/data/leftover-of-a-killed-worker.tar"]
    assert _main(["verify", f"{s3_url}/out", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"]
    assert _main(["quarantine", "ls", f"{s3_url}/out", "--reason", "missing_text", "--json"]) == 0
    assert {row["reason"] for row in json.loads(capsys.readouterr().out)} == {"missing_text"}


def test_a_missing_bucket(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = ["--set", "corpus=s3://no-such-bucket-here/*.tar"]
    assert _main(["plan", str(home / "s3.yaml"), *missing]) == 3
    assert "[missing_bucket]" in capsys.readouterr().err


def test_wrong_credentials(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, fresh_clients: None
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert _main(["plan", str(home / "s3.yaml")]) == 3
    line = capsys.readouterr().err.strip()
    assert "[access_denied]" in line and "\n" not in line and "wrong" not in line


def test_a_store_that_ignores_create_only_puts_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with BrokenS3("ignores") as broken:
        changes = ["--set", f"store.endpoint={broken.endpoint}", "--set", "output=s3://bucket/out"]
        code = _main(["run", str(home / "disk.yaml"), *changes, "--set", "scorers=[]", "--set", "filters=[]"])
    line = capsys.readouterr().err.strip()
    assert code == 3
    assert "[unsafe_store]" in line and "\n" not in line
