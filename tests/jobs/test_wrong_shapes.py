"""Documents of the wrong shape, each in the place of each that a dataset has, under every command that may read it:
one line that names the object, or an answer that does not need it; never a traceback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from builders import write_corpus, write_recipe
from running import curate
from sampling import one_in
from services import Clock

from actors.ray_cluster import ClusterError
from curation.core.digest import canonical
from curation.storage import retry
from jobs.cli import _main

pytestmark = pytest.mark.slow

SHAPES = {"empty": b"", "object": b'{"a": 1}'}  # others: tests/curation/ledger/test_documents.py
DOCUMENTS = [
    "LATEST",
    "snapshots/000002.json",
    "plans/*.json",
    "plans/pages/*.parquet",
    "units/*.json",
    "scores/units/*.json",
    "scores/data/*.parquet",
    "data/shards-*.parquet",
    "data/manifest-*.parquet",
    "data/matches-*.parquet",
    "data/urls-*.txt",
    "data/keep-*.txt",
    "data/[0-9a-f]*.parquet",  # parts of the manifest
    "evaluations/*.json",
]
COMMANDS = [
    "show {out}", "show {out}@1 --json", "show {out} --urls", "diff {out}@1 {out}@2", "status {recipe}",
    "plan {recipe}", "run {recipe} --executor ray", "run {recipe} --executor ray --set filters=[]",
    "what-if {recipe} --no-keep", "gc {out} --dry-run", "matches {out}", "quarantine ls {out}",
    "scores ls {out}/scores", "scores show {recipe}", "scores export {recipe} --out {home}/exported",
    "scores gc {out}/scores --keep {recipe} --delete", "scores gc {out}/scores --keep-snapshots {out}",
    "run {recipe} --executor ray --check-scores",  # last: it deletes damaged records
]  # fmt: skip
EVALUATION = {
    "snapshot": 2, "protocol": {"model": "proxy-mu", "training": {"steps": 2, "batch": 8, "lr": 0.002}},
    "held_out": {"url": "test", "share": 0, "samples": 48}, "overlap": None, "minus": {}, "weighted": False,
    "arms": {
        "curated": {
            "samples": 10, "mean": {"recall@5": {"mean": 0.5, "half": None}},
            "runs": [{"run": "r", "seed": 0, "seconds": 1, "samples_seen": 16, "flops": 1e9, "recall@5": 0.5}],
        }
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two snapshots with a list, matches and an evaluation."""
    home = tmp_path_factory.mktemp("shapes")
    write_corpus(home / "corpus", 1, 24)
    filters = [{"decontaminate": {"against": [f"{home}/out"]}}, {"caption": {"min_words": 2}}, {"exact_duplicates": {}}]
    recipe = write_recipe(home / "r.yaml", f"{home}/corpus", f"{home}/out", "", "", scorers=[], filters=filters)
    first = curate(recipe).snapshot
    kept = home / "kept.txt"
    kept.write_text("".join(f"{sample.uid}\n" for sample in first.samples()))
    recipe.write_text(recipe.read_text() + f"keep: {kept}\n")
    curate(recipe)
    (home / "out/evaluations").mkdir()
    (home / "out/evaluations/000002-x.json").write_bytes(canonical(EVALUATION))
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to damage, with a recipe for it. Nothing is left to do that takes a cluster, so none is started. A damaged
    object is read again after 0.1 s: these seconds do not pass."""
    monkeypatch.setattr(retry, "time", Clock())
    shutil.copytree(made / "out", tmp_path / "out")
    text = (made / "r.yaml").read_text().replace(f"{made}/out", f"{tmp_path}/out")
    (tmp_path / "r.yaml").write_text(text)

    @contextmanager
    def none(address: str | None = None) -> Iterator[None]:
        raise ClusterError("this test has no cluster")
        yield

    monkeypatch.setattr("actors.ray_cluster.ray_cluster", none)
    return tmp_path


def answers(home: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, tuple[int, str]]:
    """Command -> exit code, what it says on stderr. An error that is no `TutelageError` is raised."""
    found = {}
    for command in COMMANDS:
        shutil.rmtree(home / "exported", ignore_errors=True)
        words = command.format(out=home / "out", recipe=home / "r.yaml", home=home).split()
        code = _main(words)
        found[command] = code, capsys.readouterr().err.strip()
    return found


@pytest.mark.slow
def test_whole_documents_are_read_by_all_of_them(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command, (code, text) in answers(home, capsys).items():
        assert code == 0 or "no cluster" in text, f"{command}: {text}"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("document", one_in(6, DOCUMENTS, tested=2))
def test_the_wrong_shape(document: str, shape: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = sorted((home / "out").glob(document))
    assert places, f"the dataset has no {document}"
    for place in places:
        place.write_bytes(SHAPES[shape])
    names = [place.name for place in places]
    failed = 0
    for command, (code, text) in answers(home, capsys).items():
        if code == 0 or "no cluster" in text:
            continue
        failed += 1
        line = text.splitlines()[-1]
        said = " -- " in line if line.startswith("curate: ") else json.loads(line)["fix"]
        assert code in (2, 3, 4) and said, f"{command}: {text}"
        assert any(name in line for name in names), f"{command} does not name the object: {text}"
    assert failed or document in ("LATEST", "data/urls-*.txt", "data/keep-*.txt"), "some command has to notice"


@pytest.mark.slow
def test_documents_of_whole_shape_but_other_types(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = home / "out/snapshots/000002.json"
    whole = json.loads(path.read_text())
    for change in (
        {"samples": {**whole["samples"], "seen": str(whole["samples"]["seen"])}},
        {"samples": {**whole["samples"], "kept": -1}},
        {"samples": {**whole["samples"], "kept": whole["samples"]["kept"] + 1}},
        {"shards": {**whole["shards"], "key": "data/../../etc/passwd"}},
        {"recipe": []},
        {"recipe": {"corpus": 3}},
        {"recipe": {"scorers": 3}},
        {"fingerprints": {"index": 3}},
        {"against": {"x": "1"}},
        {"lists": {"keep": {}}},
        {"score_types": {"x": "complex"}},
        {"scores": ["x"], "score_types": {"x": "complex"}},
    ):
        path.write_text(json.dumps({**whole, **change}))
        for code, text in answers(home, capsys).values():
            line = (text.splitlines() or [""])[-1]
            assert code in (0, 2, 3, 4) and (code == 0 or line.startswith(("curate: ", "{"))), f"{change}: {text}"
