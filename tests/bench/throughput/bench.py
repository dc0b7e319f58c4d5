"""One measurement after the other: limits, our runs, peers and extras, into `Rounds`."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from bench.measure import CommandError, measure
from bench.throughput import corpora, environments, ours, peers
from bench.throughput.peers import PEERS_BY_NAME, Peer, Setting
from bench.throughput.places import ENV, Place
from bench.throughput.rounds import Rounds
from bench.throughput.workloads import SMALL, Workload

EXECUTORS = ("local", "ray")
LIMIT_SHARDS = max(4, len(os.sched_getaffinity(0)))  # that limits read: a few seconds a stage
TUNING_SHARDS = 2
PATIENCE = 1800.0  # seconds for one run of a peer
CLOSE = 1e-3  # between our scores and a peer's that decodes as we do


@dataclass
class Bench:
    """What is measured where. cache: corpora, weights and environments; work: scratch, deleted by the caller.

    arms: names of executors, peers and `limits`, `extras`, `fixed`. packaged: samples for
    packaged peers, where fewer than the workload's are wanted.
    """

    cache: Path
    work: Path
    rounds: Rounds
    arms: Sequence[str]
    packaged: int
    pythons: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)  # peer -> why it can't be installed
    settings: dict[tuple[str, str], Setting] = field(default_factory=dict)

    @property
    def peers(self) -> list[Peer]:
        return [PEERS_BY_NAME[name] for name in self.arms if name in PEERS_BY_NAME]

    def install(self) -> None:
        """Make the environments of all peers; one that can't be made is reported with the reason."""
        for peer in self.peers:
            try:
                self.pythons[peer.name] = environments.python_of(peer.requirements, self.cache)
            except environments.InstallError as error:
                self.failed[peer.name] = f"not installed: {error}"

    def tune(self, workload: Workload, place: Place) -> None:
        """Choose the fastest setting of each peer on a few shards."""
        for peer in self.peers:
            if peer.name in self.failed:
                continue
            seconds: dict[Setting, float] = {}
            for setting in peer.settings:
                if len(peer.settings) > 1:
                    try:
                        command = self._command(peer, workload, place.first(TUNING_SHARDS), setting)
                        seconds[setting] = measure(command, place.env, PATIENCE).seconds
                    except CommandError as error:
                        _say(f"{workload.name} {peer.name} {'/'.join(setting)}: {error}")
            self.settings[workload.name, peer.name] = min(seconds, key=seconds.__getitem__, default=peer.settings[0])

    def round(self, number: int, workload: Workload, places: Sequence[Place], files: Sequence[Path]) -> None:
        """Measure every arm of one workload once, in another order each round."""
        for place in places if workload.s3 else places[:1]:
            self._limits(number, workload, place)
            turn = [*(name for name in EXECUTORS if name in self.arms), *(peer.name for peer in self.peers)]
            start = number % len(turn) if turn else 0
            for arm in turn[start:] + turn[:start]:
                if arm in EXECUTORS:
                    self._ours(number, workload, place, arm, files)
                else:
                    self._peer(number, workload, place, PEERS_BY_NAME[arm])
            if place.name == "local" and number == 0:
                self._compare(workload)

    def fixed(self, number: int) -> None:
        """Measure a run over two shards of a few icons."""
        if "fixed" not in self.arms:
            return
        folder = Path(mkdtemp(dir=self.work))
        paths = corpora.build(self.cache, SMALL, 2)
        place = Place("local", str(paths[0].parent), tuple(map(str, paths)), ENV)
        made = ours.dataset(SMALL, place, corpora.weights(self.cache, SMALL.model), "local", folder)
        run = made.run()
        self.rounds.note(SMALL.name, "local", "fixed", number, **{"cpu s": run.cpu, "seconds": run.seconds})
        _say(f"fixed cost: {run.seconds:.1f} s, {run.cpu:.1f} CPU s")
        shutil.rmtree(folder)

    def _limits(self, number: int, workload: Workload, place: Place) -> None:
        if "limits" not in self.arms:
            return
        few, weights = place.first(LIMIT_SHARDS), corpora.weights(self.cache, workload.model)
        script = str(Path(__file__).with_name("stages.py"))
        shards = place.listed(self.work / "shards.json", few.keys)
        arguments = [workload.model, str(weights), ours.sha256_of(weights), str(workload.batch), str(workload.forward)]
        said = measure([sys.executable, script, place.root, shards, *arguments], place.env).said
        self.rounds.note(workload.name, place.name, "limits", number, **said)
        rates = ", ".join(f"{name} {said[name]:,.0f}" for name in ("get", "scan", "decode", "forward"))
        _say(f"{workload.name} {place.name} limits: {rates} /s")

    def _ours(self, number: int, workload: Workload, place: Place, executor: str, files: Sequence[Path]) -> None:
        folder = Path(mkdtemp(dir=self.work))
        made = ours.dataset(workload, place, corpora.weights(self.cache, workload.model), executor, folder)
        figures = ours.figures(made.run())
        self._note(workload, place, executor, number, figures)
        if executor == "local" and place.name == "local":
            found = ours.scores(made)
            np.savez(self.work / "ours.npz", keys=list(found), scores=np.array(list(found.values()), np.float32))
            if "extras" in self.arms:
                self.rounds.note(workload.name, "local", "extras", number, **ours.extras(made, list(files)))
        shutil.rmtree(folder)

    def _peer(self, number: int, workload: Workload, place: Place, peer: Peer) -> None:
        error = self.failed.get(peer.name) or self.rounds.error(workload.name, place.name, peer.name)
        if error or (place.name == "s3" and not peer.s3):
            if error and number == 0:
                self.rounds.note(workload.name, place.name, peer.name, number, error=error)
            return
        if peer.packaged:
            place = place.first(workload.shards(min(self.packaged or workload.packaged, workload.packaged)))
        setting = self.settings.get((workload.name, peer.name), peer.settings[0])
        try:
            run = measure(self._command(peer, workload, place, setting), place.env, PATIENCE)
            if "at" not in run.said:
                raise CommandError(f"{peer.script}: it ended without an error and without figures")
        except CommandError as error:
            _say(f"{workload.name} {place.name} {peer.name}: {error}")
            self.rounds.note(workload.name, place.name, peer.name, number, error=str(error))
            return
        at = run.said["at"]
        figures = ours.common(run, run.said["samples"], at["first_batch"], at["scored"])
        self._note(workload, place, peer.name, number, {**figures, "setting": f"{peer.names} {'/'.join(setting)}"})

    def _command(self, peer: Peer, workload: Workload, place: Place, setting: Setting) -> list[str]:
        weights = corpora.weights(self.cache, workload.model)
        python = self.pythons[peer.name]
        return peers.command(peer, python, workload, place, weights, setting, self.work, self.cache)

    def _note(
        self, workload: Workload, place: Place, arm: str, number: int, figures: Mapping[str, float | str]
    ) -> None:  # fmt: skip
        self.rounds.note(workload.name, place.name, arm, number, **figures)
        rates = f"steady {figures['steady']:9,.1f}/s   end to end {figures['end to end']:9,.1f}/s"
        _say(f"{workload.name} {place.name:<5} {arm:<14} {rates}   CPU {figures['cpu']:7.2f} ms")

    def _compare(self, workload: Workload) -> None:
        """Note how far each peer's scores are from ours."""
        if "local" not in self.arms:
            return
        for peer in self.peers:
            path = peers.output(peer, self.work)
            if path.exists() and not self.rounds.error(workload.name, "local", peer.name):
                difference, correlation = agreement(self.work / "ours.npz", path)
                close = float(np.mean(difference < CLOSE))
                self.rounds.note(workload.name, "local", f"agreement {peer.name}", 0, close=close,
                                 median=float(np.median(difference)), correlation=correlation)  # fmt: skip
                how = "" if peer.same_pixels else " (another decoder)"
                _say(f"{workload.name} {peer.name}{how}: {close:.2%} within {CLOSE} of ours, r {correlation:.4f}")
                path.unlink()


def agreement(one: Path, other: Path) -> tuple[np.ndarray, float]:
    """Return the differences between the scores of the samples in both files, and their correlation."""
    tables = []
    for path in (one, other):
        with np.load(path) as found:
            tables.append(dict(zip(found["keys"].tolist(), found["scores"].tolist(), strict=True)))
    shared = sorted(tables[0].keys() & tables[1].keys())
    values = np.array([[table[key] for key in shared] for table in tables])
    return np.abs(values[0] - values[1]), float(np.corrcoef(values)[0, 1])


def _say(line: str) -> None:
    print(f"  {line}", file=sys.stderr, flush=True)
