"""A small finished dataset with everything that a snapshot can name, made in this process without Ray."""

from __future__ import annotations

from pathlib import Path

import yaml
from builders import write_corpus, write_weights
from running import curate

import curation as cu

UNITS = ["00000.tar", "00001.tar", "00002.tar", "90000.tar", "90001.tar"]


def make(root: Path) -> Path:
    """Three snapshots below `root/out`, the last with lists, weights and matches; returns the recipe of the last.

    The corpus has every flaw of `builders`; the index, a struct, a hash, a number and a vector are scored.
    """
    write_corpus(root / "corpus", 3, 24)
    sha = write_weights(root / "w.safetensors")
    model = {"model": "proxy-mu", "weights": str(root / "w.safetensors"), "sha256": sha}
    write_corpus(root / "held", 1, 8, flaws=False)
    base = {"shards": {"samples": 20}, "compute": {"batch_size": 64}, "limits": {"max_quarantined": 1.0}}
    held = root / "held.yaml"
    held.write_text(yaml.safe_dump({**base, "corpus": str(root / "held"), "output": str(root / "eval"),
                                    "scorers": [{"phash": {}}], "filters": []}))  # fmt: skip
    curate(held)
    recipe = root / "recipe.yaml"
    scorers = [{"clip_score": model}, {"embedding": model}, {"phash": {}}, {"image_stats": {}}]
    document = {**base, "corpus": str(root / "corpus"), "output": str(root / "out"), "scorers": scorers}
    for fraction in (0.9, 0.8):
        filters = [{"caption": {"min_words": 2}}, {"top_fraction": {"score": "clip_score", "fraction": fraction}}]
        recipe.write_text(yaml.safe_dump({**document, "filters": filters}))
        curate(recipe)
    _lists(root)
    filters = [{"caption": {"min_words": 2}}, {"decontaminate": {"against": [str(root / "eval@1")], "hash": "phash"}},
               {"top_fraction": {"score": "clip_score", "fraction": 0.9}}]  # fmt: skip
    lists = {name: str(root / f"{name}.txt") for name in ("keep", "drop", "weights")}
    recipe.write_text(yaml.safe_dump({**document, "filters": filters, **lists}))
    curate(recipe)
    _evaluation(root)
    return recipe


def _lists(root: Path) -> None:
    """One sample to drop, one to keep whatever filters say, and weights for the others."""
    rows = cu.open(str(root / "out")).manifest.to_arrow(["uid", "decision"]).to_pylist()
    kept = [row["uid"] for row in rows if row["decision"] == "kept"]
    filtered = [row["uid"] for row in rows if row["decision"] == "filtered"]
    (root / "drop.txt").write_text(f"{kept[0]}\n")
    (root / "keep.txt").write_text(f"{filtered[0]}\n")
    lines = (f"{uid}\t{1 + n % 3 / 2}\n" for n, uid in enumerate([*kept, filtered[0]]))
    (root / "weights.txt").write_text("".join(lines))


def _evaluation(root: Path) -> None:
    """An evaluation as `curate evaluate` attaches it, with figures of models that were never trained."""
    from curation.dataset import evaluations

    runs = {
        arm: [
            {
                "run": f"{arm}-{seed}",
                "seed": seed,
                "recall@1": 0.2 + seed / 10 + n / 20,
                "seconds": 1.0,
                "samples_seen": 9,
                "flops": 1e9,
            }
            for seed in (0, 1)
        ]
        for n, arm in enumerate(("curated", "raw"))
    }
    figures = {arm: evaluations.by_seed(rows) for arm, rows in runs.items()}
    arms = {arm: {"samples": 9, "runs": rows, "mean": evaluations.means(figures[arm])} for arm, rows in runs.items()}
    minus, intervals = evaluations.minus(figures)
    document = {
        "snapshot": 3,
        "identity": "e" * 64,
        "protocol": {"model": "proxy-mu", "training": {"steps": 1, "batch": 9, "lr": 0.1}},
        "held_out": {"url": "held", "share": 0.0, "samples": 8},
        "arms": arms,
        "minus": minus,
        "intervals": intervals,
        "overlap": {"kept": 0},
        "weighted": False,
    }
    evaluations.attach(cu.open(str(root / "out")).store, 3, "e" * 64, document)
