"""The documents of evaluations: `show`, `diff` and `gc` read them; damaged ones are reported in one line."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from evaluating import EMPTY_ARM, SMALL, invoke

from curation.core.errors import LedgerError
from curation.curating.garbage import MIN_GRACE, sweep
from curation.ledger.ledger import Ledger
from curation.storage.store import open_store
from jobs.commands.evaluate import evaluate
from jobs.commands.inspect import diff, show


@pytest.mark.slow
def test_show_and_diff_report_it_and_gc_leaves_it(evaluated: Path) -> None:
    home = evaluated
    invoke(home, f"{home}/out@2")
    files = sorted(path for name in ("runs", "evaluations") for path in (home / "out" / name).rglob("*"))
    ledgers = [Ledger(open_store(f"{home}/out"))]
    assert sweep(ledgers, grace=MIN_GRACE, delete=True, now=time.time() + 7200) == []
    assert sorted(path for name in ("runs", "evaluations") for path in (home / "out" / name).rglob("*")) == files
    text = CliRunner().invoke(show, [f"{home}/out@2"], catch_exceptions=False).stdout
    assert f"evaluation of @2 on {home}/test (48 samples" in text and "- random" in text and "±" in text
    assert "each model: proxy-mu, 2 updates of 8 pairs, lr 0.002: 16 samples seen" in text and "seeds 0, 1" in text
    text = CliRunner().invoke(diff, [f"{home}/out@1", f"{home}/out@2"], catch_exceptions=False).stdout
    assert "@2 - @1" in text and "recall@5" in text and "zero-shot" in text
    result = CliRunner().invoke(diff, [f"{home}/out@1", f"{home}/out@2", "--json"], catch_exceptions=False)
    (both,) = json.loads(result.stdout)["evaluations"]
    difference = both["difference"]["recall@5"]
    assert difference["paired"]
    assert difference["mean"] == pytest.approx(both["to"]["recall@5"]["mean"] - both["from"]["recall@5"]["mean"])
    assert len(json.loads(CliRunner().invoke(show, [f"{home}/out@1", "--json"]).stdout)["evaluations"]) == 1


@pytest.mark.slow
def test_an_evaluation_from_before_the_correction_is_read_and_judged_again(evaluated: Path) -> None:
    """Its document has no `intervals`, and each difference was judged alone."""
    path = next((evaluated / "out/evaluations").iterdir())
    document = json.loads(path.read_text())
    intervals = document.pop("intervals")
    assert intervals == {"correction": "bonferroni", "level": 0.95, "comparisons": 6}
    for place, arm in enumerate(("raw", "random")):
        for row, figure in zip(document["arms"][arm]["runs"], (0.100, 0.102), strict=True):
            row["recall@1"] = figure - place / 1000
        document["minus"][arm]["recall@1"] = {"mean": 0.2, "half": 0.01, "paired": True, "word": "better"}
    for row, figure in zip(document["arms"]["curated"]["runs"], (0.300, 0.303), strict=True):
        row["recall@1"] = figure  # 12.7 standard errors are 0.0064, 76 are 0.038; and by 0.2 it is better
    path.write_text(json.dumps(document))
    text = CliRunner().invoke(show, [f"{evaluated}/out@1"], catch_exceptions=False).stdout
    assert "hold together (Bonferroni: 76.4 standard errors with 2 seeds)" in text
    assert "+0.201 ± 0.038 better" in text and "± 0.010" not in text
    shown = json.loads(CliRunner().invoke(show, [f"{evaluated}/out@1", "--json"]).stdout)["evaluations"]
    assert shown == [document], "as it was recorded"
    invoke(evaluated, f"{evaluated}/out@2")
    result = CliRunner().invoke(diff, [f"{evaluated}/out@1", f"{evaluated}/out@2", "--json"], catch_exceptions=False)
    (both,) = json.loads(result.stdout)["evaluations"]
    assert both["intervals"] == {**intervals, "comparisons": 3}


@pytest.mark.slow
def test_damaged_documents_are_one_line(evaluated: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(evaluated / "out", out)
    name = next((out / "evaluations").iterdir())
    for text in ('{"x', "{}", '{"arms": {}}', '{"arms": {"curated": {}}, "protocol": {}}', EMPTY_ARM):
        name.write_text(text)
        with pytest.raises(LedgerError, match=r"evaluations/.* is damaged"):
            CliRunner().invoke(show, [f"{out}@1"], catch_exceptions=False)
    shutil.rmtree(out / "evaluations")
    for text in ("{}", '{"run": "x", "seed": 0}', '{"run": "x", "seed": "x"}'):
        for path in (out / "runs").glob("*/evaluations/*.json"):
            path.write_text(text)
        with pytest.raises(LedgerError, match=r"runs/.* is damaged"):
            invoke(evaluated, f"{out}@1", "--runs", f"{out}/runs")
    assert not (out / "evaluations").exists(), "nothing is made of it"
    for path in (out / "runs").glob("*/evaluations/*.json"):
        path.unlink()
    model = next((out / "runs").glob("*/*.safetensors"))
    model.write_bytes(model.read_bytes()[:-1] + b"?")
    with pytest.raises(LedgerError, match="another sha256"):
        invoke(evaluated, f"{out}@1", "--runs", f"{out}/runs")
    for path in (out / "runs").glob("*/card.json"):
        path.write_text("[]")  # is trained again
    assert 0 < invoke(evaluated, f"{out}@1", "--runs", f"{out}/runs")["judged"] <= 6


@pytest.mark.slow
def test_diff_reports_evaluations_that_cannot_be_compared_and_leaks(home: Path) -> None:
    invoke(home, f"{home}/out@1", "--no-raw", "--no-random")
    command = [f"{home}/out@2", "--against", f"{home}/test", *SMALL, "--no-raw", "--no-random", "--lr", "0.001"]
    assert CliRunner().invoke(evaluate, command, catch_exceptions=False).exit_code == 0
    said = CliRunner().invoke(diff, [f"{home}/out@1", f"{home}/out@2"], catch_exceptions=False).stdout
    assert "the evaluations of both can't be compared, because they differ in lr" in said
    invoke(home, f"{home}/out@1", f"{home}/out@2", "--no-raw", "--no-random", against="corpus")
    said = CliRunner().invoke(diff, [f"{home}/out@1", f"{home}/out@2"], catch_exceptions=False).stdout
    assert said.count("WARNING: of the held-out pictures") == 2 and "2 updates of 8 pairs, lr 0.002" in said
