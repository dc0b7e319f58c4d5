"""`make demo`: the whole flow on a real corpus, in minutes. Prints each `curate` command before running it.

Repeated, it prints the summary again: each step finds its work done.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import click

from jobs.demo import cause, labels

HOME = Path("demo")
PROXY_STEPS = 500
STEPS = 8


def step(number: int, title: str, *arguments: str) -> dict[str, Any]:
    """Run one `curate` command as a step of its own; return its answer."""
    head(number, title)
    return curate(*arguments)


def head(number: int, title: str) -> None:
    """Print the heading of a step."""
    click.secho(f"\n[{number}/{STEPS}] {title}", bold=True)


def curate(*arguments: str) -> dict[str, Any]:
    """Run one `curate` command with --json and return its answer; its progress goes to the terminal."""
    click.echo(f"      curate {' '.join(arguments)}")
    began = time.monotonic()
    command = [sys.executable, "-m", "jobs.cli", *arguments, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    click.echo(f"      done in {time.monotonic() - began:.0f} s")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> None:
    """Build a corpus, train a proxy, curate, verify, train two learners, correct labels, find a cause of failures."""
    began = time.monotonic()
    step(1, "Build a real corpus from icon and emoji packages",
                  "corpus", "openmoji-icons", "--out", f"{HOME}/corpus")  # fmt: skip
    proxy = step(2, "Train a small CLIP model for scoring", "proxy", "train", "--data", f"{HOME}/corpus",
                 "--model", "proxy-mu", "--steps", str(PROXY_STEPS), "--out", f"{HOME}/proxy")  # fmt: skip
    recipe = HOME / "recipe.yaml"
    template = files("jobs").joinpath("recipes/openmoji-icons.yaml").read_text()
    recipe.write_text(template.replace("{sha256}", proxy["sha256"]))
    run = step(3, "Curate: score, decide, write", "run", str(recipe))
    check = step(4, "Verify every count, hash and uid from the raw bytes", "verify", f"{HOME}/curated")
    learn = HOME / "learn.yaml"
    learn.write_text(files("jobs").joinpath("recipes/learnability.yaml").read_text())
    plain = ("selection.selector=uniform", f"output={HOME}/learned/uniform", "compare=null")
    uniform = step(5, "Train a learner on the result, on uniformly drawn samples",
                   "learn", str(learn), *(word for change in plain for word in ("--set", change)))  # fmt: skip
    selected = step(6, "Train it again, on samples that small models find learnable", "learn", str(learn))
    head(7, "Plant wrong labels, rank the doubtful ones, and correct them by the answers of simulated annotators")
    review = labels.clean_labels(HOME / "labels", curate)
    head(8, "Plant a cause of failures, find it by the failures alone, drop it, and train again")
    found = cause.find_cause(HOME / "cause", curate)
    picture = draw()
    more = [*labels.lines(review), *cause.lines(found)]
    summary(proxy, run, check, uniform, selected, more, picture, time.monotonic() - began)


def draw() -> Path:
    """Draw kept and dropped samples; return the path of the picture."""
    import curation as cu
    from jobs.pages.gallery import gallery

    snapshot = cu.open(str(HOME / "curated"))
    path = HOME / f"kept-and-dropped-{snapshot.number}.png"
    if not path.exists():
        gallery(snapshot, path)
    return path


def summary(
    proxy: dict[str, Any], run: dict[str, Any], check: dict[str, Any],
    uniform: dict[str, Any], selected: dict[str, Any], more: Sequence[str], picture: Path, seconds: float,
) -> None:  # fmt: skip
    """Print what was done, on one screen."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    samples = run["samples"]
    table = Table(title=f"\ndemo/curated@{run['snapshot']}: every sample is accounted for", title_justify="left")
    table.add_column("outcome", no_wrap=True)
    table.add_column("samples", justify="right")
    table.add_column("share", justify="right")
    table.add_column("")
    rows = [("seen", samples["seen"]), ("kept", samples["kept"])]
    for outcome in ("filtered", "quarantined"):
        rows += [(f"{outcome}: {reason}", n) for reason, n in samples[outcome].items()]
    for name, n in rows:
        share = n / samples["seen"]
        table.add_row(name, f"{n:,}", f"{share:.1%}", "█" * round(25 * share) or "▏")
    console.print(table)
    five = {key: rate for key, rate in proxy["evaluation"]["retrieval"].items() if key.endswith("5")}
    figures = ", ".join(f"{key} {rate['rate']:.3f} (chance {rate['chance']:.3f})" for key, rate in five.items())
    console.print(f"proxy: {figures}", soft_wrap=True, highlight=False)
    for name, found in (("uniform", uniform), ("learnability", selected)):
        flops = found["flops"]["totals"]["full"] / 1e12
        text = f"learner, {name}: recall@5 {found['quality']:.3f} after {found['steps']} updates, {flops:.2f} TFLOP"
        console.print(text, highlight=False)
    console.print(f"  {paid(selected['against'])}", soft_wrap=True, highlight=False)
    for line in more:
        console.print(line, soft_wrap=True, highlight=False)
    verdict = "no difference" if check["ok"] else "DIFFERENCES"
    console.print(f"verified: {check['samples']:,} samples recomputed from raw bytes, {verdict}")
    console.print(f"\nIn {seconds:.0f} s. Look at:")
    for path, what in (
        (picture, "kept and dropped samples, by reason"),
        (HOME / "corpus" / "CARD.md", "what the corpus contains, its authors and licences"),
        (HOME / "recipe.yaml", "the recipe: change a threshold and `curate run demo/recipe.yaml` again"),
        (HOME / "proxy" / "README.md", "the proxy's model card"),
        (HOME / "learned" / "learnability" / "curves.png", "both learning curves, over updates and over compute"),
        (HOME / "learned" / "learnability" / "metrics.jsonl", "what selection chose, step by step"),
        (HOME / "labels" / "report.html", "the corrected labels, and what the answers were worth"),
        (HOME / "cause" / "report.html", "the failures, and the training samples behind them"),
    ):
        console.print(f"  {path!s:<36} [dim]{what}[/dim]", highlight=False, soft_wrap=True)
    console.print(f"  {'curate show demo/curated':<36} [dim]the snapshot in numbers[/dim]", highlight=False)


def paid(against: dict[str, Any]) -> str:
    """Return a sentence on whether selection paid for itself."""
    if against["updates"] is None:
        return f"selection never reaches the uniform run's {against['target']:.3f}: it did not pay for itself"
    assert against["compute_positive"] is not None, "the demo's reference has a card"
    updates, compute = against["updates_saved"], against["compute_saved"]["full"]
    fewer, less = "fewer" if updates >= 0 else "more", "less" if compute >= 0 else "more"
    return (
        f"selection reaches the uniform run's {against['target']:.3f} with {abs(updates):.0%} {fewer} updates and "
        f"{abs(compute):.0%} {less} compute, including scoring, online model and reference"
    )


if __name__ == "__main__":
    main()
