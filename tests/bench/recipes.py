"""`make bench-recipes`: which recipes make data better? Real icons with planted noise, every recipe, equal compute.

Each recipe curates the same pool (`bench.planted`) from one scoring. The same small CLIP is then trained for the same
compute on its snapshot, on the pool, and on random parts of the snapshot's size, and judged on a vendor of emoji that
neither the pool nor the proxies have seen. The report also counts which planted samples the recipe dropped.

Everything is cached in the folder under what determines it: stop the bench, resume it, add a line to `recipes`. A run
of all recipes with the default settings replaces the figures of docs/results/recipes.md.

    python tests/bench/recipes.py                        all recipes, 3 seeds: an hour on two cores
    python tests/bench/recipes.py --recipes "no filter; negCLIPLoss 30 %" --seeds 5
    python tests/bench/recipes.py --pool 2000 --steps 20 --seeds 2 --no-record     a quick check that it runs
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"
sys.path[:0] = [str(Path(__file__).parents[at]) for at in (1, 2)]  # the root, or tests/curation would shadow ours

import pyarrow.parquet as pq  # noqa: E402
import yaml  # noqa: E402
from bench import planted  # noqa: E402
from bench.lists import listed, write_list  # noqa: E402
from bench.online import data  # noqa: E402
from bench.record import facts, write  # noqa: E402

import curation as cu  # noqa: E402
from curation.core.cache import cache_folder  # noqa: E402
from curation.core.digest import digest  # noqa: E402
from curation.core.intervals import Difference, Estimate  # noqa: E402
from curation.dataset.snapshot import Snapshot  # noqa: E402
from curation.learners.training import Training  # noqa: E402
from curation.recipes.curation_recipe import load_recipe  # noqa: E402

CACHE = cache_folder()
POOL = 46_000  # the emoji of the pool's vendors (12,000), and other icons

Filters = list[dict[str, Any]]


def top(score: str, fraction: float) -> dict[str, Any]:
    """Keep the samples with the highest scores."""
    return {"top_fraction": {"score": score, "fraction": fraction}}


def recipes(names: dict[str, str], entries: dict[str, str], evaluation: str) -> dict[str, Filters]:
    """The compared recipes: name -> filters, which may use the scores of `scorers`.

    `names` and `entries`: files of phrases, for text-based filtering and for MetaCLIP's balancing; `evaluation`: a
    snapshot of the held-out vendor. DataComp's rules on English and on sizes are left out, since icons' names are too
    short to identify a language and all pictures have one size. So is T-MARS: no icon shows its caption.
    """
    basic: dict[str, Any] = {"caption": {"min_words": 2, "min_chars": 5, "max_repetition": 0.5}}
    near: dict[str, Any] = {"near_duplicates": {"prefer": "clip_score"}}
    by_text: dict[str, Any] = {"mentions": names}
    by_image: dict[str, Any] = {"threshold": {"name": "near_target", "score": "cluster.near_target", "min": 1}}
    return {
        "no filter": [],
        # duplicates
        "exact duplicates": [{"exact_duplicates": {}}],
        "near duplicates": [near],
        "semantic duplicates": [{"semantic_duplicates": {"prefer": "clip_score"}}],
        "decontaminated": [{"decontaminate": {"against": evaluation, "hash": "phash"}}],
        # DataComp's baselines
        "basic": [basic],
        "clip score 30 %": [top("clip_score", 0.3)],
        "text-based": [by_text],
        "image-based": [by_image],
        "image-based, clip score 30 %": [top("clip_score", 0.3), by_image],
        # published after them
        "DFN 30 %": [top("dfn", 0.3)],
        "negCLIPLoss 30 %": [top("negclip_loss", 0.3)],
        "NormSim 30 %": [top("norm_sim", 0.3)],
        "negCLIPLoss 60 %, NormSim 50 %": [top("negclip_loss", 0.6), top("norm_sim", 0.5)],
        "learnability 30 %": [top("learnability", 0.3)],
        # balancing
        "MetaCLIP": [{"metaclip_balance": {**entries, "t": 50}}],
        "cluster balance": [{"cluster_balance": {"column": "cluster.cluster", "most": 50, "prefer": "clip_score"}}],
        "soft cap": [{"soft_cap": {"column": "cluster.cluster", "cap": 25, "weights": False}}],
        "soft-cap sampling, DFN": [{"soft_cap_sampling": {"score": "dfn", "gain": 20.0}}],
        # combinations
        "clip score 60 %": [top("clip_score", 0.6)],
        "near duplicates, negCLIPLoss 30 %": [near, top("negclip_loss", 0.3)],
        "either near the target or negCLIPLoss 15 %": [{"any": {"of": [by_image, top("negclip_loss", 0.15)]}}],
    }


NAMES = tuple(recipes({}, {}, ""))


class Made(NamedTuple):
    """What all recipes share, prepared once."""

    pool: Path
    held_out: Path
    truth: Path
    scorers: list[dict[str, Any]]
    names: dict[str, str]  # a file of the trusted pairs' captions
    entries: dict[str, str]  # a file of these captions and of their words

    @property
    def home(self) -> Path:
        return self.pool.parent


def main(arguments: Sequence[str] | None = None) -> str:
    """Run what is not cached, and report; returns the report."""
    options = _options(arguments)
    names = [name.strip() for name in options.recipes.split(";")] if options.recipes else NAMES
    if unknown := [name for name in names if name not in NAMES]:
        raise SystemExit(f"unknown recipe {unknown[0]!r}; recipes: {'; '.join(NAMES)}")
    began = time.monotonic()
    from actors.ray_cluster import ray_cluster

    with ray_cluster():
        made = prepare(options)
        held_out = curated([], made.held_out, made)
        filters = recipes(made.names, made.entries, f"{held_out.store.url}@{held_out.number}")
        snapshots = {name: curated(filters[name], made.pool, made) for name in names}
        documents = judged(snapshots, made, options)
    if not documents:
        kept = max(one.document["samples"]["kept"] for one in snapshots.values())
        raise SystemExit(f"no recipe keeps a batch: {kept:,} samples at most, and --batch is {options.batch:,}")
    text = report(snapshots, documents, made)
    print(text)
    if not (options.no_record or options.recipes or options.pool != POOL):
        write("recipes", "recipes", facts(time.monotonic() - began), text.splitlines())
    return text


def prepare(options: argparse.Namespace) -> Made:
    """Write the pool with its plants and the held-out and trusted pairs as shards; train the proxies that score."""
    counts = planted.Counts(*(min(count, options.pool // 8) for count in planted.Counts()[:3]))
    edition = digest([data.EDITION["pairs"], planted.EDITION, options.pool, counts])[:12]
    folder = options.folder / edition
    pool, held_out, truth = folder / "pool", folder / "held-out", folder / "truth.parquet"
    if not truth.exists():
        load = data.load("pairs", "test", options.cache)
        planted.write_shards(planted.plain(load.held_out), held_out)
        planted.write_shards(planted.plain(load.trusted), folder / "trusted")
        names = set(load.trusted.captions)
        write_list(folder / "names.txt", sorted(names))
        write_list(folder / "entries.txt", sorted(names | {word for name in names for word in name.split()}))
        part = load.pool.take(list(range(min(options.pool, len(load.pool)))))
        pq.write_table(planted.write_pool(part, counts, pool), truth)  # last: it shows that all is written
    lists = (listed(folder / f"{name}.txt") for name in ("names", "entries"))
    return Made(pool, held_out, truth, scorers(folder, options), *lists)


def scorers(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All scorers that a recipe can use: with a proxy of the trusted pairs, with one of the pool, or with no model."""
    from curation.curating.vectors import write_clusters, write_vectors

    training = Training(steps=options.proxy_steps, batch=options.proxy_batch)
    trusted, pool = (_proxy(folder, name, training) for name in ("trusted", "pool"))
    network = _proxy(folder, "trusted", training, against="pool")
    vectors = {name: write_vectors(data=f"{folder}/{name}", samples=4096, out=f"{folder}/vectors", **trusted)
               for name in ("trusted", "pool")}  # fmt: skip
    against, target = vectors["pool"], vectors["trusted"]
    centres = write_clusters(data=f"{folder}/pool", clusters=options.clusters, samples=None, of="image", seed=0,
                             out=f"{folder}/vectors", **trusted)  # fmt: skip
    wanted = {"target": target["url"], "target_sha256": target["sha256"]}
    return [
        {"clip_score": trusted},
        {"embedding": trusted},
        {"negclip_loss": {**trusted, "against": against["url"], "against_sha256": against["sha256"]}},
        {"norm_sim": {**trusted, **wanted}},
        {"cluster": {**trusted, "centres": centres["url"], "centres_sha256": centres["sha256"], **wanted}},
        {"dfn": network},
        {"learnability": {**pool, "reference": trusted}},
        {"phash": {}},
    ]


def _proxy(folder: Path, name: str, training: Training, against: str | None = None) -> dict[str, Any]:
    """Train a small model on these shards; with `against`, a data filtering network. Returns a scorer's fields."""
    from curation.evaluation.job import TrainingJob
    from curation.evaluation.training import run

    job = TrainingJob(data=f"{folder}/{name}", pool=f"{folder}/{against}" if against else None, model="proxy-mu",
              out=f"{folder}/proxy-{name}" + (f"-against-{against}" if against else ""),
              training=training, holdout=0.0, device="cpu", threads=1)  # fmt: skip
    card = run(job)
    return {"model": card["model"], "weights": card["weights"], "sha256": card["sha256"]}


def curated(filters: Filters, corpus: Path, made: Made) -> Snapshot:
    """Curate with these filters; all recipes share one scoring."""
    from curation.curating.pipeline import pipeline
    from jobs.commands.run import run_steps

    root = made.home
    recipe: dict[str, Any] = {"corpus": str(corpus), "scores": f"{root}/scores", "scorers": made.scorers}
    recipe["filters"] = filters
    name = digest(recipe)[:16]
    recipe["output"] = f"{root}/curated/{name}"
    path = root / f"recipe-{name}.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    with pipeline(load_recipe(path)) as work:
        run_steps(work, None)
    return cu.open(recipe["output"])


def judged(snapshots: Mapping[str, Snapshot], made: Made, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Evaluate every snapshot that keeps at least a batch of samples."""
    from curation.core.local_executor import LocalExecutor
    from curation.core.progress import progress
    from curation.evaluation.evaluate import attach_evaluation, missing, run_trials
    from curation.evaluation.protocol import EvaluationProtocol, plan
    from curation.evaluation.trials import pin

    protocol = EvaluationProtocol(
        held_out=pin(str(made.held_out), 0.0), model=options.model, seeds=options.seeds,
        training=Training(steps=options.steps, batch=options.batch), runs=str(made.home / "runs"),
    )  # fmt: skip
    plans = {
        name: plan(f"{one.store.url}@{one.number}", protocol, ("raw", "random"))
        for name, one in snapshots.items()
        if one.document["samples"]["kept"] >= options.batch
    }
    todo = missing([one for one in plans.values() if one.attached() is None])
    if todo:
        with progress("Training and judging", len(todo), "models") as tick:
            run_trials(todo, LocalExecutor(), options.jobs, tick)
    return {name: one.attached() or attach_evaluation(one, protocol) for name, one in plans.items()}


def report(snapshots: Mapping[str, Snapshot], documents: Mapping[str, dict[str, Any]], made: Made) -> str:
    """One table: what each recipe is worth and which planted samples it found; then which recipes are better."""
    one = next(iter(documents.values()))
    runs = one["arms"]["curated"]["runs"]
    truth = pq.read_table(made.truth).to_pylist()
    share = {name: _percent(sum(map(wrong, truth)), len(truth)) for name, wrong in WRONG.items()}
    lines = [
        f"{len(truth):,} samples; {len(runs)} seeds of {one['protocol']['model']}, {runs[0]['samples_seen']:,} samples "
        f"seen and {runs[0]['flops'] / 1e12:.2f} TFLOP each; {one['held_out']['samples']:,} held-out pairs; means and "
        "95 % intervals over seeds, differences paired by seed",
        "",
        "| recipe | kept | recall@1 | recall@5 | zero-shot | recall@5 - pool | recall@5 - random part "
        + "".join(f"| found: {kind} " for kind in planted.KINDS)
        + "".join(f"| dropped: {name} ({share[name]} of all) " for name in WRONG)
        + "|",
        "|---|" + "---:|" * (6 + len(planted.KINDS) + len(WRONG)),
    ]
    for name, snapshot in snapshots.items():
        cells = [f"{snapshot.document['samples']['kept']:,}"]
        if name in documents:
            means = documents[name]["arms"]["curated"]["mean"]
            cells += [str(Estimate(**means[metric])) if metric in means else "" for metric in METRICS]
            cells += [_difference(documents[name], arm) for arm in ("raw", "random")]
        else:
            cells += ["less than a batch", "", "", "", ""]
        lines.append(f"| {name} | {' | '.join([*cells, *found(snapshot, truth)])} |")
    return "\n".join([*lines, "", *_verdicts(documents)])


METRICS = ("recall@1", "recall@5", "zero_shot")
Truth = Mapping[str, Any]
#: Which dropped samples were rightly dropped, by filters against copies and by filters against mismatches. These are
#: lower bounds: pairs that are alike or mismatched by nature are unknown, except for equal pixels.
WRONG = {
    "copies": lambda row: row["same"],
    "mismatched": lambda row: row["kind"] in ("swapped", "recaptioned"),
}


def found(snapshot: Snapshot, truth: Sequence[Truth]) -> list[str]:
    """Recall for each kind of plant: the share that was dropped (for a copy: it or its original). Then precision: the
    share of the dropped samples that show the same picture as another one, and the share that is mismatched."""
    rows = snapshot.manifest.query("SELECT key FROM manifest WHERE decision <> 'kept'", ["key", "decision"])
    dropped = set(rows.column("key").to_pylist())
    cells = []
    for kind in planted.KINDS:
        plants = [row for row in truth if row["kind"] == kind]
        copies = kind in ("exact", "altered")
        hits = sum(row["key"] in dropped or (copies and row["original"] in dropped) for row in plants)
        cells.append(_percent(hits, len(plants)))
    gone = [row for row in truth if row["key"] in dropped]
    return cells + [_percent(sum(map(wrong, gone)), len(gone)) for wrong in WRONG.values()]


def _difference(document: Mapping[str, Any], arm: str) -> str:
    value = document["minus"][arm]["recall@5"]
    one = Difference(value["mean"], value["half"], value["paired"])
    return f"{one} {one.word}"


def _verdicts(documents: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Two lines: the recipes that beat both the pool and random parts at recall@5, and the others."""

    def beats(document: Mapping[str, Any]) -> bool:
        return all(document["minus"][arm]["recall@5"]["word"] == "better" for arm in ("raw", "random"))

    better = [name for name, document in documents.items() if beats(document)]
    others = [name for name in documents if name not in better]
    return [
        f"Better than the pool and than random parts of their size, at recall@5: {', '.join(better) or 'none'}.",
        f"Not shown to be: {', '.join(others) or 'none'}.",
    ]


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", help=f"of: {'; '.join(NAMES)}")
    parser.add_argument("--pool", type=int, default=POOL, help="samples before anything is planted")
    parser.add_argument("--model", default="proxy-mu")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--clusters", type=int, default=500, help="number of clusters of the pool's pictures")
    parser.add_argument("--proxy-steps", type=int, default=400, help="training steps of the models that score")
    parser.add_argument("--proxy-batch", type=int, default=128)
    parser.add_argument("--jobs", type=int, help="models trained at once (default: one a core)")
    parser.add_argument("--no-record", action="store_true", help="leave the page of results as it is")
    parser.add_argument("--cache", type=Path, default=CACHE / "bench-online", help="the icons (default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=CACHE / "bench-recipes", help="the rest (default: %(default)s)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
