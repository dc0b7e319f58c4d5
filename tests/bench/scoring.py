"""`make bench`: how fast we score, beside its limits and beside the loop that a good user writes today.

    python tests/bench/scoring.py [--quick] [--samples N] [--no-s3] [--corpus DIR] [--model NAME --weights FILE]

Reads the demo's shards (`make demo` builds them) and, for S3, a copy in seaweedfs. Each measurement is a process of its
own, and the rounds are interleaved, so that a busy neighbour slows all alike. Two figures for each pipeline:

- end to end: samples / seconds from before the process starts until it is gone;
- steady: samples / seconds from the first batch that enters a model until everything is saved. The time before is
  start-up: imports, Ray and its actors (ours), workers (the loop's), and what they decode before that batch.

Bars: steady >= 0.7 of the slowest limit, and end to end not slower than the loop. A run with the default settings
replaces the figures of docs/results/throughput.md. Takes about 9 minutes on two idle cores (`--quick`: 2).
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE.parent), str(ROOT)]

from bench.measure import Measured, measure  # noqa: E402
from bench.record import facts as common_facts  # noqa: E402
from bench.record import write  # noqa: E402

LOOP_SETTINGS = [(256, 2, 1), (256, 2, 2), (64, 1, 1)]  # (batch, workers, threads) that the loop is tuned over
# Ray runs its workers at nice 15: on a shared machine they would get a smaller share of it than the loop does.
ENV = {"RAY_worker_niceness": "0", "PYTHONPATH": str(ROOT)}


@dataclass
class Place:
    """Shards in one store: the root for us, a URL each for webdataset, and the environment that reaches them."""

    name: str
    root: str
    urls: list[str]
    env: dict[str, str]
    seen: dict[str, list[float]] = field(default_factory=dict)  # figure -> one value a round

    def note(self, **figures: float) -> None:
        for name, value in figures.items():
            self.seen.setdefault(name, []).append(value)

    def mid(self, name: str) -> float:
        return median(self.seen[name])


@dataclass(frozen=True)
class Bench:
    model: str
    weights: Path
    batch: int
    work: Path

    @property
    def sha256(self) -> str:
        return sha256(self.weights.read_bytes()).hexdigest()

    def limits(self, place: Place, shards: int) -> None:
        arguments = [place.root, self.model, str(self.weights), self.sha256, str(shards), str(self.batch)]
        said = measure(_python("limits.py", *arguments), place.env).said
        place.note(scan=said["scan"], decode=said["decode"], forward=said["forward"])

    def ours(self, place: Place) -> None:
        """A run of the scoring pipeline into empty score tables."""
        folder = Path(tempfile.mkdtemp(dir=self.work))
        output = f"{place.root.rpartition('/')[0]}/out-{folder.name}" if "://" in place.root else str(folder / "out")
        scorer = {"model": self.model, "weights": str(self.weights), "sha256": self.sha256}
        keys = [f"{place.root}/{Path(url.partition('?')[0]).name}" for url in place.urls]
        scorers = [{"clip_score": scorer}, {"embedding": scorer}]
        compute = {"batch_size": self.batch}
        recipe = {"corpus": keys, "output": output, "scorers": scorers, "compute": compute}
        (folder / "recipe.yaml").write_text(json.dumps(recipe))
        self._note(place, "ours", measure(_python("pipeline_run.py", str(folder / "recipe.yaml")), place.env))
        shutil.rmtree(folder)

    def loop(self, place: Place, setting: tuple[int, int, int], name: str = "loop", shards: int | None = None) -> None:
        urls = self.work / "urls.json"
        urls.write_text(json.dumps(place.urls[:shards]))
        batch, workers, threads = (str(n) for n in setting)
        out = str(self.work / "loop.npz")
        command = _python("webdataset_loop.py", str(urls), self.model, str(self.weights), batch, workers, threads, out)
        self._note(place, name, measure(command, place.env))

    def _note(self, place: Place, name: str, run: Measured) -> None:
        n, at = run.said["samples"], run.said["at"]
        steady = n / (at["scored"] - at["first_batch"])
        figures = {
            "all": n / run.seconds, "steady": steady, "start": at["first_batch"], "cpu": run.cpu / n * 1e3,
            "rss": run.rss / 1e9, "pss": run.pss / 1e9, "samples": n, **({"ray": at["ray"]} if "ray" in at else {}),
        }  # fmt: skip
        place.note(**{f"{name} {figure}": value for figure, value in figures.items()})
        print(f"  {place.name:<5} {name:<14} {n / run.seconds:7,.0f}/s   steady {steady:7,.0f}/s", file=sys.stderr)

    def tune(self, place: Place) -> tuple[int, int, int]:
        """Return the loop's best setting, by its steady rate over four shards."""
        trials = {setting: f"loop {'/'.join(map(str, setting))}" for setting in LOOP_SETTINGS}
        for setting, name in trials.items():
            self.loop(place, setting, name, shards=4)
        return max(trials, key=lambda setting: place.mid(f"{trials[setting]} steady"))


def _python(script: str, *arguments: str) -> list[str]:
    return [sys.executable, str(HERE / script), *arguments]


@contextmanager
def places(corpus: Path, shards: Sequence[Path], s3: bool) -> Iterator[list[Place]]:
    local = Place("local", str(corpus), [str(path) for path in shards], ENV)
    if not s3:
        yield [local]
        return
    from services import S3Server

    with S3Server() as server:
        client = server.client()
        for path in shards:
            client.upload_file(str(path), server.bucket, f"corpus/{path.name}")
        urls = [  # webdataset opens these through curl
            client.generate_presigned_url(
                "get_object", Params={"Bucket": server.bucket, "Key": f"corpus/{path.name}"}, ExpiresIn=86400
            )
            for path in shards
        ]
        yield [local, Place("s3", f"s3://{server.bucket}/corpus", urls, {**ENV, **server.env})]


def main() -> None:
    options = _options()
    shards = sorted(options.corpus.glob("*.tar"))[: -(-options.samples // 1000)]
    if not shards:
        sys.exit(f"no shards in {options.corpus}: make demo, or curate corpus openmoji-icons --out demo/corpus")
    began = time.monotonic()
    work = Path(tempfile.mkdtemp(prefix="tutelage-bench-"))
    try:
        bench = Bench(options.model, _weights(options, work), options.batch, work)
        with places(options.corpus, shards, options.s3) as where:
            setting = bench.tune(where[0])
            for number in range(options.rounds):
                print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
                for place in where:
                    bench.limits(place, min(4, len(shards)))
                    bench.ours(place)
                    bench.loop(place, setting)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    report(bench, where, setting, options.rounds, time.monotonic() - began, whole=options.s3 and not options.quick)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round over 4,000 samples, local only")
    parser.add_argument("--samples", type=int, help="whole shards of 1,000 (default 20,000)")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--s3", action=argparse.BooleanOptionalAction, default=None)
    parser.add_argument("--corpus", type=Path, default=ROOT / "demo/corpus")
    parser.add_argument("--model", default="proxy-ti")
    parser.add_argument("--weights", type=Path, help="default: the demo's, else random ones")
    parser.add_argument("--batch", type=int, default=256)
    options = parser.parse_args()
    options.samples = options.samples or (4_000 if options.quick else 20_000)
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.s3 = not options.quick if options.s3 is None else options.s3
    options.corpus = options.corpus.absolute()
    return options


def _weights(options: argparse.Namespace, work: Path) -> Path:
    demo = ROOT / "demo/proxy" / f"{options.model}.safetensors"
    if options.weights or demo.exists():
        return (options.weights or demo).absolute()
    from curation.models.dual import load_dual_encoder
    from curation.models.weights import tensors_to_bytes

    path = work / f"{options.model}.safetensors"  # the speed doesn't depend on the weights' values
    path.write_bytes(tensors_to_bytes(load_dual_encoder(options.model, None).module.state_dict(), {}))
    return path


# --- the report -------------------------------------------------------------------------------------------------

ROWS = {
    "scan": "header scan alone, /s", "decode": "scan + decode alone, /s", "forward": "forward pass alone, /s",
    "ours steady": "ours, steady, /s", "ours all": "ours, end to end, /s", "ours start": "ours, start-up, s",
    "ours ray": "  of it until Ray is up, s", "ours cpu": "ours, CPU ms a sample", "ours rss": "ours, peak RSS, GB",
    "ours pss": "ours, peak PSS, GB", "loop steady": "loop, steady, /s", "loop all": "loop, end to end, /s",
    "loop start": "loop, start-up, s", "loop cpu": "loop, CPU ms a sample", "loop rss": "loop, peak RSS, GB",
    "loop pss": "loop, peak PSS, GB",
}  # fmt: skip


def ratios(place: Place) -> dict[str, tuple[float, float | None]]:
    """Ratios of medians, each with its bar."""
    limit = min(place.mid(name) for name in ("scan", "decode", "forward"))
    return {
        "ours steady / slowest limit": (place.mid("ours steady") / limit, 0.7),
        "ours end to end / slowest limit": (place.mid("ours all") / limit, None),
        "ours steady / loop steady": (place.mid("ours steady") / place.mid("loop steady"), 1.0),
        "ours end to end / loop end to end": (place.mid("ours all") / place.mid("loop all"), 1.0),
    }


def table(where: Sequence[Place]) -> list[list[str]]:
    rows = []
    for key, title in ROWS.items():
        cells = []
        for place in where:
            low, middle, high = min(place.seen[key]), place.mid(key), max(place.seen[key])
            digits = 0 if title.endswith("/s") else 2
            cells += [f"{low:,.{digits}f}", f"{middle:,.{digits}f}", f"{high:,.{digits}f}"]
        rows.append([title, *cells])
    for title in ratios(where[0]):
        cells = []
        for place in where:
            ratio, bar = ratios(place)[title]
            verdict = "" if bar is None else f"bar {bar}: {'met' if ratio >= bar else 'MISSED'}"
            cells += ["", f"{ratio:.2f}", verdict]
        rows.append([title, *cells])
    return rows


def report(
    bench: Bench, where: Sequence[Place], setting: tuple[int, int, int], rounds: int, seconds: float, *, whole: bool
) -> None:
    """Print the figures; those of a whole run replace the page's."""
    from rich.console import Console
    from rich.table import Table

    heads = ["", *(f"{place.name} {what}" for place in where for what in ("min", "median", "max"))]
    rows, facts = table(where), _facts(bench, where, setting, rounds, seconds)
    shown = Table(*heads, title="Scoring")
    for row in rows:
        shown.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 130).print(shown, *facts, sep="\n")
    if whole:
        figures = [_line(heads), _line(["---", *("---:" for _ in heads[1:])]), *map(_line, rows)]
        write("throughput", "scoring", facts, figures)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _facts(
    bench: Bench, where: Sequence[Place], setting: tuple[int, int, int], rounds: int, seconds: float
) -> list[str]:
    tried = ", ".join("/".join(map(str, each)) for each in LOOP_SETTINGS)
    return [
        *common_facts(seconds),
        f"{where[0].mid('ours samples'):,.0f} samples, {bench.model} in fp32, batch {bench.batch}, {rounds} rounds",
        f"the loop: batch/workers/threads {'/'.join(map(str, setting))}, the best of {tried}",
    ]


if __name__ == "__main__":
    main()
