"""The pure parts of `make bench`: figures by round, ratios with bars, tables, options, and the corpora's bytes."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from bench import scoring
from bench.measure import CommandError, last_json, measure
from bench.throughput import bars, corpora, environments, ours, peers, plot, tables
from bench.throughput.bench import agreement
from bench.throughput.places import Place
from bench.throughput.rounds import Rounds, at_size, ratios, spread
from bench.throughput.stages import Done, summary
from bench.throughput.workloads import SMALL, WORKLOADS

LIMITS = {"get": 9_000.0, "scan": 8_000.0, "decode": 2_000.0, "forward": 4_000.0, "cores": 2, "cpu decode": 1.0}


@pytest.fixture
def rounds() -> Rounds:
    """Two rounds of workload A: a neighbour halves every rate of the second."""
    found = Rounds()
    for number, share in enumerate((1.0, 0.5)):
        stages = {name: value * share if name in bars.STAGES else value for name, value in LIMITS.items()}
        found.note("A", "local", "limits", number, **stages, **{"cpu forward": 0.5})
        for arm, steady, overhead in (("local", 1_900.0, 1.0), ("tuned", 1_000.0, 2.0)):
            rate, extra = steady * share, overhead / share
            seconds = extra + 4_000 / rate
            found.note("A", "local", arm, number, samples=4_000, seconds=seconds, steady=rate, overhead=extra,
                       **{"end to end": 4_000 / seconds}, cpu=1.0, pss=1.0)  # fmt: skip
    found.note("A", "local", "daft", 0, error="daft.py: exit code 1\nTraceback\nValueError: no tar | at all")
    found.note("A", "local", "agreement tuned", 0, close=0.9995, median=1e-6, correlation=0.9999)
    found.note("fixed", "local", "fixed", 0, **{"cpu s": 7.0, "seconds": 3.0})
    return found


def test_ratios_are_taken_within_a_round(rounds: Rounds) -> None:
    found = {item.title: item for item in bars.all_ratios(rounds) if item.workload == "A"}
    steady = found["local: steady / slowest single stage"]
    assert steady.value == pytest.approx((0.95, 0.95, 0.95))
    assert (steady.bar, steady.verdict) == (0.95, "met")
    assert found["local: steady / shared-CPU limit"].value.middle == pytest.approx((1_900 + 950) / 2 / (2 / 1.5e-3))
    compared = found["local / tuned loop, end to end at 30,000"]
    assert compared.value == pytest.approx([(2 + 30_000 / 1_000) / (1 + 30_000 / 1_900)] * 3)
    assert found["local / tuned loop, steady"].verdict == ""


def test_costs_have_an_upper_bar(rounds: Rounds) -> None:
    found = {item.title: item.verdict for item in bars.all_ratios(rounds) if item.workload == "fixed"}
    assert found == {"fixed cost of 2 small shards, CPU s": "not met", "fixed cost of 2 small shards, wall s": "met"}


def test_a_figure_without_its_partner_gives_no_ratio() -> None:
    assert ratios({0: 4.0, 1: 6.0}, {1: 2.0, 2: 1.0}) == {1: 3.0}
    assert spread({}) is None


def test_a_rate_at_the_size_of_the_run_is_its_own() -> None:
    figures = {"overhead": {0: 3.0}, "steady": {0: 500.0}}
    assert at_size(figures, 1_000) == {0: 1_000 / (3.0 + 2.0)}


def test_tables_name_every_arm_and_why_one_did_not_run(rounds: Rounds) -> None:
    rows = tables.arms_table(rounds, "A", "local")
    assert {len(row) for row in rows} == {len(rows[0])}
    named = {row[0]: row[1] for row in rows}
    assert named["limit: slowest single stage"] == "1,500 (1,000-2,000)"
    assert named["curate run, local"] == "1,425 (950-1,900)"
    assert named["Daft 0.7"] == "did not run: ValueError: no tar | at all"
    lines = tables.markdown(rows)
    assert len({line.count("|") for line in lines}) == 1, "a | of a message would add a cell"
    assert tables.agreements(rounds, "A", "local")[1].startswith("- scores of tuned loop (the same decoding as ours)")


@pytest.mark.slow
def test_the_picture_is_a_function_of_the_figures(rounds: Rounds, tmp_path: Path) -> None:
    for name in ("one.svg", "two.svg"):
        plot.draw(rounds, tmp_path / name)
    assert (tmp_path / "one.svg").read_text() == (tmp_path / "two.svg").read_text()


def test_figures_survive_the_process(rounds: Rounds, tmp_path: Path) -> None:
    kept = Rounds(tmp_path / "run.jsonl")
    for row in rounds.rows:
        kept.note(**{("number" if name == "round" else name): value for name, value in row.items()})
    assert Rounds.load(tmp_path / "run.jsonl").rows == rounds.rows
    twice = Rounds.load(tmp_path / "run.jsonl", tmp_path / "run.jsonl")
    assert list(twice.values("A", "local", "local", "steady")) == [0, 1, 2, 3], "rounds of two runs are not mixed"


def test_the_better_way_of_the_forward_pass_is_its_limit() -> None:
    one = {stage: Done(100, 0.0, 1.0, 0.5) for stage in ("get", "scan", "decode")}
    said = [{**one, "processes": Done(100, 0.0, 2.0, 2.0), "threads": Done(100, 0.0, 0.5, 0.8)},
            {**one, "processes": Done(100, 0.1, 2.0, 2.0)}]  # fmt: skip
    found = summary(said)
    assert (found["decode"], found["cpu decode"], found["cores"]) == (200.0, 5.0, 2)
    assert (found["processes"], found["forward"], found["cpu forward"]) == (100.0, 200.0, 8.0)


@pytest.mark.slow
@pytest.mark.parametrize("workload", ["A", "B", "C"])
def test_samples_are_a_function_of_their_number(workload: str) -> None:
    item = WORKLOADS[workload]
    data, caption = corpora.sample(item, 7)
    assert (data, caption) == corpora.sample(item, 7)
    assert data != corpora.sample(item, 8)[0]
    assert caption.strip()
    assert data.startswith(b"\xff\xd8" if item.image == "jpg" else b"\x89PNG")


def test_photographs_are_grounds(tmp_path: Path) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "green.png"), np.full((300, 900, 3), (0, 200, 0), np.uint8))
    data, _ = corpora.sample(WORKLOADS["A"], 3, corpora.images(tmp_path))
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert min(pixels.shape[:2]) >= 512
    assert np.abs(np.median(pixels.reshape(-1, 3), axis=0) - (0, 200, 0)).max() < 5
    with pytest.raises(ValueError, match="contains no"):
        corpora.images(tmp_path / "nothing")


@pytest.mark.slow
def test_a_shard_is_complete_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpora.build_shard(SMALL, 1, tmp_path / "00001.tar")
    with tarfile.open(tmp_path / "00001.tar") as tar:
        assert tar.getnames()[:3] == ["00000008.png", "00000008.txt", "00000009.png"]
    monkeypatch.setattr(corpora, "sample", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        corpora.build_shard(SMALL, 2, tmp_path / "00002.tar")
    assert not (tmp_path / "00002.tar").exists()


def test_shards_are_unpacked_for_data_juicer(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "00000.tar", "w") as tar:
        for name, data in (("a.png", b"image"), ("a.txt", b"a cat")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    place = Place("local", str(tmp_path), (str(tmp_path / "00000.tar"),), {})
    (row,) = map(json.loads, peers.unpacked(place, tmp_path / "cache", SMALL).read_text().splitlines())
    assert row["text"] == "<__dj__image> a cat <|__dj__eoc|>"
    assert Path(row["images"][0]).read_bytes() == b"image"


def test_scores_are_compared_by_key(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", keys=["a", "b", "c"], scores=[0.1, 0.2, 0.4])
    np.savez(tmp_path / "two.npz", keys=["c", "b", "d", "a"], scores=[0.4, 0.2, 9.0, 0.2])
    difference, correlation = agreement(tmp_path / "one.npz", tmp_path / "two.npz")
    assert difference == pytest.approx([0.1, 0.0, 0.0])
    assert 0.9 < correlation < 1


def test_files_are_copied_and_read_for_the_limits(tmp_path: Path) -> None:
    files = [tmp_path / folder / "x.tar" for folder in ("one", "two")]
    for file in files:
        file.parent.mkdir()
        file.write_bytes(b"bytes")
    assert ours.copied(files, tmp_path) > 0
    assert len(list(tmp_path.iterdir())) == 2, "the copies are removed"
    assert min(ours.reading(files)) > 0


def test_every_peer_has_a_script_and_pins() -> None:
    for peer in peers.PEERS_BY_NAME.values():
        assert (peers.PEERS / peer.script).exists()
        lines = (peers.PEERS / f"{peer.requirements}.txt").read_text().splitlines()
        assert all("==" in line for line in lines if not line.startswith("#")), peer.name


def test_pip_says_why_it_failed() -> None:
    log = "Collecting x\nERROR: Could not find a version that satisfies x==9\nERROR: No matching distribution\n"
    assert environments.reason(log) == "Could not find a version that satisfies x==9"


def test_a_command_is_measured_with_its_orphans() -> None:
    child = "sum(i * i for i in range(10**6))"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}]); print('{{\"samples\": 3}}')"
    run = measure([sys.executable, "-c", code])
    assert run.said == {"samples": 3}
    assert run.cpu > 0
    with pytest.raises(CommandError, match=r"exit code 3\n.*\nvalue of stderr"):
        measure([sys.executable, "-c", "import sys; print('value of stderr', file=sys.stderr); sys.exit(3)"])
    assert last_json("no JSON\n") == last_json("") == {}


def test_a_part_leaves_the_page_as_it_is() -> None:
    assert scoring.parse([]).whole
    for words in (["--quick"], ["--only", "A,B"], ["--arms", "local"], ["--samples", "C=50000"], ["--no-s3"]):
        assert not scoring.parse(words).whole, words
    options = scoring.parse(["--only", "C", "--samples", "C=50000"])
    assert (list(options.workloads), options.samples) == (["C"], {"C": 50_000})
    with pytest.raises(SystemExit):
        scoring.parse(["--only", "D"])
