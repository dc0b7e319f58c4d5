"""A data policy as a snapshot: samples that a run chose often, with how often as their weights."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import pytest
from builders import write_corpus, write_recipe, write_weights
from click.testing import CliRunner
from running import command

import curation as cu
from curation.core.errors import RecipeError, UserError
from curation.curating.pipeline import pipeline
from curation.learning.data import read_data
from curation.learning.pinned_input import pin_input
from curation.ledger.uid_lists import parse_weights
from curation.recipes.curation_recipe import load_recipe
from curation.recipes.learning_recipe import parse_learn_recipe
from jobs.cli import cli
from jobs.commands.run import run_steps

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("inline")]


def test_a_policy_becomes_a_snapshot(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", 2, 60, flaws=False)
    sha = write_weights(tmp_path / "w.safetensors")
    made = write_recipe(tmp_path / "r.yaml", f"{tmp_path}/corpus", f"{tmp_path}/out", f"{tmp_path}/w.safetensors", sha)
    with pipeline(load_recipe(made)) as work:
        run_steps(work, None)
    (tmp_path / "learn.yaml").write_text(f"""
data: {tmp_path}/out
output: {tmp_path}/learned
learner: {{contrastive: {{model: proxy-mu, steps: 10, batch: 8}}}}
reference: {{column: clip_score}}
selection: {{selector: {{easy_reference: {{gain: 100}}}}}}
holdout: 0.3
by: [source_key]
device: cpu
""")
    learned = json.loads(command("learn", f"{tmp_path}/learn.yaml", "--json"))
    assert learned["data"] == [f"{tmp_path}/out@1"]
    rows = [json.loads(line) for line in (tmp_path / "learned/metrics.jsonl").read_text().splitlines()]
    shares = next(row["chosen_share"] for row in rows if row["step"] == 10)
    assert shares["source_key"].keys() == {"00000.tar", "00001.tar"}  # of the manifest
    classes = "learner={classification: {model: proxy-mu, steps: 2, batch: 8, label: number}}"
    mixed = ["--set", "selection.selector=learnability", "--set", "online={model: proxy-mu}", "--set", classes]
    with pytest.raises(UserError, match="is a cosine, and the online model's losses are in nats"):
        CliRunner().invoke(cli, ["learn", f"{tmp_path}/learn.yaml", *mixed], catch_exceptions=False)
    shown = json.loads(command("policy", "show", f"{tmp_path}/learned", "--json"))
    assert shown["steps"] == 10 and shown["chosen"] == 80 and shown["bytes_per_candidate"] > 2
    assert sum(int(times) * n for times, n in shown["times"].items()) == 80
    assert "trained on" in command("policy", "show", f"{tmp_path}/learned")
    command("policy", "weights", f"{tmp_path}/learned", "--least", "2", "--out", f"{tmp_path}/chosen.tsv")
    none = ["policy", "weights", f"{tmp_path}/learned", "--least", "99", "--out", f"{tmp_path}/none.tsv"]
    with pytest.raises(UserError, match="no sample was trained on 99 times; the maximum is"):
        CliRunner().invoke(cli, none, catch_exceptions=False, standalone_mode=False)
    counts = dict(line.split("\t") for line in (tmp_path / "chosen.tsv").read_text().splitlines())
    overrides = [f"weights={tmp_path}/chosen.tsv", f"output={tmp_path}/chosen", f"scores={tmp_path}/out/scores"]
    with pipeline(load_recipe(made, overrides)) as work:
        document = run_steps(work, None)
        assert work.counts.model_batches == 0  # the scores are there already
    snapshot = cu.open(f"{tmp_path}/chosen")
    rows = snapshot.manifest.query("select uid, weight from manifest where decision = 'kept'").to_pylist()
    assert {row["uid"]: row["weight"] for row in rows} == {uid: float(count) for uid, count in counts.items()}
    assert document["samples"]["filtered"]["weights"] == cu.open(f"{tmp_path}/out").document["samples"]["kept"] - len(
        rows
    )
    text = (tmp_path / "learn.yaml").read_text().replace("/out\n", "/chosen\n").replace("batch: 8", "batch: 2")
    mean = sum(map(int, counts.values())) / len(counts)
    for weighted in (True, False):  # and a learner meets each so often
        recipe = parse_learn_recipe(text, overrides=[f"weighted={weighted}", f"evaluation={tmp_path}/corpus"])
        data = read_data(recipe, pin_input(recipe), lambda label, total: nullcontext(lambda n: None))
        blocks = [data.candidates.read(ordinal)[0] for ordinal in range(len(data.candidates.shards))]
        assert all(weighted == (block.weights is not None) for block in blocks)
        for block in blocks if weighted else []:
            assert block.weights is not None
            wanted = [int(counts[uid.decode()]) / mean for uid in block.uids]
            assert block.weights.tolist() == pytest.approx(wanted)
    met = Counter(example.uid for example in snapshot.torch(size=16, shuffle=0, weighted=True))
    assert all(abs(met[uid] - int(count) / mean) < 1 for uid, count in counts.items())
    for option in ("--weighted", "--no-weighted"):
        out = f"{tmp_path}/plain{option}"
        card = json.loads(command("learn", f"{tmp_path}/chosen", "--out", out, "--steps", "1", "--batch", "2", "--eval",
                                 f"{tmp_path}/corpus", "--device", "cpu", "--json", option))  # fmt: skip
        assert ("data_weights" in card["recipe"]) == (option == "--weighted")
    assert json.loads(command("verify", f"{tmp_path}/chosen", "--json"))["ok"]
    (tmp_path / "chosen.tsv").unlink()  # the snapshot has a copy of its own
    assert json.loads(command("verify", f"{tmp_path}/chosen", "--json"))["ok"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("a" * 32 + "\tmany", "list:1: this line has no valid weight"), ("a" * 32 + "\t-1", "has no valid weight"),
     ("a" * 32 + "\t1\n" + "a" * 32 + "\t2", "1 uids are repeated"), ("# none\n\nb\t1", "list:3: this line is")],
)  # fmt: skip
def test_lists_of_weights_that_are_none(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_weights(text.encode(), "list")
