"""The ratios that the bench is for, each with its bar (issue 23, point 2), and whether it is met."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from bench.throughput.peers import PEERS_BY_NAME
from bench.throughput.rounds import Rounds, Spread, at_size, ratios, spread

STAGES = ("get", "scan", "decode", "forward")
COMPARED = 30_000  # samples of the end-to-end comparison with peers
WITH_START = 50_000  # samples of the end-to-end comparison with the limit
OF_STEADY = {"local": 0.95, "ray": 0.90}
OF_TUNED = {"A": 1.3, "C": 1.3, "C-ti": 1.3, "B": 1.1}
OF_PACKAGED = {"A": 3.0, "C": 3.0, "C-ti": 3.0}


class Ratio(NamedTuple):
    """A figure with its spread over rounds; `bar` is a lower limit, or an upper one where `most` is set."""

    workload: str
    place: str
    title: str
    value: Spread
    bar: float | None = None
    most: bool = False

    @property
    def verdict(self) -> str:
        """`met`, `not met`, or nothing where there is no bar."""
        if self.bar is None:
            return ""
        return "met" if (self.value.middle <= self.bar if self.most else self.value.middle >= self.bar) else "not met"


def all_ratios(rounds: Rounds) -> list[Ratio]:
    """Return the ratios of everything that was measured, in the order of the report."""
    found: list[Ratio] = []
    for workload, place in rounds.pairs():
        for title, values, bar, most in _of(rounds, workload, place):
            if (value := spread(values)) is not None:
                found.append(Ratio(workload, place, title, value, bar, most))
    return found


def limits(rounds: Rounds, workload: str, place: str) -> tuple[dict[int, float], dict[int, float]]:
    """Return two limits by round: the slowest single stage, and what shared cores allow, in samples a second.

    Without a GPU the forward pass and decoding run on the same cores: no pipeline on CPUs exceeds cores divided by the
    CPU seconds that a sample needs in both (decode includes get and scan).
    """
    stages = [rounds.values(workload, place, "limits", stage) for stage in STAGES]
    slowest = {number: min(stage[number] for stage in stages) for number in stages[0]}
    cores = rounds.values(workload, place, "limits", "cores")
    costs = [rounds.values(workload, place, "limits", f"cpu {stage}") for stage in ("decode", "forward")]
    shared = {number: 1e3 * n / sum(cost[number] for cost in costs) for number, n in cores.items()}
    return slowest, shared


def _of(
    rounds: Rounds, workload: str, place: str
) -> Iterator[tuple[str, dict[int, float], float | None, bool]]:  # fmt: skip
    def figure(arm: str, name: str) -> dict[int, float]:
        return rounds.values(workload, place, arm, name)

    def rate(arm: str, samples: int) -> dict[int, float]:
        return at_size({name: figure(arm, name) for name in ("overhead", "steady")}, samples)

    slowest, shared = limits(rounds, workload, place)
    for arm, bar in OF_STEADY.items():
        yield f"{arm}: steady / slowest single stage", ratios(figure(arm, "steady"), slowest), bar, False
        yield f"{arm}: steady / shared-CPU limit", ratios(figure(arm, "steady"), shared), None, False
        yield (f"{arm}: end to end at {WITH_START:,} / slowest single stage",
               ratios(rate(arm, WITH_START), slowest), 0.85 if arm == "local" else None, False)  # fmt: skip
        yield (f"{arm}: end to end at {WITH_START:,} / shared-CPU limit",
               ratios(rate(arm, WITH_START), shared), None, False)  # fmt: skip
    for name, peer in PEERS_BY_NAME.items():
        bar = OF_PACKAGED.get(workload) if peer.packaged else OF_TUNED.get(workload)
        title = f"local / {peer.title}, end to end at {COMPARED:,}"
        yield title, ratios(rate("local", COMPARED), rate(name, COMPARED)), bar, False
        yield f"local / {peer.title}, steady", ratios(figure("local", "steady"), figure(name, "steady")), None, False
        yield f"{peer.title} / local, CPU a sample", ratios(figure(name, "cpu"), figure("local", "cpu")), None, False
    yield "write stage / plain copy", ratios(figure("extras", "copy s"), figure("local", "write s")), 0.85, False
    yield (
        "verify / reading the same files",
        ratios(figure("extras", "read s"), figure("extras", "verify s")),
        0.7,
        False,
    )
    yield "verify / reading and hashing", ratios(figure("extras", "hash s"), figure("extras", "verify s")), None, False
    for title, arm, name, most in (
        ("fixed cost of 2 small shards, CPU s", "fixed", "cpu s", 6.0),
        ("fixed cost of 2 small shards, wall s", "fixed", "seconds", 4.0),
        ("rerun with another threshold, wall s", "extras", "threshold s", 4.0),
        ("run with nothing to do, wall s", "extras", "nothing s", 1.5),
    ):
        yield title, figure(arm, name), most, True
