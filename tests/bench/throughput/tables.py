"""Tables of the report: one a workload and place with every arm, and one of ratios with their bars."""

from __future__ import annotations

from collections.abc import Sequence

from bench.throughput.bars import COMPARED, STAGES, Ratio, limits
from bench.throughput.peers import PEERS_BY_NAME
from bench.throughput.rounds import Rounds, Spread, at_size, spread
from bench.throughput.workloads import WORKLOADS

ARMS = {"local": "curate run, local", "ray": "curate run, Ray"} | {n: p.title for n, p in PEERS_BY_NAME.items()}
FIGURES = {"steady": "steady /s", "end to end": "end to end /s", "": f"at {COMPARED:,} /s", "cpu": "CPU ms a sample",
           "start-up": "start-up s", "pss": "peak PSS GB"}  # fmt: skip


def arms_table(rounds: Rounds, workload: str, place: str) -> list[list[str]]:
    """Return the rows of one workload: heads, limits, arms; a failed arm has its reason in one cell."""
    rows = [["arm", *FIGURES.values(), "samples", "settings"]]
    slowest, shared = limits(rounds, workload, place)
    for stage in STAGES:
        rows.append(_limit(f"limit: {stage}", rounds.spread(workload, place, "limits", stage)))
    rows.append(_limit("limit: slowest single stage", spread(slowest)))
    rows.append(_limit("limit: cores shared by decode and forward", spread(shared)))
    for arm in (name for name in ARMS if name in rounds.arms(workload, place)):
        if error := rounds.error(workload, place, arm):
            rows.append([ARMS[arm], f"did not run: {first_line(error)}", *[""] * (len(FIGURES) + 1)])
            continue
        cells = []
        for figure in FIGURES:
            found = (
                rounds.spread(workload, place, arm, figure)
                if figure
                else spread(_compared(rounds, workload, place, arm))
            )
            cells.append(shown(found))
        row = next(row for row in rounds.rows if (row["workload"], row["place"], row["arm"]) == (workload, place, arm))
        rows.append([ARMS[arm], *cells, f"{row['samples']:,.0f}", str(row.get("setting", ""))])
    return rows


def ratios_table(ratios: Sequence[Ratio], workload: str, place: str) -> list[list[str]]:
    """Return the rows of one workload's ratios."""
    rows = [["ratio or figure", "median", "min", "max", "bar", ""]]
    for item in ratios:
        if (item.workload, item.place) == (workload, place):
            bar = "" if item.bar is None else f"{'at most' if item.most else 'at least'} {item.bar:g}"
            rows.append([item.title, *(f"{value:.2f}" for value in item.value), bar, item.verdict])
    return rows


def agreements(rounds: Rounds, workload: str, place: str) -> list[str]:
    """Return a line about each peer whose scores were compared with ours."""
    lines = []
    for arm in rounds.arms(workload, place):
        if arm.startswith("agreement "):
            peer = PEERS_BY_NAME[arm.removeprefix("agreement ")]
            close, correlation = (
                min(rounds.values(workload, place, arm, name).values()) for name in ("close", "correlation")
            )
            how = "the same decoding as ours" if peer.same_pixels else "its own decoding"
            lines.append(
                f"- scores of {peer.title} ({how}): {close:.2%} within 0.001 of ours, correlation {correlation:.4f}"
            )
    return ["", *lines] if lines else []


def title(workload: str, place: str) -> str:
    """Return the heading of a workload's tables."""
    return f"{workload}, {place}: {WORKLOADS[workload].title}" if workload in WORKLOADS else workload


def markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table; the first row holds the heads."""
    heads, *rest = rows
    lines = [heads, ["---", *("---:" for _ in heads[1:])], *rest]
    return [f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines]


def shown(value: Spread | None) -> str:
    """Return `median (min-max)`, with as many digits as the size needs."""
    if value is None:
        return "-"
    digits = 0 if value.middle >= 100 else 1 if value.middle >= 10 else 2
    middle, low, high = (f"{number:,.{digits}f}" for number in value)
    return middle if low == high else f"{middle} ({low}-{high})"


def first_line(error: str) -> str:
    """Return the line of an error that says most: the last one that names an exception, else the first."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    named = [line for line in lines if "Error" in line.partition(":")[0] and " " not in line.partition(":")[0]]
    return (named[-1] if named else lines[0])[:200] if lines else "no message"


def _limit(name: str, value: Spread | None) -> list[str]:
    return [name, shown(value), *[""] * (len(FIGURES) + 1)]


def _compared(rounds: Rounds, workload: str, place: str, arm: str) -> dict[int, float]:
    figures = {name: rounds.values(workload, place, arm, name) for name in ("overhead", "steady")}
    return at_size(figures, COMPARED)
