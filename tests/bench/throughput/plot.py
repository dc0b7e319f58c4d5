"""The picture beside the tables: a panel a workload, a bar an arm, whiskers for the rounds, lines for the limits."""

from __future__ import annotations

from pathlib import Path

from bench.throughput.bars import limits
from bench.throughput.rounds import Rounds, spread
from bench.throughput.tables import ARMS, title

COLOURS = {"steady": "#1f6f8b", "end to end": "#99b8c4"}


def draw(rounds: Rounds, path: Path) -> None:
    """Write an SVG whose bytes depend on the figures and matplotlib's version alone."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "tutelage"
    pairs = [pair for pair in rounds.pairs() if "local" in rounds.arms(*pair)]
    heights = [len(_drawn(rounds, *pair)) * 0.45 + 1.0 for pair in pairs]
    figure = Figure(figsize=(9, sum(heights)), layout="constrained")
    for axes, pair in zip(
        figure.subplots(len(pairs), 1, squeeze=False, height_ratios=heights)[:, 0], pairs, strict=True
    ):
        _panel(axes, rounds, *pair)
    figure.savefig(path, format="svg", metadata={"Date": None})
    path.write_text("".join(f"{line.rstrip()}\n" for line in path.read_text().splitlines()))


def _panel(axes: object, rounds: Rounds, workload: str, place: str) -> None:
    arms = _drawn(rounds, workload, place)
    for offset, figure in zip((-0.2, 0.2), COLOURS, strict=True):
        for row, arm in enumerate(arms):
            value = rounds.spread(workload, place, arm, figure)
            if value is not None:
                error = [[value.middle - value.low], [value.high - value.middle]]
                label = figure if row == 0 else None
                axes.barh(row + offset, value.middle, 0.38, xerr=error, color=COLOURS[figure], label=label,  # type: ignore[attr-defined]
                          error_kw={"elinewidth": 1})  # fmt: skip
    names = ("slowest single stage", "cores shared by decode and forward")
    for name, style, values in zip(names, ("-", "--"), limits(rounds, workload, place), strict=True):
        if (value := spread(values)) is not None:
            axes.axvline(value.middle, color="#b03a2e", linestyle=style, linewidth=1.2, label=f"limit: {name}")  # type: ignore[attr-defined]
    axes.set_yticks(range(len(arms)), [ARMS[arm] for arm in arms])  # type: ignore[attr-defined]
    axes.invert_yaxis()  # type: ignore[attr-defined]
    axes.set_title(title(workload, place), loc="left", fontsize=10)  # type: ignore[attr-defined]
    axes.set_xlabel("samples a second")  # type: ignore[attr-defined]
    axes.legend(fontsize=7, loc="lower right")  # type: ignore[attr-defined]


def _drawn(rounds: Rounds, workload: str, place: str) -> list[str]:
    tried = rounds.arms(workload, place)
    return [arm for arm in ARMS if arm in tried and rounds.values(workload, place, arm, "steady")]
