"""`make bench`: how fast we score, beside the limits of the machine and beside peers, all in one run.

    python tests/bench/scoring.py [--quick] [--only A,B] [--arms local,tuned] [--samples A=8000] [--rounds N] [--no-s3]
    python tests/bench/scoring.py --report RUN.jsonl [--write]

Workloads, limits and peers: `throughput/workloads.py`, `throughput/stages.py`, `throughput/peers.py`. Each measurement
is a process of its own. The rounds are interleaved, and ratios are taken within a round, so that a busy neighbour slows
both sides. Figures of each arm:

- steady: samples a second from the first batch that enters a model until everything is saved (ours: until the score
  tables are committed). A peer's workers have decoded a few batches before that moment, which counts for the peer;
- end to end: samples a second from before the process starts until it is gone. Ours decides, writes shards and creates
  a snapshot in that time; a peer saves scores and vectors.

A run with the default settings replaces the figures of docs/results/throughput.md and its picture. Corpora (1 GB),
weights and the peers' environments (2 GB) are made once, below `--corpus-dir`.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE.parent), str(ROOT)]

from bench import record  # noqa: E402
from bench.throughput import corpora, plot, tables  # noqa: E402
from bench.throughput.bars import all_ratios  # noqa: E402
from bench.throughput.bench import EXECUTORS, Bench  # noqa: E402
from bench.throughput.peers import PEERS_BY_NAME  # noqa: E402
from bench.throughput.places import places  # noqa: E402
from bench.throughput.rounds import Rounds  # noqa: E402
from bench.throughput.workloads import WORKLOADS  # noqa: E402

ARMS = ("limits", *EXECUTORS, *PEERS_BY_NAME, "extras", "fixed")
PICTURE = "throughput.svg"


def main() -> None:
    options = parse()
    if options.report:
        report(
            Rounds.load(*options.report),
            [f"figures: {', '.join(path.name for path in options.report)}"],
            write=options.write,
        )
        return
    began = time.monotonic()
    work = Path(tempfile.mkdtemp(prefix="work-", dir=_made(options.corpus_dir)))
    path = _made(options.corpus_dir / "runs") / f"{time.strftime('%Y%m%d-%H%M%S')}.jsonl"
    print(f"figures: {path}", file=sys.stderr)
    try:
        rounds = run(options, Bench(options.corpus_dir, work, Rounds(path), options.arms, options.packaged_samples))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    report(rounds, record.facts(time.monotonic() - began), write=options.write or options.whole)


def run(options: argparse.Namespace, bench: Bench) -> Rounds:
    """Build what is missing, tune the peers, and measure all rounds."""
    files = {
        name: corpora.build(options.corpus_dir, item, item.shards(options.samples[name]), options.pictures)
        for name, item in options.workloads.items()
    }
    for item in options.workloads.values():
        corpora.weights(options.corpus_dir, item.model)
    bench.install()
    with places(files, s3=options.s3) as where:
        for name, item in options.workloads.items() if options.tune else ():
            bench.tune(item, where[name][0])
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
            bench.fixed(number)
            for name, item in options.workloads.items():
                bench.round(number, item, where[name], files[name])
    return bench.rounds


def report(rounds: Rounds, facts: list[str], *, write: bool) -> None:
    """Print tables and bars; `write`: also into the page, with the picture."""
    ratios = all_ratios(rounds)
    lines: list[str] = [f"![samples a second of every arm]({PICTURE})"]
    for pair in rounds.pairs():
        lines += ["", f"### {tables.title(*pair)}", ""]
        if rounds.arms(*pair) != ["fixed"]:
            lines += [*tables.markdown(tables.arms_table(rounds, *pair)), ""]
        lines += tables.markdown(tables.ratios_table(ratios, *pair))
        lines += tables.agreements(rounds, *pair)
    print(*(f"- {fact}" for fact in facts), *lines[1:], sep="\n")
    missed = [item for item in ratios if item.verdict == "not met"]
    print(f"\n{sum(item.verdict == 'met' for item in ratios)} bars met, {len(missed)} not met")
    if write:
        plot.draw(rounds, record.PAGES / PICTURE)
        record.write("throughput", "scoring", facts, lines)


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """Return the options, with workloads, samples and arms resolved. `whole`: nothing is left out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round over 2,000 samples (B: 128), local disk only")
    parser.add_argument("--only", default=",".join(WORKLOADS), help="workloads, by name (default: %(default)s)")
    parser.add_argument("--arms", default=",".join(ARMS), help="what is measured (default: %(default)s)")
    parser.add_argument("--samples", default="", help="for example A=8000,C=50000: whole shards")
    parser.add_argument("--packaged-samples", type=int, default=0, help="of packaged peers, at most")
    parser.add_argument("--rounds", type=int, help="default: 5")
    parser.add_argument("--s3", action=argparse.BooleanOptionalAction, default=None)
    parser.add_argument(
        "--tune",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="run each peer with all of its settings first, and go on with the fastest (not --quick)",
    )
    parser.add_argument("--corpus-dir", type=Path, help="default: bench/ below the platform's cache folder")
    parser.add_argument("--pictures", type=Path, help="photographs to use as grounds of the pictures")
    parser.add_argument("--report", type=Path, nargs="+", help="print the figures of earlier runs")
    parser.add_argument("--write", action="store_true", help="replace the figures of the page, also with a part")
    options = parser.parse_args(words)
    options.workloads = _chosen(parser, options.only, WORKLOADS)
    options.arms = list(_chosen(parser, options.arms, {name: name for name in ARMS}))
    given = dict(item.split("=", 1) for item in options.samples.split(",") if item)
    options.samples = {
        name: int(given.get(name, item.quick if options.quick else item.samples))
        for name, item in options.workloads.items()
    }
    options.whole = not options.quick and not given and len(options.workloads) == len(WORKLOADS)
    options.whole = options.whole and set(options.arms) == set(ARMS) and (options.rounds or 5) >= 5
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.s3 = not options.quick if options.s3 is None else options.s3
    options.tune = not options.quick if options.tune is None else options.tune
    options.whole = options.whole and options.s3 and options.tune
    options.corpus_dir = (options.corpus_dir or _cache()).absolute()
    return options


def _chosen(parser: argparse.ArgumentParser, names: str, table: dict[str, Any]) -> dict[str, Any]:
    unknown = [name for name in names.split(",") if name not in table]
    if unknown:
        parser.error(f"unknown name {unknown[0]!r}; known: {', '.join(table)}")
    return {name: table[name] for name in table if name in names.split(",")}


def _cache() -> Path:
    from curation.core.cache import cache_folder

    return cache_folder() / "bench"


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what it measures is ended, too
    main()
